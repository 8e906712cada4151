"""Tables on a real Kafka: joined, grouped and read while one worker becomes two and the first one goes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.errors import NotHereError
from millstream.workers.reducers.collect import Collect
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.min import Min
from millstream.workers.reducers.sum import Sum
from tests.oracles import tables as oracle
from tests.polling import until
from tests.scenarios.records import Change, newest, produce, read, worker_on

PARTITIONS = 3
USER_PARTITIONS = 2
ORDERS, USERS, CHANGES = 120, 12, 1_500


def _orders(rng: random.Random) -> list[Change]:
    keys = [f"o{rng.randrange(ORDERS)}" for _ in range(CHANGES)]
    return [
        (key, None if rng.random() < 0.2 else {"id": key, "ref": f"u{rng.randrange(USERS)}", "n": rng.randrange(100)})
        for key in keys
    ]


def _users(rng: random.Random) -> list[Change]:
    keys = [f"u{rng.randrange(USERS)}" for _ in range(CHANGES // 10)]
    return [(key, None if rng.random() < 0.2 else {"id": key, "r": rng.randrange(100)}) for key in keys]


def _app(name: str, instance: str) -> App:
    app = App(name, commit_interval="20ms", checkpoint_interval_ms=100, poll_records_max=50, instance_id=instance)
    orders = app.table(
        app.topic(f"{name}.orders", {"id": "string", "ref": "string", "n": "int"}, key="id", partitions=PARTITIONS)
    )
    # One partition less: the plan has to bring the two together.
    users = app.table(app.topic(f"{name}.users", {"id": "string", "r": "int"}, key="id", partitions=USER_PARTITIONS))
    orders.join(users, on="ref", how="left").to(app.topic(f"{name}.joined", key="id", partitions=PARTITIONS))
    groups = orders.group_by("ref").agg(count=Count(), total=Sum("n"), least=Min("n"), all=Collect("n"))
    groups.materialized("groups").to(app.topic(f"{name}.groups", key="ref", partitions=PARTITIONS))
    clicks = app.stream(app.topic(f"{name}.clicks", {"id": "int", "country": "string"}, partitions=PARTITIONS))
    countries = app.global_table(app.topic(f"{name}.countries", {"country": "string", "name": "string"}, key="country"))
    clicks.join(countries, how="left").to(app.topic(f"{name}.named", partitions=PARTITIONS))
    return app


@pytest.mark.kafka
async def test_tables_are_right_whoever_keeps_them(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> None:
    """Half of the input with one worker; a second comes, the first goes, and the other half with who is left."""
    name = unique("tables")
    rng = random.Random(7)
    orders, users = _orders(rng), _users(rng)
    broker = KafkaBroker({"bootstrap.servers": kafka})
    await broker.start()
    await produce(broker, f"{name}.countries", [(c, {"country": c, "name": c.upper()}) for c in ("de", "fr")], 3)
    clicks: list[Change] = [(str(n), {"id": n, "country": ("de", "fr", "es")[n % 3]}) for n in range(300)]
    await produce(broker, f"{name}.clicks", clicks, PARTITIONS)

    async def half(first: int) -> None:
        for topic, changes, count in (
            (f"{name}.orders", orders, PARTITIONS),
            (f"{name}.users", users, USER_PARTITIONS),
        ):
            middle = len(changes) // 2
            await produce(broker, topic, changes[middle:] if first else changes[:middle], count)

    def expected(part: float) -> tuple[dict[str, oracle.Row], dict[str, oracle.Row]]:
        left = newest(orders[: round(len(orders) * part)])
        right = newest(users[: round(len(users) * part)])
        return oracle.foreign_key_join(left, right, "left"), oracle.grouped(left, "ref")

    async def there(part: float) -> bool:
        joined, groups = expected(part)
        found = newest(await read(broker, f"{name}.groups", PARTITIONS))
        return (
            newest(await read(broker, f"{name}.joined", PARTITIONS)) == joined
            and {key: {**row, "all": sorted(row["all"])} for key, row in found.items()} == groups
        )

    apps = [_app(name, instance) for instance in ("one", "two")]
    workers = [worker_on(kafka, app, tmp_path / str(number)) for number, app in enumerate(apps)]
    await half(0)
    running = [asyncio.create_task(workers[0].run())]
    await until(lambda: there(0.5))
    groups = apps[0].table("groups")
    for key, row in expected(0.5)[1].items():
        found = await asyncio.to_thread(groups.get, key)
        assert found is not None
        assert {**found, "all": sorted(found["all"])} == row
    running.append(asyncio.create_task(workers[1].run()))

    async def shared() -> bool:
        return all(worker.ready for worker in workers) and 0 < len(groups.elsewhere()) < PARTITIONS

    await until(shared)
    with pytest.raises(NotHereError):
        groups.get_many(list(expected(0.5)[1]))
    workers[0].stop(leave=True)
    await running[0]
    await half(1)
    await until(lambda: there(1.0))
    named = [row["name"] for _, row in await read(broker, f"{name}.named", PARTITIONS) if row is not None]
    assert sorted(map(str, named)) == sorted(["DE"] * 100 + ["FR"] * 100 + ["None"] * 100)
    workers[1].stop()
    await running[1]
    await broker.stop()
