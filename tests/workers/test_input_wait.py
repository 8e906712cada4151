"""Records wait for those of another input that is not caught up, up to a limit (semantics.md section 1, "several inputs")."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest

from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.topics.topic import Topic
from millstream.workers import events as ev
from millstream.workers import instructions as do
from millstream.workers.app import App
from millstream.workers.input_wait import InputWait, TaskInputs
from millstream.workers.worker import Worker
from tests.workers.machine import RULES, World, fetch, working

LIMIT_MS = 200

# inputs with records | inputs behind | worked on now | waiting
CASES = """
a     |       | a     |
a     | b     |       | a
a b   | b     | a b   |
a b   | a b   | a b   |
b     | b     | b     |
a     | a b   |       | a
a x   | b     | x     | a
x     | b     | x     |
a     | b y   |       | a
"""


@pytest.mark.parametrize("line", CASES.strip().splitlines())
def test_a_task_waits_for_what_it_knows_to_be_there(line: str) -> None:
    """`a` and `b` are inputs of one task, `x` and `y` of another."""
    there, behind, now, waiting = ({*part.split()} for part in line.split("|"))
    waits = InputWait(LIMIT_MS, _tasks(behind))
    free, held = waits.split([fetch(0, topic=name) for name in sorted(there)], 1_000)
    expected = (now, waiting) if "y" not in behind or "x" not in there else (now - {"x"}, waiting | {"x"})
    assert ({one.partition.topic for one in free}, {one.partition.topic for one in held}) == expected


def _tasks(behind: set[str]) -> tuple[TaskInputs, ...]:
    pairs = ({"a", "b"}, {"x", "y"})
    return tuple(
        TaskInputs(
            frozenset(Partition(name, 0) for name in pair), frozenset(Partition(name, 0) for name in pair & behind)
        )
        for pair in pairs
        if pair & behind
    )


def test_no_longer_than_the_limit_and_then_not_again_before_it_had_records() -> None:
    """A broker that is out of reach slows nothing down but once."""
    waits, records = InputWait(LIMIT_MS, _tasks({"b"})), [fetch(0, topic="a")]
    assert waits.split(records, 1_000) == ([], records)
    assert waits.split(records, 1_000 + LIMIT_MS - 1) == ([], records)
    assert waits.split(records, 1_000 + LIMIT_MS) == (records, [])
    assert waits.split(records, 1_000 + LIMIT_MS) == (records, [])
    waits.arrived([fetch(0, topic="b")])
    assert waits.split(records, 2_000) == ([], records)


def test_only_what_is_waited_for_is_read_meanwhile() -> None:
    world = _waiting()
    shard = world.coordinator.shards[0]
    assert not shard.wants(Partition("in", 0))
    assert shard.wants(Partition("other", 0))
    world.tell(ev.Fetched([fetch(0, topic="other")]))
    assert {given.partition.topic for given in _given(world)} == {"in", "other"}


def test_a_rebalance_and_a_failure_forget_what_waits() -> None:
    """It is read again, from the position of the task."""
    for leave in (ev.Revoked(), None):
        world = _waiting()
        if leave is not None:
            world.tell(leave, ev.Assigned(frozenset({0}), 2))
        else:
            world.tell(ev.Tick(60))
            world.fail(0, "retry")
        world.settle()
        assert world.coordinator.shards[0].fetches == []


def test_without_a_limit_nothing_waits() -> None:
    """Negative control of the tests above."""
    world = _waiting(limit_ms=0)
    assert {given.partition.topic for given in _given(world)} == {"in"}


def _waiting(limit_ms: int = LIMIT_MS) -> World:
    world = working(replace(RULES, wait_for_inputs_ms=limit_ms), frozenset())
    world.behind = {0}
    world.tell(ev.Assigned(frozenset({0}), 1))
    world.settle()
    world.tell(ev.Fetched([fetch(0)]))
    return world


def _given(world: World) -> list[Any]:
    instruction = world.under_way[0]
    assert isinstance(instruction, do.Process)
    return list(instruction.fetches)


async def _order(wait_ms: int, older: str) -> list[int]:
    """Times in the order in which they are given, of two inputs merged; a poll brings records of one of them only."""
    broker = MemoryBroker()
    await broker.start()
    producer = broker.producer()
    await producer.start()
    for name in ("one", "two"):
        await broker.create_topics([TopicSpec(name, 1)])
        first = 0 if name == older else 10
        stamps = np.arange(first, first + 10)
        values = [orjson.dumps({"at": at}) for at in stamps.tolist()]
        await (await producer.send(Partition(name, 0), Records(None, large_binary(values), stamps)))
    app = App("merged", wait_for_inputs_ms=wait_ms, poll_records_max=10, commit_interval="20ms")
    one, two = (app.stream(_topic(app, name)) for name in ("one", "two"))
    one.merge(two).to("out")
    async with asyncio.timeout(30):
        await Worker(app, broker).run(until_end=True)
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition("out", 0): 0})
    given: list[int] = []
    while len(given) < 20:
        for part in await reader.poll(timeout_ms=1_000, records_max=100):
            given += [orjson.loads(value)["at"] for value in part.values if value is not None]
    return given


def _topic(app: App, name: str) -> Topic:
    return app.topic(name, {"at": "timestamp_ms"}, event_time="at", partitions=1)


def _is_in_order(times: list[int]) -> bool:
    return all(earlier <= later for earlier, later in pairwise(times))


@pytest.mark.parametrize("older", ["one", "two"])
async def test_the_oldest_record_is_taken_first_whichever_input_was_fetched_first(older: str) -> None:
    assert _is_in_order(await _order(5_000, older))


async def test_negative_control_without_waiting_it_is_chance() -> None:
    """Which of the two is fetched first changes from run to run."""
    for _ in range(30):
        if not _is_in_order(await _order(0, "one")):
            return
    raise AssertionError("in thirty runs the older input was always fetched first")
