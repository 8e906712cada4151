"""Functions of users that are awaited, and functions of frames: limits, retries, order, and what becomes of rows that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import orjson
import polars as pl
import pytest

from millstream import App, Driver, run_batch
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.workers.attempts import CallLimits, waits
from millstream.workers.errors import PlanError, UserFunctionError
from millstream.workers.stream import Stream
from millstream.workers.worker import Worker

Row = dict[str, Any]
SCHEMA = {"id": "int", "user": "string"}
ROWS = [{"id": n, "user": f"user-{n}"} for n in range(6)]
FAST: Mapping[str, Any] = {"retries_max": 0, "timeout": "1s"}


def _run(build: Callable[[Stream], Stream], rows: list[Row] = ROWS) -> Driver:
    app = App("shop")
    build(app.stream(app.topic("in", SCHEMA, dead_letters="dead"))).to("out")
    driver = Driver(app)
    driver.send("in", rows)
    driver.commit()
    return driver


def _dead(driver: Driver) -> list[tuple[Row, str]]:
    return [
        (orjson.loads(record.value or b"null"), (dict(record.headers)["__dead_letter.reason"] or b"").decode())
        for record in driver.records("dead")
    ]


async def _asked(row: Row) -> Row:
    for _ in range(10 - row["id"]):
        await asyncio.sleep(0)
    if row["id"] == 3:
        raise LookupError("nobody knows three")
    return {**row, "user": row["user"].upper()}


def test_results_come_in_the_order_of_the_rows_and_what_fails_is_a_dead_letter() -> None:
    driver = _run(lambda stream: stream.map(_asked, **FAST))
    assert driver.rows("out") == [{"id": n, "user": f"USER-{n}"} for n in range(6) if n != 3]
    ((row, reason),) = _dead(driver)
    assert row == ROWS[3]
    assert reason.startswith("_asked raised LookupError: nobody knows three (line ")
    assert reason.endswith(" in _asked)")


def test_a_result_that_does_not_fit_is_a_dead_letter() -> None:
    async def wrong(row: Row) -> Row:
        return {"id": "one" if row["id"] == 1 else row["id"], "user": None}

    driver = _run(lambda stream: stream.map(wrong, **FAST))
    assert [row["id"] for row in driver.rows("out")] == [0, 2, 3, 4, 5]
    ((_, reason),) = _dead(driver)
    assert reason.endswith("wrong gave 'one' for column 'id', expected Int64")


def test_flat_map_takes_what_is_returned_and_what_is_yielded() -> None:
    async def returned(row: Row) -> list[Row]:
        return [row] * (row["id"] % 3)

    async def yielded(row: Row) -> AsyncIterator[Row]:
        for _ in range(row["id"] % 3):
            yield row
            if row["id"] == 4:
                raise ValueError("in the middle")

    expected = [n for n in range(6) for _ in range(n % 3)]
    driver = _run(lambda stream: stream.flat_map(returned, **FAST))
    assert [row["id"] for row in driver.rows("out")] == expected
    driver = _run(lambda stream: stream.flat_map(yielded, **FAST))
    assert [row["id"] for row in driver.rows("out")] == [n for n in expected if n != 4]
    assert [row["id"] for row, _ in _dead(driver)] == [4]


def test_filter_keeps_what_the_answer_is_true_for() -> None:
    async def even(row: Row) -> bool:
        return bool(row["id"] % 2 == 0)

    assert [row["id"] for row in _run(lambda stream: stream.filter(even)).rows("out")] == [0, 2, 4]


def test_what_fails_is_tried_again_with_a_fresh_row() -> None:
    tries: list[Row] = []

    async def third_time(row: Row) -> Row:
        tries.append(dict(row))
        row["user"] = "spoilt"
        if len(tries) < 3:
            raise ConnectionError("refused")
        return {**row, "user": "came"}

    driver = _run(lambda stream: stream.map(third_time, retries_max=2, retry_backoff="1ms"), ROWS[:1])
    assert driver.rows("out") == [{"id": 0, "user": "came"}]
    assert tries == [ROWS[0]] * 3


def test_a_row_that_fails_every_time_is_a_dead_letter_that_says_how_often() -> None:
    async def never(row: Row) -> Row:
        raise ConnectionError("refused")

    driver = _run(lambda stream: stream.map(never, retries_max=2, retry_backoff="1ms"), ROWS[:1])
    ((_, reason),) = _dead(driver)
    assert reason.endswith("; 3 attempts")


def test_what_takes_too_long_is_given_up() -> None:
    async def forever(row: Row) -> Row:
        await asyncio.Event().wait()
        return row

    driver = _run(lambda stream: stream.map(forever, retries_max=0, timeout="1ms"), ROWS[:1])
    assert [reason.split(".")[-1] for _, reason in _dead(driver)] == ["forever gave nothing in 1ms"]


def test_a_function_that_cancels_itself_costs_only_its_row() -> None:
    async def cancels(row: Row) -> Row:
        raise asyncio.CancelledError("me")

    driver = _run(lambda stream: stream.map(cancels, retries_max=0), ROWS[:1])
    assert [reason.split(".")[-1] for _, reason in _dead(driver)] == ["cancels was cancelled by itself: me"]


def test_pauses_double_up_to_a_limit() -> None:
    limits = CallLimits(retry_backoff_ms=100)
    assert [limits.pause_ms(retry) for retry in (0, 1, 2, 8, 9, 1_000)] == [100, 200, 400, 25_600, 30_000, 30_000]


class _Client:
    async def __call__(self, row: Row) -> Row:
        return row

    async def ask(self, row: Row, _question: str = "") -> Row:
        return row


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_asked, True),
        (_Client(), True),
        (_Client().ask, True),
        (partial(_Client().ask, _question="what"), True),
        (dict, False),
        (lambda row: row, False),
    ],
)
def test_which_functions_wait(function: Callable[..., Any], expected: bool) -> None:
    assert waits(function) is expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency_max": 0}, "concurrency_max must be at least 1"),
        ({"timeout": "0s"}, "timeout must be longer than 0"),
        ({"retries_max": -1}, "retries_max must not be negative"),
        ({"retry_backoff": "-1s"}, "retry_backoff must not be negative"),
    ],
)
def test_limits_that_are_none(options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        _run(lambda stream: stream.map(_asked, **options))


@pytest.mark.parametrize("method", ["map", "flat_map", "filter"])
def test_limits_are_for_functions_that_wait(method: str) -> None:
    with pytest.raises(PlanError, match=f"{method}: timeout, retries_max is for functions that wait"):
        _run(lambda stream: getattr(stream, method)(lambda row: row, timeout="1s", retries_max=2))


async def test_calls_run_beside_each_other_within_the_limit() -> None:
    """In a worker: never more than `concurrency_max` at once, as many as that at some time, and results in order."""
    under_way, most, as_many = 0, 0, asyncio.Event()

    async def slow(row: Row) -> Row:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 5:
            as_many.set()
        await as_many.wait()  # the first ones: till five are there
        for _ in range(row["id"] * 7 % 20):
            await asyncio.sleep(0)
        under_way -= 1
        return row

    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("in", 1)])
    producer = broker.producer()
    await producer.start()
    rows = [orjson.dumps({"id": n, "user": "ada"}) for n in range(200)]
    await (await producer.send(Partition("in", 0), Records(None, large_binary(rows))))
    app = App("shop", commit_interval="5ms")
    source = app.topic("in", SCHEMA, partitions=1)
    app.stream(source).map(slow, concurrency_max=5).to(app.topic("out", partitions=1))
    async with asyncio.timeout(30):
        await Worker(app, broker).run(until_end=True)
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition("out", 0): 0})
    found = [fetch.values for fetch in await reader.poll(timeout_ms=1_000, records_max=1_000)]
    assert [orjson.loads(value)["id"] for values in found for value in values if value] == list(range(200))
    assert most == 5


def test_bounded_runs_await_too() -> None:
    app = App("shop")
    app.stream(app.topic("in", SCHEMA, event_time="id")).map(_asked, **FAST).to("out")
    given = run_batch(app, {"in": pl.DataFrame(ROWS)})["out"]
    assert given.to_dicts() == [{"id": n, "user": f"USER-{n}"} for n in range(6) if n != 3]


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_the_policy_of_the_topic_holds(policy: str) -> None:
    app = App("shop")
    app.stream(app.topic("in", SCHEMA, on_bad_record=policy)).map(_asked, **FAST).to("out")
    driver = Driver(app)
    if policy == "fail":
        with pytest.raises(UserFunctionError, match="nobody knows three"):
            driver.send("in", ROWS)
        return
    driver.send("in", ROWS)
    driver.commit()
    assert [row["id"] for row in driver.rows("out")] == [0, 1, 2, 4, 5]
    assert driver.instrument.total("rejected_records") == 1


def test_state_may_not_stand_before_a_function_that_waits() -> None:
    """Its rows are read again after a crash."""
    with pytest.raises(PlanError, match="keeps state or waits itself"):
        _run(lambda stream: stream.deduplicate(by="id", within="1s").map(_asked))


# -- functions of frames


def _numbered(frame: pl.DataFrame) -> pl.DataFrame:
    if (frame["id"] == 3).any():
        raise ValueError("three")
    return frame.select("id", twice=pl.col("id") * 2)


def test_map_batches_is_given_frames_and_only_bad_rows_are_dead_letters() -> None:
    driver = _run(lambda stream: stream.map_batches(_numbered, schema={"id": "int", "twice": "float"}))
    assert driver.rows("out") == [{"id": n, "twice": 2.0 * n} for n in range(6) if n != 3]
    ((row, reason),) = _dead(driver)
    assert row == ROWS[3]
    assert reason.startswith("_numbered raised ValueError: three (line ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda frame: frame.head(0), "gave 0 rows for 1"),
        (lambda frame: frame.select("id"), "gave no column 'user', only id"),
        (lambda frame: frame["id"], "gave Series, expected a polars DataFrame"),
        (lambda frame: frame.with_columns(id=pl.lit("one")), "gave what does not fit the schema: "),
    ],
)
def test_what_a_function_of_frames_may_not_give(given: Callable[[pl.DataFrame], Any], said: str) -> None:
    driver = _run(lambda stream: stream.map_batches(given), ROWS[:1])
    ((_, reason),) = _dead(driver)
    assert said in reason
    assert driver.rows("out") == []


def test_event_times_stay_what_they_were() -> None:
    """The time of a row is not a column that the function could lose."""
    app = App("shop")
    source = app.topic("in", {"id": "int", "ts": "timestamp_ms"}, event_time="ts")
    app.stream(source).map_batches(lambda frame: frame.select("id"), schema={"id": "int"}).to("out")
    driver = Driver(app)
    driver.send("in", [{"id": 1, "ts": 1_234}])
    driver.commit()
    assert [record.timestamp for record in driver.records("out")] == [1_234]


def test_a_generator_that_raises_is_named() -> None:
    def twice(row: Row) -> Any:
        yield row
        if row["id"] == 2:
            raise ValueError("in the middle")

    driver = _run(lambda stream: stream.flat_map(twice))
    assert [row["id"] for row in driver.rows("out")] == [0, 1, 3, 4, 5]
    ((_, reason),) = _dead(driver)
    assert "twice raised ValueError: in the middle (line " in reason
