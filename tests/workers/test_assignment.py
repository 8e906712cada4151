"""Which member runs which shards: everything is given once, fairly, and as little moves as can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.batch import Partition
from millstream.workers.assignment import Claim, ShardAssignor, assign_shards, place_standbys

CLAIMS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.builds(
        Claim,
        shards=st.lists(st.integers(0, 15), unique=True).map(tuple),
        generation=st.integers(-1, 5),
        stores=st.dictionaries(st.integers(0, 15), st.integers(0, 100)),
    ),
    min_size=1,
)


@given(claims=CLAIMS, shards=st.integers(0, 16))
def test_every_shard_is_given_once_and_fairly(claims: dict[str, Claim], shards: int) -> None:
    assigned = assign_shards(claims, shards)
    given_away = sorted(shard for owned in assigned.values() for shard in owned)
    assert given_away == list(range(shards))
    counts = [len(owned) for owned in assigned.values()]
    assert max(counts) - min(counts) <= 1


@given(members=st.integers(1, 5), shards=st.integers(0, 16))
def test_a_group_that_did_not_change_moves_nothing(members: int, shards: int) -> None:
    names = [f"m{number}" for number in range(members)]
    first = assign_shards(dict.fromkeys(names, Claim()), shards)
    again = assign_shards({name: Claim(tuple(owned), 1) for name, owned in first.items()}, shards)
    assert again == first


@given(members=st.integers(1, 5), shards=st.integers(1, 16))
def test_a_new_member_takes_only_its_share(members: int, shards: int) -> None:
    names = [f"m{number}" for number in range(members)]
    before = assign_shards(dict.fromkeys(names, Claim()), shards)
    claims = {name: Claim(tuple(owned), 1) for name, owned in before.items()} | {"new": Claim()}
    after = assign_shards(claims, shards)
    moved = sum(len(set(before[name]) - set(after[name])) for name in names)
    assert moved == len(after["new"])


def test_of_two_claims_the_newer_generation_wins() -> None:
    assigned = assign_shards({"old": Claim((0, 1), 3), "new": Claim((0, 1), 4)}, 2)
    assert 0 in assigned["new"]
    assert len(assigned["old"]) == 1


def test_a_shard_goes_where_its_state_is() -> None:
    """After a restart nobody owns anything; the local state says who had what."""
    claims = {"a": Claim((), -1, {1: 500}), "b": Claim((), -1, {0: 900})}
    assert assign_shards(claims, 2) == {"a": [1], "b": [0]}


def test_partitions_of_one_number_go_together() -> None:
    assignor = ShardAssignor()
    members = {"a": Claim().encoded(), "b": Claim().encoded()}
    assigned = assignor.assign(members, {"clicks": 2, "orders": 4})
    by_shard = {p.index: name for name, share in assigned.items() for p in share.partitions}
    for name, share in assigned.items():
        assert all(by_shard[p.index] == name for p in share.partitions)
    everything = sorted(p for share in assigned.values() for p in share.partitions)
    assert everything == [Partition("clicks", i) for i in range(2)] + [Partition("orders", i) for i in range(4)]


def test_a_member_that_tells_nonsense_claims_nothing() -> None:
    assigned = ShardAssignor().assign({"a": b"\xff", "b": b"", "c": b"[]"}, {"clicks": 3})
    assert {name: len(share.partitions) for name, share in assigned.items()} == {"a": 1, "b": 1, "c": 1}


def test_what_a_member_tells_has_a_limit() -> None:
    claim = Claim(tuple(range(100)), 1, dict.fromkeys(range(10000), 10**15))
    told = Claim.decoded(claim.encoded())
    assert told.shards == claim.shards
    assert told.stores == {}


def test_who_has_too_many_gives_away_what_another_is_warm_for() -> None:
    """A worker that was away for a while gets back what it had, not whatever comes first."""
    claims = {"a": Claim((0, 1, 2, 3), 7), "back": Claim((), -1, {1: 50, 2: 60})}
    assert assign_shards(claims, 4) == {"a": [0, 3], "back": [1, 2]}


def test_of_two_copies_the_one_that_is_further_wins() -> None:
    claims = {"a": Claim((0,), 3, {2: 400}), "b": Claim((1,), 3, {2: 500, 3: 10}), "c": Claim((), -1, {})}
    assigned = assign_shards(claims, 4)
    assert 2 in assigned["b"]
    assert assigned == {"a": [0], "b": [1, 2], "c": [3]}


@given(claims=CLAIMS, shards=st.integers(0, 16))
def test_the_same_claims_give_the_same_answer(claims: dict[str, Claim], shards: int) -> None:
    backwards = dict(reversed(claims.items()))
    assert assign_shards(claims, shards) == assign_shards(backwards, shards)
    assert list(assign_shards(claims, shards)) == sorted(claims)


def test_positions_are_asked_for_at_each_join() -> None:
    positions = {0: 10}
    assignor = ShardAssignor(Claim((0,), 2), lambda: positions)
    assert Claim.decoded(assignor.user_data()) == Claim((0,), 2, {0: 10})
    positions[0] = 11
    assert Claim.decoded(assignor.user_data()).position(0) == 11


@given(claims=CLAIMS, shards=st.integers(0, 16), replicas=st.integers(0, 4))
def test_every_shard_has_its_standbys_and_never_with_its_owner(
    claims: dict[str, Claim], shards: int, replicas: int
) -> None:
    owned = assign_shards(claims, shards)
    placed = place_standbys(claims, owned, replicas)
    for member, kept in placed.items():
        assert len(kept) == len(set(kept))
        assert not set(kept) & set(owned[member])
    for shard in range(shards):
        assert sum(shard in kept for kept in placed.values()) == min(replicas, len(claims) - 1)


def test_standbys_are_spread() -> None:
    names = ["a", "b", "c", "d"]
    owned = assign_shards(dict.fromkeys(names, Claim()), 12)
    placed = place_standbys(dict.fromkeys(names, Claim()), owned, 1)
    assert {name: len(kept) for name, kept in placed.items()} == dict.fromkeys(names, 3)


def test_a_warm_copy_stays_where_it_is() -> None:
    """The one that is the furthest, as far as there is room; the others are dealt out."""
    claims = {"a": Claim((0,), 3), "b": Claim((1,), 3, {0: 5}), "c": Claim((2,), 3, {0: 90, 1: 70})}
    owned = assign_shards(claims, 3)
    assert place_standbys(claims, owned, 1) == {"a": [1], "b": [2], "c": [0]}


def test_who_keeps_the_warm_copy_takes_over() -> None:
    """The owner is gone: its shard goes to the standby, though another has the shorter name and as few shards."""
    claims = {"a": Claim((0,), 3), "z": Claim((1,), 3, {2: 500})}
    assert assign_shards(claims, 3) == {"a": [0], "z": [1, 2]}


def test_standbys_travel_with_the_shares() -> None:
    leader, member = ShardAssignor(standby_replicas=1), ShardAssignor()
    shares = leader.assign({"a": Claim((0,), 1).encoded(), "b": Claim((1,), 1).encoded()}, {"clicks": 2})
    member.received(shares["a"].data)
    assert member.standbys == {1}
    for nonsense in (b"", b"[]", b"\xff", b'{"standbys": null}'):
        member.received(nonsense)
        assert member.standbys == frozenset()
