"""The worker's life under random events: its invariants hold after each, and it comes to work or to rest."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.workers import events as ev
from millstream.workers import instructions as do
from millstream.workers.coordinator import Life
from millstream.workers.phase import Phase
from tests.workers.machine import RULES, World, fetch

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.integers(0, 3)),
        st.tuples(st.just("retry"), st.integers(0, 3)),
        st.tuples(st.just("fenced"), st.integers(0, 3)),
        st.tuples(st.just("fetch"), st.integers(0, 3)),
        st.tuples(st.just("half"), st.integers(0, 3)),
        st.tuples(st.just("other"), st.integers(0, 3)),
        st.tuples(st.just("behind"), st.integers(0, 15)),
        st.tuples(st.just("tick"), st.integers(1, 200)),
        st.tuples(st.just("revoke"), st.just(0)),
        st.tuples(st.just("assign"), st.integers(0, 15)),
        st.tuples(st.just("overdue"), st.just(0)),
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(steps=STEPS, exactly_once=st.booleans(), without_checkpoint=st.sets(st.integers(0, 3)))
def test_whatever_happens_it_ends_in_work_or_at_rest(
    steps: list[tuple[str, int]], exactly_once: bool, without_checkpoint: set[int]
) -> None:
    """Random events in random order: the invariants hold after each (`check`), and when the world is quiet again every
    shard assigned last is running, and a stop brings everything to its end."""
    world = World(replace(RULES, exactly_once=exactly_once, wait_for_inputs_ms=150))
    world.without_checkpoint = without_checkpoint
    now_ms, generation, joined = 0, 0, False
    for what, number in steps:
        if what == "answer" and number in world.under_way:
            world.answer(number)
        elif what in {"retry", "fenced"} and number in world.under_way:
            if not isinstance(world.under_way[number], do.Drop | do.Close):
                world.fail(number, "retry" if what == "retry" else "fenced")
        elif what == "fetch":
            world.tell(ev.Fetched([fetch(number)]))
        elif what == "half":
            world.halves.add(number)
        elif what == "other":
            world.tell(ev.Fetched([fetch(number, topic="other")]))
        elif what == "behind":
            world.behind = {shard for shard in range(4) if number >> shard & 1}
        elif what == "tick":
            now_ms += number
            world.tell(ev.Tick(now_ms))
        elif what == "revoke" and joined:
            world.tell(ev.Revoked())
        elif what == "overdue" and world.coordinator.life is Life.HALTING:
            world.tell(ev.HaltOverdue())
        elif what == "assign" and world.coordinator.life is Life.JOINING:
            generation += 1
            joined = True
            world.tell(ev.Assigned(frozenset(s for s in range(4) if number >> s & 1), generation))
    world.settle()
    for passed_ms in (1, 200):
        world.tell(ev.Tick(now_ms + passed_ms))
        world.settle()
    waiting = [
        shard.number for shard in world.coordinator.shards.values() if shard.phase is Phase.RUNNING and shard.fetches
    ]
    assert waiting == [], "no records wait for ever"
    for number in world.dirty:
        assert world.coordinator.shards[number].dirty_since_ms is not None, "work that would never be committed"
    if joined:
        if world.coordinator.life is Life.WORKING:
            world.tell(ev.Revoked())
            world.settle()
        world.tell(ev.Assigned(frozenset({0, 1}), generation + 1))
        world.settle()
        running = {number for number, shard in world.coordinator.shards.items() if shard.phase is Phase.RUNNING}
        assert running == {0, 1}
    world.tell(ev.StopRequested())
    world.settle()
    assert world.said[-1] == "Leave"
