"""The worker's life as a state machine: whatever happens in whatever order, its invariants hold and it comes to rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from millstream.workers import events as ev
from millstream.workers import instructions as do
from millstream.workers.coordinator import Life
from millstream.workers.errors import InvariantError
from millstream.workers.phase import Phase
from millstream.workers.shard import ShardRules
from tests.workers.machine import RULES, World, fetch, working


def phase_of(world: World) -> Phase:
    return world.coordinator.shards[0].phase


def test_a_shard_is_taken_in_the_one_right_order() -> None:
    """The producer is initialised before offsets are read; only then is state restored."""
    world = World()
    world.tell(ev.Assigned(frozenset({0}), 1))
    world.settle()
    assert world.performed[:4] == ["StartProducer", "ReadPositions", "Restore", "Resume"]


def test_a_commit_under_exactly_once_is_one_transaction() -> None:
    """Outputs, then all acknowledgements, then the offsets, then the commit; the database comes last."""
    world = working()
    world.performed.clear()
    world.tell(ev.Fetched([fetch(0)]))
    world.settle()
    world.tell(ev.Tick(10))
    world.settle()
    world.tell(ev.Tick(500))
    world.settle()
    wanted = [
        "Process",
        "SendOutbox",
        "Prepare",
        "SendOutbox",
        "AwaitAcknowledgements",
        "SendOffsets",
        "CommitTransaction",
    ]
    assert [name for name in world.performed if name != "WriteCheckpoint"][:7] == wanted
    assert world.performed.index("WriteCheckpoint") > world.performed.index("CommitTransaction")


def test_a_transaction_is_begun_once() -> None:
    world = working()
    begins = []
    world.tell(ev.Fetched([fetch(0)]))
    for now_ms in (10, 20, 30, 500):
        while world.under_way:
            instruction = world.under_way[0]
            if isinstance(instruction, do.SendOutbox):
                begins.append(instruction.begin)
            world.answer(0)
        world.tell(ev.Fetched([fetch(0)]), ev.Tick(now_ms))
    assert begins[0] is True
    assert not any(begins[1:3])


def test_at_least_once_commits_offsets_after_the_acknowledgements() -> None:
    world = working(replace(RULES, exactly_once=False))
    world.performed.clear()
    world.tell(ev.Fetched([fetch(0)]))
    world.settle()
    world.tell(ev.Tick(500))
    world.settle()
    assert world.performed.index("AwaitAcknowledgements") < world.performed.index("CommitOffsets")
    assert "SendOffsets" not in world.performed
    assert "CommitTransaction" not in world.performed


# -- the next batch, while a commit waits for the broker


@pytest.mark.parametrize("exactly_once", [True, False])
def test_the_next_batch_is_computed_while_a_commit_waits_and_sent_after_it(exactly_once: bool) -> None:
    world = acknowledging(replace(RULES, exactly_once=exactly_once))
    world.tell(ev.Fetched([fetch(0, rows=7)]))
    world.answer(0)
    step = world.under_way[0]
    assert isinstance(step, do.CommitStep)
    assert [len(given) for given in step.ahead] == [7]
    world.performed.clear()
    world.tell(ev.Tick(1_200))
    world.settle()
    assert "SendOutbox" not in world.performed[: world.performed.index("Process")], "not before the commit is through"
    world.tell(ev.Tick(1_300))
    world.settle()
    assert world.performed.count(type(step).__name__) == 2, "it has a commit of its own, an interval after it was begun"


def test_a_batch_that_stopped_in_the_middle_is_gone_on_with_before_a_commit() -> None:
    """What it gave is sent, then the rest is made, however overdue the commit is; other records wait."""
    world = working()
    world.halves = {0}
    world.performed.clear()
    world.tell(ev.Fetched([fetch(0)]))
    world.answer(0)
    world.tell(ev.Tick(10_000), ev.Fetched([fetch(0, rows=7)]))
    world.settle()
    assert world.performed[:5] == ["Process", "SendOutbox", "Process", "Prepare", "SendOutbox"]


def test_nor_is_anything_computed_ahead_while_the_last_batch_ahead_is_half_done() -> None:
    world = acknowledging()
    world.halves = {0}
    world.tell(ev.Fetched([fetch(0)]))
    world.answer(0)
    world.tell(ev.Fetched([fetch(0, rows=7)]))
    world.answer(0)
    under_way = [world.under_way[0]]
    world.answer(0)
    under_way.append(world.under_way[0])
    epoch = under_way[0].epoch
    assert under_way == [do.CommitTransaction(0, epoch), do.Process(0, epoch)]


def test_a_halt_waits_for_the_rest_of_a_batch() -> None:
    world = working()
    world.halves = {0}
    world.tell(ev.Fetched([fetch(0)]))
    world.tell(ev.Revoked())
    world.performed.clear()
    world.settle()
    assert world.performed[:4] == ["Process", "SendOutbox", "Process", "Prepare"]
    assert world.said[-1] == "LetRebalance"


def test_nothing_is_computed_ahead_of_a_commit_that_ends_in_a_checkpoint() -> None:
    """The database gets the state as it is then: it must be the committed one."""
    world = acknowledging(checkpoint=True)
    world.tell(ev.Fetched([fetch(0)]))
    while isinstance(step := world.under_way[0], do.CommitStep):
        assert not step.ahead
        world.answer(0)
    assert isinstance(step, do.WriteCheckpoint)
    world.answer(0)
    assert isinstance(world.under_way[0], do.Process)
    assert world.under_way[0].fetches


def test_what_was_computed_ahead_of_a_commit_that_fails_is_thrown_away_with_it() -> None:
    world = acknowledging()
    world.tell(ev.Fetched([fetch(0)]))
    world.answer(0)
    world.performed.clear()
    world.fail(0, "retry")
    world.settle()
    assert world.performed[:5] == ["Drop", "StartProducer", "ReadPositions", "Restore", "Resume"]
    assert world.coordinator.shards[0].dirty_since_ms is None


def test_a_halt_commits_what_was_computed_ahead_too() -> None:
    world = acknowledging()
    world.tell(ev.Fetched([fetch(0)]))
    world.answer(0)
    world.performed.clear()
    world.tell(ev.Revoked())
    world.settle()
    assert world.performed.count("CommitTransaction") == 2
    assert world.said == ["LetRebalance"]


def test_a_shard_without_work_writes_the_checkpoint_that_is_due() -> None:
    """Else a restart would read the changelog of all that came since the last one, for as long as nothing new comes."""
    world = acknowledging()
    world.checkpoint_at_ms = 5_000
    world.settle()
    world.performed.clear()
    world.tell(ev.Tick(4_999))
    world.settle()
    assert "WriteCheckpoint" not in world.performed
    for now_ms in (5_000, 5_001, 6_000):
        world.tell(ev.Tick(now_ms))
        world.settle()
    assert world.performed.count("WriteCheckpoint") == 1


def test_nor_does_it_while_there_is_something_to_commit() -> None:
    world = acknowledging()
    world.checkpoint_at_ms = 1_010
    world.settle()
    world.tell(ev.Fetched([fetch(0)]))
    world.settle()
    world.performed.clear()
    world.tell(ev.Tick(1_050))
    world.settle()
    assert "WriteCheckpoint" not in world.performed


def acknowledging(rules: ShardRules = RULES, *, checkpoint: bool = False) -> World:
    """A shard in the middle of a commit."""
    world = working(rules)
    if not checkpoint:
        world.without_checkpoint.add(0)
    world.tell(ev.Fetched([fetch(0)]))
    world.settle()
    world.tell(ev.Tick(1_000))
    while not isinstance(world.under_way[0], do.AwaitAcknowledgements):
        world.answer(0)
    return world


def test_nothing_to_commit_means_no_transaction() -> None:
    world = working()
    world.performed.clear()
    for now_ms in range(0, 1_000, 100):
        world.tell(ev.Tick(now_ms))
        world.settle()
    assert set(world.performed) == {"Process"}


def test_what_failed_is_taken_again_from_the_beginning() -> None:
    """State may be ahead of what was committed: the producer is dropped, then everything is read anew."""
    world = working()
    world.tell(ev.Fetched([fetch(0)]))
    world.performed.clear()
    world.fail(0, "retry")
    world.settle()
    assert world.performed[:5] == ["Drop", "StartProducer", "ReadPositions", "Restore", "Resume"]


def test_failures_in_a_row_wait_longer_up_to_the_limit() -> None:
    world = World(replace(RULES, retry_backoff_ms=100, retry_backoff_ms_max=1_000))
    world.tell(ev.Assigned(frozenset({0}), 1))
    pauses = []
    for _ in range(6):
        instruction = world.under_way[0]
        assert isinstance(instruction, do.StartProducer)
        pauses.append(instruction.delay_ms)
        world.fail(0, "retry")
        world.answer(0)
    assert pauses == [0, 100, 200, 400, 800, 1_000]


def test_a_fenced_shard_is_never_initialised_again_without_a_new_generation() -> None:
    world = working()
    world.tell(ev.Fetched([fetch(0)]))
    world.performed.clear()
    world.fail(0, "fenced")
    world.settle()
    assert world.performed == ["Drop"]
    assert world.said == ["RequestRejoin"]
    assert phase_of(world) is Phase.LOST
    world.tell(ev.Tick(10_000))
    assert not world.under_way
    world.tell(ev.Revoked(), ev.Assigned(frozenset({0}), 2))
    world.settle()
    assert phase_of(world) is Phase.RUNNING


def test_a_rebalance_waits_for_the_open_commit() -> None:
    world = working()
    world.tell(ev.Fetched([fetch(0)]))
    world.answer(0)
    world.performed.clear()
    world.tell(ev.Revoked())
    assert "LetRebalance" not in world.said
    world.settle()
    assert "CommitTransaction" in world.performed
    assert world.said == ["LetRebalance"]
    assert world.coordinator.shards[0].phase is Phase.AT_REST


def test_what_does_not_come_to_rest_in_time_is_dropped() -> None:
    world = working()
    world.tell(ev.Fetched([fetch(0)]), ev.Revoked())
    stuck = world.under_way[0]
    world.tell(ev.HaltOverdue())
    assert isinstance(world.under_way[0], do.Drop)
    world.settle()
    assert world.said == ["LetRebalance"]
    assert world.coordinator.handle(world.outcome(stuck)) == [], "an answer of an old epoch is ignored"


def test_records_for_a_resting_or_foreign_shard_are_dropped() -> None:
    """They will be read again from the committed offset."""
    world = working()
    world.tell(ev.Revoked())
    world.settle()
    world.tell(ev.Fetched([fetch(0), fetch(7)]))
    assert not world.under_way


def test_shards_that_went_elsewhere_are_let_go() -> None:
    world = working(shards=frozenset({0, 1}))
    world.tell(ev.Revoked())
    world.settle()
    world.performed.clear()
    world.tell(ev.Assigned(frozenset({1}), 2))
    world.settle()
    assert "Drop" in world.performed
    assert world.coordinator.shards[0].phase is Phase.CLOSED
    assert world.coordinator.shards[1].phase is Phase.RUNNING
    assert "RequestRejoin" not in world.said


def test_a_clean_stop_commits_closes_and_leaves() -> None:
    world = working()
    world.tell(ev.Fetched([fetch(0)]))
    world.performed.clear()
    world.tell(ev.StopRequested())
    world.settle()
    assert world.performed.index("CommitTransaction") < world.performed.index("Close")
    assert world.said == ["Leave"]
    assert world.coordinator.life is Life.STOPPED


def test_a_worker_without_shards_stops_at_once() -> None:
    world = World()
    world.tell(ev.StopRequested())
    assert world.said == ["Leave"]


def test_an_answer_nobody_asked_for_is_a_fault_that_is_seen() -> None:
    world = working()
    shard = world.coordinator.shards[0]
    with pytest.raises(InvariantError, match="was told Acknowledged"):
        world.coordinator.handle(ev.Acknowledged(0, shard.epoch))
