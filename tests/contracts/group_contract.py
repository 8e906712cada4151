"""What a `Broker` promises of consumer groups: rebalances in order, static members, commits that know their generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Broker, Committed, GroupConsumer, Share
from millstream.topics.errors import ConfigurationError, DuplicateMemberError, FencedError, TopicsError
from tests.contracts.broker_tools import Heard, InTurn, dies, new_topic, polled, started, values_of, write

Unique = Callable[[str], str]


class GroupContract:
    """Tests make members by `member`; `unique` gives the group "g" and the topic "a"."""

    def member(
        self, broker: Broker, unique: Unique, heard: Heard, *, instance: str | None = None, data: bytes = b""
    ) -> GroupConsumer:
        return broker.consumer(
            group=unique("g"), topics=[unique("a")], assignor=InTurn(data), listener=heard, instance_id=instance
        )

    async def test_one_member_gets_everything_and_reads_from_where_it_seeks(
        self, broker: Broker, unique: Unique
    ) -> None:
        """Nothing is read before."""
        a, b = await new_topic(broker, unique("a"), 2)
        await write(broker, a, b"0", b"1", b"2")
        await write(broker, b, b"x")
        heard = Heard()
        async with started(self.member(broker, unique, heard)) as consumer:
            await heard.owns([a, b])
            assert heard.generation >= 1
            assert await consumer.poll(timeout_ms=50, records_max=10) == []
            with pytest.raises(ConfigurationError, match="seek first"):
                consumer.position(a)
            consumer.seek(a, 1)
            fetches = await polled(consumer, lambda fetches: consumer.position(a) == 3)
            assert values_of(fetches) == [b"1", b"2"]
            assert {fetch.partition for fetch in fetches} == {a}
            assert (await consumer.end_offsets([a, b])) == {a: 3, b: 1}
            consumer.raise_if_dead()

    async def test_who_is_in_a_group_is_told(self, broker: Broker, unique: Unique) -> None:
        """By the instance id where there is one; nobody is in a group that does not exist."""
        [a] = await new_topic(broker, unique("a"))
        assert await broker.group_members(unique("g")) == []
        first, second = Heard(), Heard()
        async with started(self.member(broker, unique, first, instance="ada", data=b"1")):
            await first.owns([a])
            async with started(self.member(broker, unique, second, instance="bob", data=b"2")):
                await second.owns([])
                told = await broker.group_members(unique("g"))
                assert [one.split(" at ")[0] for one in told] == ["ada", "bob"]

    async def test_a_second_member_takes_its_share(self, broker: Broker, unique: Unique) -> None:
        """The first hears that all is revoked, then what it owns now; generations rise."""
        a, b = await new_topic(broker, unique("a"), 2)
        first, second = Heard(), Heard()
        async with started(self.member(broker, unique, first, data=b"1")) as one:
            await first.owns([a, b])
            one.seek(b, 0)
            before, seen = first.generation, len(first.events)
            async with started(self.member(broker, unique, second, data=b"2")):
                await second.owns([b])
                await first.owns([a])
                assert first.events[seen:][0] == ("revoked", frozenset([a, b]))
                assert first.events[seen:][-1] == ("assigned", frozenset([a]))
                assert first.generation == second.generation > before
                with pytest.raises(ConfigurationError, match="not assigned"):
                    one.seek(b, 0)
            await first.owns([a, b])  # a dynamic member leaves as it stops

    async def test_every_rebalance_is_told_as_revoked_then_assigned(self, broker: Broker, unique: Unique) -> None:
        """Through all of them a member keeps its id."""
        [a] = await new_topic(broker, unique("a"))
        heard = Heard()
        async with started(self.member(broker, unique, heard)) as consumer:
            await heard.owns([a])
            named = consumer.member_id
            for _ in range(3):
                before = heard.generation
                consumer.request_rejoin()
                await heard.until(lambda before=before: heard.generation > before)  # type: ignore[misc]
                assert consumer.member_id == named != ""
        kinds = [kind for kind, partitions in heard.events if partitions]
        assert kinds == ["assigned", *["revoked", "assigned"] * 3]

    async def test_leave_gives_up_at_once(self, broker: Broker, unique: Unique) -> None:
        """Static or not; and who has left commits no more."""
        a, b = await new_topic(broker, unique("a"), 2)
        first, second = Heard(), Heard()
        async with (
            started(self.member(broker, unique, first, data=b"1")),
            started(self.member(broker, unique, second, data=b"2", instance="two")) as leaving,
        ):
            await second.owns([b])
            await leaving.leave()
            await first.owns([a, b])
            with pytest.raises(FencedError):
                await leaving.commit({b: Committed(1)})

    async def test_a_static_member_restarts_and_nobody_else_notices(self, broker: Broker, unique: Unique) -> None:
        """It gets what it had, in the same generation."""
        a, b = await new_topic(broker, unique("a"), 2)
        first, second, again = Heard(), Heard(), Heard()
        async with started(self.member(broker, unique, first, data=b"1", instance="one")) as one:
            stopping = self.member(broker, unique, second, data=b"2", instance="two")
            await stopping.start()
            await second.owns([b])
            await first.owns([a])
            generation, seen = first.generation, list(first.events)
            await stopping.stop()
            async with started(self.member(broker, unique, again, data=b"2", instance="two")) as restarted:
                await again.owns([b])
                assert again.generation == generation
                assert first.events == seen
                await restarted.commit({b: Committed(2)})
                await one.commit({a: Committed(1)})
                await restarted.leave()
            await first.owns([a, b])
            await one.leave()

    async def test_the_second_process_of_an_instance_id_ends_the_first(self, broker: Broker, unique: Unique) -> None:
        [a] = await new_topic(broker, unique("a"))
        first, second = Heard(), Heard()
        async with started(self.member(broker, unique, first, instance="same")) as one:
            await first.owns([a])
            async with started(self.member(broker, unique, second, instance="same")) as two:
                await second.owns([a])
                error = await dies(one)
                assert isinstance(error, DuplicateMemberError)
                with pytest.raises(DuplicateMemberError, match="same"):
                    await polled(one, lambda fetches: False)
                two.raise_if_dead()
                await two.leave()

    async def test_commits_are_read_back(self, broker: Broker, unique: Unique) -> None:
        """Partitions without one are missing; metadata stays with its offset; other groups have their own."""
        a, b = await new_topic(broker, unique("a"), 2)
        heard = Heard()
        async with started(self.member(broker, unique, heard)) as consumer:
            await heard.owns([a, b])
            assert await consumer.committed([a, b]) == {}
            await consumer.commit({a: Committed(3, "x" * 4_000)})
            await consumer.commit({a: Committed(4, "\u00e4")})
            assert await consumer.committed([a, b]) == {a: Committed(4, "\u00e4")}
        assert await broker.group_offsets(unique("g")) == {a: Committed(4, "\u00e4")}
        assert await broker.group_offsets(unique("other")) == {}

    async def test_a_group_is_forgotten_when_it_has_no_members(self, broker: Broker, unique: Unique) -> None:
        [a] = await new_topic(broker, unique("a"))
        heard = Heard()
        async with started(self.member(broker, unique, heard)) as consumer:
            await heard.owns([a])
            await consumer.commit({a: Committed(3)})
            with pytest.raises(ConfigurationError, match="members"):
                await broker.delete_group(unique("g"))
            assert await broker.group_offsets(unique("g")) == {a: Committed(3)}
        await broker.delete_group(unique("g"))
        assert await broker.group_offsets(unique("g")) == {}
        await broker.delete_group(unique("never"))

    async def test_the_assignor_hears_of_every_member(self, broker: Broker, unique: Unique) -> None:
        """Its user data, at each join anew."""
        [_a] = await new_topic(broker, unique("a"))
        first, second = Heard(), Heard()
        mine, other = InTurn(b"1"), InTurn(b"2")
        group, topics = unique("g"), [unique("a")]
        async with started(broker.consumer(group=group, topics=topics, assignor=mine, listener=first)):
            await first.until(lambda: first.generation >= 0)
            mine.data = b"1, later"
            async with started(broker.consumer(group=group, topics=topics, assignor=other, listener=second)):
                await second.until(lambda: second.generation >= 0)
                told = [sorted(members.values()) for members in [*mine.told, *other.told]]
                assert [b"1, later", b"2"] in told

    async def test_every_member_hears_what_the_assignor_tells_it(self, broker: Broker, unique: Unique) -> None:
        """With its share, whoever was the leader; a static member that comes back hears it again."""
        await new_topic(broker, unique("a"), 2)
        one, two, again = InTurn(b"1"), InTurn(b"2"), InTurn(b"2")
        heard = [Heard() for _ in range(3)]

        def member(assignor: InTurn, heard: Heard, instance: str) -> GroupConsumer:
            return broker.consumer(
                group=unique("g"), topics=[unique("a")], assignor=assignor, listener=heard, instance_id=instance
            )

        async with started(member(one, heard[0], "one")) as first:
            await heard[0].until(lambda: one.heard == [b"turn 0"])
            async with started(member(two, heard[1], "two")):
                await heard[1].until(lambda: two.heard == [b"turn 1"])
                await heard[0].until(lambda: one.heard == [b"turn 0", b"turn 0"])
            async with started(member(again, heard[2], "two")) as second:
                await heard[2].until(lambda: again.heard == [b"turn 1"])
                await second.leave()
            await first.leave()

    async def test_what_an_assignor_raises_ends_its_membership(self, broker: Broker, unique: Unique) -> None:
        class Broken(InTurn):
            def assign(self, members: Mapping[str, bytes], partition_counts: Mapping[str, int]) -> Mapping[str, Share]:
                raise RuntimeError("no idea")

        await new_topic(broker, unique("a"))
        consumer = broker.consumer(group=unique("g"), topics=[unique("a")], assignor=Broken(), listener=Heard())
        async with started(consumer):
            assert "no idea" in str(await dies(consumer))

    async def test_what_a_listener_raises_ends_its_membership(self, broker: Broker, unique: Unique) -> None:
        class Broken(Heard):
            async def assigned(self, partitions: frozenset[Partition], generation: int) -> None:
                raise RuntimeError("not me")

        await new_topic(broker, unique("a"))
        async with started(self.member(broker, unique, Broken())) as consumer:
            error = await dies(consumer)
            assert isinstance(error, TopicsError)
            assert "not me" in str(error)

    async def test_a_topic_that_is_missing_is_named(self, broker: Broker, unique: Unique) -> None:
        consumer = self.member(broker, unique, Heard())
        with pytest.raises(ConfigurationError, match=unique("a")):
            await consumer.start()
        await consumer.stop()

    async def test_a_member_does_not_choose_its_partitions(self, broker: Broker, unique: Unique) -> None:
        [a] = await new_topic(broker, unique("a"))
        async with started(self.member(broker, unique, Heard())) as consumer:
            with pytest.raises(ConfigurationError, match="assigns"):
                consumer.assign({a: 0})
