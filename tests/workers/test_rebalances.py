"""What a rebalance leaves alone: a shard that stayed ours goes on where it was, and every doubt takes it anew.

The group is Kafka's as far as it matters here: generations that rise by one, at most one owner of a shard in each, members that
miss generations and memberships that end (docs/decisions/0013-a-shard-that-stays-goes-on.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.workers import events as ev
from millstream.workers import instructions as do
from millstream.workers.coordinator import Life
from millstream.workers.phase import Phase
from tests.workers.machine import RULES, World, fetch, working


def rebalanced(world: World, shards: set[int], generation: int, member: str = "") -> list[str]:
    """What was performed from the revocation on."""
    world.performed.clear()
    world.tell(ev.Revoked())
    world.settle()
    world.tell(ev.Assigned(frozenset(shards), generation, member))
    world.settle()
    return world.performed


@pytest.mark.parametrize("generation", [1, 2])
def test_a_shard_that_stays_only_reads_on(generation: int) -> None:
    """In the next generation, or in the same one told again."""
    world = working()
    assert rebalanced(world, {0}, generation) == ["Resume"]
    assert world.coordinator.shards[0].phase is Phase.RUNNING


def test_open_work_is_committed_before_and_the_rest_stays_open() -> None:
    world = working()
    world.tell(ev.Fetched([fetch(0)]))
    performed = rebalanced(world, {0}, 2)
    assert performed[-2:] == ["CommitTransaction", "Resume"] or performed[-3:] == [
        "CommitTransaction", "WriteCheckpoint", "Resume",
    ]  # fmt: skip
    assert "StartProducer" not in performed


@pytest.mark.parametrize(
    ("generation", "member"),
    [(3, ""), (0, ""), (2, "another")],
    ids=["one was missed", "it went back", "new membership"],
)
def test_in_doubt_a_shard_is_taken_anew(generation: int, member: str) -> None:
    world = working()
    assert rebalanced(world, {0}, generation, member) == ["StartProducer", "ReadPositions", "Restore", "Resume"]


def test_what_comes_beside_it_is_taken_and_what_goes_is_dropped() -> None:
    world = working(shards=frozenset({0, 1}))
    assert sorted(rebalanced(world, {1, 2}, 2)) == sorted(
        ["Drop", "Resume", "StartProducer", "ReadPositions", "Restore", "Resume"]
    )


def test_a_shard_that_was_away_for_one_generation_is_taken_anew() -> None:
    world = working(shards=frozenset({0, 1}))
    rebalanced(world, {0}, 2)
    assert "StartProducer" in rebalanced(world, {0, 1}, 3)
    assert {shard.phase for shard in world.coordinator.shards.values()} == {Phase.RUNNING}


def test_what_did_not_come_to_rest_is_taken_anew() -> None:
    """Half the rebalance timeout was over before the commit was: its outcome is not known."""
    world = working()
    world.tell(ev.Fetched([fetch(0)]), ev.Revoked(), ev.HaltOverdue())
    world.settle()
    world.performed.clear()
    world.tell(ev.Assigned(frozenset({0}), 2))
    world.settle()
    assert world.performed[0] == "StartProducer"


def test_what_failed_while_it_came_to_rest_is_taken_anew() -> None:
    world = working()
    world.tell(ev.Fetched([fetch(0)]), ev.Revoked())
    world.fail(0, "retry")
    world.settle()
    world.performed.clear()
    world.tell(ev.Assigned(frozenset({0}), 2))
    world.settle()
    assert world.performed[0] == "StartProducer"


def restoring() -> World:
    world = World()
    world.tell(ev.Assigned(frozenset({0}), 1))
    world.answer(0)
    world.answer(0)
    assert world.coordinator.shards[0].phase is Phase.RESTORING
    return world


def test_a_rebalance_does_not_wait_for_a_restore_and_the_restore_goes_on() -> None:
    world = restoring()
    world.tell(ev.Revoked())
    assert world.said == ["LetRebalance"]
    world.tell(ev.Assigned(frozenset({0}), 2))
    world.settle()
    assert world.performed == ["StartProducer", "ReadPositions", "Restore", "Resume"]


def test_a_restore_that_ends_during_a_rebalance_seeks_only_when_it_is_assigned_again() -> None:
    world = restoring()
    world.tell(ev.Revoked())
    world.settle()
    assert world.performed[-1] == "Restore"
    assert world.coordinator.shards[0].phase is Phase.AT_REST
    world.tell(ev.Assigned(frozenset({0}), 2))
    world.settle()
    assert world.performed[-1] == "Resume"


@pytest.mark.parametrize(("shards", "first"), [({1}, "Drop"), ({0}, "Drop")], ids=["went elsewhere", "in doubt"])
def test_a_restore_of_what_may_be_anothers_is_broken_off(shards: set[int], first: str) -> None:
    world = restoring()
    world.tell(ev.Revoked())
    world.performed.clear()
    world.tell(ev.Assigned(frozenset(shards), 3))
    world.settle()
    assert world.performed[0] == first
    assert world.coordinator.shards[min(shards)].phase is Phase.RUNNING


def test_a_stop_does_not_wait_for_a_restore() -> None:
    world = restoring()
    world.tell(ev.StopRequested())
    assert isinstance(world.under_way[0], do.Drop)
    world.settle()
    assert world.said == ["Leave"]


def test_a_shard_that_is_given_back_before_it_was_let_go_is_taken_then() -> None:
    """The group did not wait: the new generation comes while what was overdue is still being dropped."""
    world = working()
    world.tell(ev.Fetched([fetch(0)]), ev.Revoked(), ev.HaltOverdue(), ev.Assigned(frozenset({0}), 2))
    world.performed.clear()
    world.settle()
    assert world.performed[:2] == ["Drop", "StartProducer"]
    assert world.coordinator.shards[0].phase is Phase.RUNNING


@dataclass
class Group:
    """A few workers of one group on one Kafka. `owners[shard]`: who started the shard's producer last, everybody else is fenced.

    What is kept for each worker is the newest state of each shard it has in memory: the number of commits it knows of.
    """

    worlds: dict[str, World] = field(default_factory=dict)
    generation: int = 0
    share: dict[str, frozenset[int]] = field(default_factory=dict)
    commits: dict[int, int] = field(default_factory=dict)
    knows: dict[tuple[str, int], int] = field(default_factory=dict)
    stale: list[tuple[str, int]] = field(default_factory=list)
    lives: dict[str, int] = field(default_factory=dict)

    def settle(self, name: str) -> None:
        """Everything a worker has under way is done; what it knows of a shard is set when it is restored."""
        world = self.worlds[name]
        while world.under_way:
            shard, instruction = next(iter(world.under_way.items()))
            if isinstance(instruction, do.Restore):
                self.knows[name, shard] = self.commits.get(shard, 0)
            world.answer(shard)

    def join(self, names: list[str], share: dict[str, frozenset[int]], absent: set[str]) -> None:
        """A generation: those present give up, and hear their shares. Who is absent misses it, and works on in the old one."""
        present = [name for name in names if name not in absent]
        for name in present:
            if name in self.share:
                self.worlds[name].tell(ev.Revoked())
                self.settle(name)
        self.generation += 1
        for name in present:
            self.share[name] = share.get(name, frozenset())
            member = f"{name}-{self.lives.get(name, 0)}"
            self.worlds[name].tell(ev.Assigned(self.share[name], self.generation, member))
            self.settle(name)

    def work(self, name: str) -> None:
        """A commit of each shard of a worker that is in the newest generation; its state must be of the last commit."""
        for shard in sorted(self.share.get(name, ())):
            if self.worlds[name].coordinator.generation != self.generation:
                continue
            if self.knows[name, shard] != self.commits.get(shard, 0):
                self.stale.append((name, shard))
            self.commits[shard] = self.commits.get(shard, 0) + 1
            self.knows[name, shard] = self.commits[shard]


NAMES = ["a", "b", "c"]
ROUNDS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(NAMES), min_size=4, max_size=4),  # owner of each of four shards
        st.sets(st.sampled_from(NAMES), max_size=2),  # who misses this generation
        st.sets(st.sampled_from(NAMES), max_size=1),  # whose membership ended before
    ),
    max_size=12,
)


def lived(rounds: list[tuple[list[str], set[str], set[str]]], group: Group) -> None:
    group.worlds = {name: World() for name in NAMES}
    for owners, absent, ended in rounds:
        present = [name for name in NAMES if name not in absent]
        for name in ended:
            group.lives[name] = group.lives.get(name, 0) + 1
        given = [owner if owner in present else present[0] for owner in owners]
        share = {name: frozenset(s for s, owner in enumerate(given) if owner == name) for name in present}
        group.join(NAMES, share, absent)
        for name in present:
            group.work(name)


@settings(max_examples=300)
@given(rounds=ROUNDS)
def test_no_shard_goes_on_with_a_state_that_is_not_the_newest(
    rounds: list[tuple[list[str], set[str], set[str]]],
) -> None:
    """Whoever owns, misses generations or begins a new membership: a commit is always made on the state of the last one."""
    group = Group()
    lived(rounds, group)
    assert group.stale == []


def test_the_schedule_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: where generations are not looked at, a member that missed one goes on with an old state."""
    monkeypatch.setattr("millstream.workers.coordinator.Coordinator._unbroken", lambda self, event: True)
    group = Group()
    lived([(["a"] * 4, set(), set()), (["b"] * 4, {"a"}, set()), (["a"] * 4, set(), set())], group)
    assert ("a", 0) in group.stale


def test_under_at_least_once_too() -> None:
    """There is no fencing there: the generation alone decides."""
    world = working(replace(RULES, exactly_once=False))
    assert rebalanced(world, {0}, 2) == ["Resume"]
    assert rebalanced(world, {0}, 4)[0] == "StartProducer"
    assert world.coordinator.life is Life.WORKING
