"""The harness itself: a run is the same every time, a killed process does nothing more, and every operator is crashed."""

from __future__ import annotations

import asyncio
import gc

import pytest

from millstream.topics.arrow_buffers import large_binary
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.errors import AmbiguousError, BrokerUnavailableError
from millstream.topics.memory import MemoryBroker
from millstream.workers.graph import Work
from tests.crashes.case import Case
from tests.crashes.disks import MemoryDisk
from tests.crashes.pipelines import BY_NAME, CASES
from tests.crashes.process import WITH_NEXT_BATCH, Connection, Killed, Process
from tests.crashes.virtual_time import LoopClock, run_virtually
from tests.crashes.world import Faulty, Scenario, bounded, commits, run, shared, stopped
from tests.shape.tree import ROOT


def _names(folder: str) -> set[str]:
    return {path.stem for path in (ROOT / folder).glob("*.py") if not path.name.startswith("_")}


def test_every_operator_and_reducer_is_in_a_pipeline_that_is_crashed() -> None:
    """A new one fails here until a pipeline of `tests/crashes` has it."""
    steps = [node.step for case in CASES for node in case.app().graph if isinstance(node, Work)]
    reducers = {reducer.name for step in steps for _, reducer in getattr(step, "aggregates", ())}
    assert _names("workers/operators") - {step.kind for step in steps} == set()
    assert _names("rag/operators") - {step.kind for step in steps} == set()
    assert _names("workers/reducers") - reducers == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_batches_are_computed_while_commits_are_under_way(case: Case) -> None:
    """So that a crash at every point of a run is also one at every point of that."""
    points = [point.what for point in run(case, bounded).processes[0].points]
    assert any(what.endswith(WITH_NEXT_BATCH) for what in points)


@pytest.mark.parametrize("scenario", [bounded, shared])
def test_a_run_is_the_same_every_time(scenario: Scenario) -> None:
    """So that the n-th point of one run is the n-th of the next."""
    first, again = (run(BY_NAME["windows, chained"], scenario) for _ in range(2))
    assert [process.points for process in first.processes] == [process.points for process in again.processes]
    assert first.outputs() == again.outputs()


@pytest.mark.parametrize("scenario", [stopped, shared])
def test_a_scenario_goes_on_where_one_commit_was_all_there_was_to_do(scenario: Scenario) -> None:
    """What was lost with the commit before is done again, all at once."""
    at_once = {"poll_records_max": 100, "commit_interval": "100ms"}
    lost = Faulty(settings=at_once, prepare=lambda broker: broker.faults.lose("send_offsets", 2, "before"))
    world = run(BY_NAME["contradictions"], scenario, lost)
    assert (commits(world.processes[0]), world.judged()) == (1, [])


def test_time_passes_without_being_waited_for() -> None:
    async def wait() -> float:
        begun = asyncio.get_running_loop().time()
        await MemoryBroker(clock=LoopClock()).clock.wait(asyncio.get_running_loop().create_future(), 100_000)
        return asyncio.get_running_loop().time() - begun

    assert run_virtually(wait()) == pytest.approx(100)


def test_a_run_in_which_nothing_can_happen_any_more_is_an_error() -> None:
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        run_virtually(hang())


def test_nothing_of_a_killed_process_reaches_the_broker_or_the_disk() -> None:
    """Not what it had queued, not what it still tries; its transaction stays open."""

    async def die() -> None:
        broker = MemoryBroker(clock=LoopClock())
        await broker.create_topics([TopicSpec("a", 1)])
        process = Process("one", "one", Connection(broker), MemoryDisk())
        database = process.databases.open("task/0")
        producer = process.connection.producer(transactional_id="t")
        await producer.start()
        await producer.begin()
        await (await producer.send(Partition("a", 0), Records(None, large_binary([b"sent"]))))
        queued = await producer.send(Partition("a", 0), Records(None, large_binary([b"queued"])))
        process.kill()
        with pytest.raises(BrokerUnavailableError):
            await queued
        with pytest.raises(AmbiguousError):
            await producer.abort()
        with pytest.raises(Killed):
            database.write({}, {"offset": b"1"})
        reader = broker.reader(isolation="read_uncommitted")
        await reader.start()
        assert await reader.end_offsets([Partition("a", 0)]) == {Partition("a", 0): 1}
        committed = broker.reader()
        await committed.start()
        assert await committed.end_offsets([Partition("a", 0)]) == {Partition("a", 0): 0}

    run_virtually(die())


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_worker_that_is_killed_before_its_loops_have_begun_leaves_nothing_behind() -> None:
    """No coroutine that nobody ever awaits: Python tells of those when they are collected."""
    case = BY_NAME["calls"]
    points = run(case, bounded).processes[0].points
    joined = next(at for at, p in enumerate(points) if (p.what, p.when) == ("partitions assigned", "before"))
    for at in range(joined - 2, joined + 3):
        run(case, bounded, Faulty(kills={0: at}))
    gc.collect()


def test_a_process_is_killed_where_it_was_told_to_be() -> None:
    case = BY_NAME["rows"]
    points = run(case, bounded).processes[0].points
    world = run(case, bounded, Faulty(kills={0: 100}))
    assert world.processes[0].points == points[:101]
    assert [process.dead for process in world.processes] == [True, False]
