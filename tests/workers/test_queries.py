"""A table can be read from the running app: by key, by range, as it is now, and what is elsewhere is said to be so."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream import App, Driver, count, sum_
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.workers.errors import NotHereError, PlanError
from millstream.workers.operators.aggregate import AggregateOperator
from millstream.workers.worker import Worker
from tests.polling import until

PAIRS = [("a", "b"), ("c", "d"), ("a", "b"), ("a", "d"), ("é", "f")]
ORDERS = {"user": "string", "city": "string", "n": "int"}


def shop(**options: Any) -> App:
    app = App("shop", **options)
    orders = app.stream(app.topic("orders", ORDERS, key="user", partitions=2))
    orders.group_by("user").agg(n=count(), total=sum_("n")).to("totals")
    orders.to_table("city", "user", name="latest")
    return app


def order(user: str, city: str = "x", n: int = 1) -> dict[str, Any]:
    return {"user": user, "city": city, "n": n}


def filled() -> App:
    app = shop()
    driver = Driver(app)
    driver.send("orders", [order(user, city, n) for n, (user, city) in enumerate(PAIRS)])
    driver.commit()
    return app


def test_by_key() -> None:
    """Under the name of the topic it is written to, and of the step that keeps it."""
    app = filled()
    totals = app.table("totals")
    assert totals.get("a") == {"user": "a", "n": 3, "total": 5}
    assert totals.get("é") == {"user": "é", "n": 1, "total": 4}
    assert totals.get("nobody") is None
    assert totals.get_many(["c", "nobody", "a", "c"]) == [
        {"user": "c", "n": 1, "total": 1},
        None,
        {"user": "a", "n": 3, "total": 5},
        {"user": "c", "n": 1, "total": 1},
    ]
    assert app.table("aggregate-1").get("a") == totals.get("a")


def test_by_a_key_of_several_columns() -> None:
    latest = filled().table("latest")
    assert latest.key == ("city", "user")
    assert latest.get(("b", "a")) == {"user": "a", "city": "b", "n": 2}
    assert latest.get(("b", "c")) is None


def test_by_range() -> None:
    """Start included, stop excluded, ascending; a bound that is left out is none."""
    app = filled()
    users = app.table("totals")
    assert users.range()["user"].to_list() == ["a", "c", "é"]
    assert users.range("a", "c")["user"].to_list() == ["a"]
    assert users.range("b")["user"].to_list() == ["c", "é"]
    assert users.range(stop="é", rows_max=1)["user"].to_list() == ["a"]
    pairs = app.table("latest")
    assert pairs.range(("b", "b"), ("d", "b")).select("city", "user").rows() == [("d", "a")]


ROWS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), max_size=12)


@settings(deadline=None, max_examples=60)
@given(
    ROWS,
    st.none() | st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    st.none() | st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
)
def test_a_range_is_that_of_sorted_keys(rows: list[tuple[int, int]], start: Any, stop: Any) -> None:
    app = App("t")
    app.stream(app.topic("in", {"a": "int", "b": "int"})).group_by("a", "b").agg(n=count()).to("out")
    driver = Driver(app, partitions={"in": 2})
    for partition in range(2):
        driver.send("in", [{"a": a, "b": b} for a, b in rows[partition::2]], partition=partition)
    driver.commit()
    found = app.table("out").range(start, stop).rows()
    wanted = [one for one in sorted(set(rows)) if (start is None or one >= start) and (stop is None or one < stop)]
    assert found == [(*one, rows.count(one)) for one in wanted]


def test_asking_leaves_nothing_behind() -> None:
    """However many keys are asked for that are not there, the store does not grow."""
    app = filled()
    totals = app.table("totals")
    totals.get_many([f"nobody-{number}" for number in range(1_000)])
    assert totals.range().height == 3
    operators, _ = app.tables.running[0].read("aggregate-1", lambda _, operator: operator)
    assert [one.state._codes.size < 10 for one in operators if isinstance(one, AggregateOperator)] == [True, True]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda app: app.table("nothing"), "keeps no table 'nothing'.*aggregate-1, totals, latest"),
        (lambda app: app.table("totals").get(None), "cannot be null"),
        (lambda app: app.table("totals").get(7), "keys are .user: String., got .7."),
        (lambda app: app.table("latest").get("b"), "expected 2 values a key"),
        (lambda app: app.table("totals").range(7), "keys are"),
    ],
)
def test_what_cannot_be_answered_says_why(ask: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        ask(filled())


def test_an_app_that_does_not_run_has_nothing_to_read() -> None:
    totals = shop().table("totals")
    with pytest.raises(NotHereError, match="does not run in this process"):
        totals.get("a")


def test_a_sum_beyond_64_bits_is_null() -> None:
    app = App("t")
    app.stream(app.topic("in", ORDERS, key="user")).group_by("user").agg(total=sum_("n")).to("out")
    driver = Driver(app)
    driver.send("in", [order("a", n=2**63 - 1), order("a", n=2**63 - 1)])
    assert app.table("out").get("a") == {"user": "a", "total": None}


# -- workers


async def send(broker: MemoryBroker, partition: int, users: list[str]) -> None:
    producer = broker.producer()
    await producer.start()
    values = [orjson.dumps(order(user)) for user in users]
    records = Records(large_binary([user.encode() for user in users]), large_binary(values))
    await (await producer.send(Partition("orders", partition), records))
    await producer.stop()


async def test_a_worker_answers_for_the_partitions_it_owns() -> None:
    """One worker knows all; of two each knows its own, and says of the others that they are elsewhere."""
    broker = MemoryBroker()
    await broker.create_topics([TopicSpec("orders", 2)])
    apps = [shop(instance_id=name, commit_interval="20ms") for name in ("one", "two")]
    workers = [Worker(app, broker) for app in apps]
    first, second = (app.table("totals") for app in apps)
    running = [asyncio.create_task(workers[0].run())]
    with pytest.raises(NotHereError, match="does not run in this process"):
        first.get("a0")
    for partition in range(2):
        await send(broker, partition, [f"a{partition}", f"a{partition}", f"b{partition}"])

    async def all_here() -> bool:
        return workers[0].ready and first.range()["n"].to_list() == [2, 2, 1, 1] and not first.elsewhere()

    await until(all_here)
    assert first.get("a1") == {"user": "a1", "n": 2, "total": 2}
    running.append(asyncio.create_task(workers[1].run()))

    async def shared() -> bool:
        return all(worker.ready for worker in workers) and len(first.elsewhere()) == len(second.elsewhere()) == 1

    await until(shared)
    (gone,) = first.elsewhere()
    assert first.range()["user"].to_list() == [f"a{1 - gone}", f"b{1 - gone}"]
    with pytest.raises(NotHereError, match=f"another worker of 'shop' owns .*{gone}"):
        first.get(f"a{gone}")
    assert second.get(f"a{gone}") == {"user": f"a{gone}", "n": 2, "total": 2}
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
    assert apps[0].tables.running == []


async def test_a_table_is_read_while_rows_come() -> None:
    """From another thread, again and again: never a row that is half there."""
    broker = MemoryBroker()
    await broker.create_topics([TopicSpec("orders", 2)])
    app = shop(instance_id="one", commit_interval="5ms", poll_records_max=50)
    worker = Worker(app, broker)
    running = asyncio.create_task(worker.run())
    totals = app.table("totals")

    async def ready() -> bool:
        return worker.ready

    await until(ready)
    seen: list[int] = []

    def read() -> None:
        row = totals.get("a")
        if row is not None:
            assert row["n"] == row["total"]
            seen.append(row["n"])

    for _ in range(30):
        await asyncio.gather(send(broker, 0, ["a"] * 40), *(asyncio.to_thread(read) for _ in range(3)))

    async def all_counted() -> bool:
        return (totals.get("a") or {}).get("n") == 1_200

    await until(all_counted)
    assert seen
    worker.stop()
    await running
