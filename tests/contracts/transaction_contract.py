"""What a `Broker` promises of transactions: whole or never, one owner an id, offsets with the records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Broker, Committed, GroupConsumer, Isolation, Producer, Reader
from millstream.topics.errors import ConfigurationError, FencedError, TopicsError
from tests.contracts.broker_tools import Heard, InTurn, new_topic, polled, records, started, until, values_in, write

Unique = Callable[[str], str]


async def ends(reader: Reader, partition: Partition, offset: int) -> None:
    """Waits until the partition ends there: a transaction's end is seen a moment after it was decided."""

    async def so() -> bool:
        return (await reader.end_offsets([partition]))[partition] == offset

    await until(so)


async def acknowledged(producer: Producer, partition: Partition, *values: bytes) -> int:
    return await (await producer.send(partition, records(*values)))


class TransactionContract:
    """Records of transactions."""

    async def test_records_are_seen_when_the_transaction_has_committed(self, broker: Broker, unique: Unique) -> None:
        """In all partitions; not before by read_committed, at once by read_uncommitted. The marker takes an offset."""
        a, b = await new_topic(broker, unique("a"), 2)
        async with (
            started(broker.producer(transactional_id=unique("t"))) as producer,
            started(broker.reader()) as reader,
            started(broker.reader(isolation="read_uncommitted")) as dirty,
        ):
            await producer.begin()
            assert await acknowledged(producer, a, b"1", b"2") == 2
            assert await acknowledged(producer, b, b"3") == 1
            assert await reader.end_offsets([a, b]) == {a: 0, b: 0}
            assert await dirty.end_offsets([a, b]) == {a: 2, b: 1}
            assert await values_in(broker, a, "read_uncommitted") == [b"1", b"2"]
            assert await values_in(broker, a) == []
            await producer.commit()
            await ends(reader, a, 3)
            await ends(reader, b, 2)
        assert await values_in(broker, a) == [b"1", b"2"]
        assert await values_in(broker, b) == [b"3"]

    async def test_records_of_an_aborted_transaction_are_never_seen(self, broker: Broker, unique: Unique) -> None:
        """The position moves past them and their marker."""
        [partition] = await new_topic(broker, unique("a"))
        async with (
            started(broker.producer(transactional_id=unique("t"))) as producer,
            started(broker.reader()) as reader,
        ):
            await producer.begin()
            await acknowledged(producer, partition, b"never")
            await producer.abort()
            await ends(reader, partition, 2)
            reader.assign({partition: 0})
            fetches = await polled(reader, lambda fetches: reader.position(partition) == 2)
            assert [len(fetch) for fetch in fetches if len(fetch)] == []
            assert fetches[-1].next_offset == 2
            assert fetches[-1].caught_up
            await producer.begin()
            await acknowledged(producer, partition, b"seen")
            await producer.commit()
            await ends(reader, partition, 4)
        assert await values_in(broker, partition) == [b"seen"]
        assert await values_in(broker, partition, "read_uncommitted") == [b"never", b"seen"]

    @pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
    async def test_an_open_transaction_holds_back_what_follows(
        self, broker: Broker, unique: Unique, isolation: Isolation
    ) -> None:
        """The last stable offset: records after it are seen by read_committed only when it has ended."""
        [partition] = await new_topic(broker, unique("a"))
        await write(broker, partition, b"before")
        async with (
            started(broker.producer(transactional_id=unique("t"))) as producer,
            started(broker.reader(isolation=isolation)) as reader,
        ):
            await producer.begin()
            await acknowledged(producer, partition, b"open")
            await write(broker, partition, b"after")
            held = isolation == "read_committed"
            assert await reader.end_offsets([partition]) == {partition: 1 if held else 3}
            assert await values_in(broker, partition, isolation) == (
                [b"before"] if held else [b"before", b"open", b"after"]
            )
            await producer.abort()
            await ends(reader, partition, 4)
        assert await values_in(broker, partition) == [b"before", b"after"]

    async def test_several_transactions_of_one_producer(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer(transactional_id=unique("t"))) as producer:
            for number in range(10):
                await producer.begin()
                await producer.send(partition, records(b"%d" % number))
                await (producer.abort() if number % 3 == 2 else producer.commit())
            async with started(broker.reader()) as reader:
                await ends(reader, partition, 20)
        assert await values_in(broker, partition) == [b"0", b"1", b"3", b"4", b"6", b"7", b"9"]

    async def test_an_empty_transaction_is_nothing(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer(transactional_id=unique("t"))) as producer:
            await producer.begin()
            await producer.commit()
            await producer.begin()
            await producer.abort()
            async with started(broker.reader()) as reader:
                assert await reader.end_offsets([partition]) == {partition: 0}

    async def test_stop_aborts_what_is_open(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer(transactional_id=unique("t"))) as producer:
            await producer.begin()
            await acknowledged(producer, partition, b"never")
        async with started(broker.reader()) as reader:
            await ends(reader, partition, 2)
        assert await values_in(broker, partition) == []

    async def test_drop_leaves_what_is_open_to_the_next_owner(self, broker: Broker, unique: Unique) -> None:
        """Whose start aborts it: then readers are held back no longer."""
        [partition] = await new_topic(broker, unique("a"))
        dropped = broker.producer(transactional_id=unique("t"))
        await dropped.start()
        await dropped.begin()
        await acknowledged(dropped, partition, b"never")
        await dropped.drop()
        async with started(broker.reader()) as reader:
            assert await reader.end_offsets([partition]) == {partition: 0}
            async with started(broker.producer(transactional_id=unique("t"))):
                await ends(reader, partition, 2)
        with pytest.raises(TopicsError):
            await dropped.commit()
        assert await values_in(broker, partition) == []

    async def test_calls_out_of_turn_are_refused(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer(transactional_id=unique("t"))) as producer:
            with pytest.raises(ConfigurationError, match="begin first"):
                await producer.send(partition, records(b"x"))
            with pytest.raises(ConfigurationError, match="begin first"):
                await producer.commit()
            with pytest.raises(ConfigurationError, match="begin first"):
                await producer.abort()
            await producer.begin()
            with pytest.raises(ConfigurationError, match="a transaction is open"):
                await producer.begin()


class FencingContract:
    """One owner a transactional id: the newest."""

    @pytest.mark.parametrize("call", ["send", "send_offsets", "commit"])
    async def test_a_newer_owner_fences_the_older(self, broker: Broker, unique: Unique, call: str) -> None:
        """Its open transaction is aborted, nothing it does is seen any more, and it stays fenced."""
        [partition] = await new_topic(broker, unique("a"))
        zombie = broker.producer(transactional_id=unique("t"))
        await zombie.start()
        await zombie.begin()
        await acknowledged(zombie, partition, b"zombie")
        async with started(broker.producer(transactional_id=unique("t"))) as owner:
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "send": lambda: acknowledged(zombie, partition, b"zombie again"),
                "send_offsets": lambda: zombie.send_offsets(unique("g"), {partition: Committed(1)}),
                "commit": zombie.commit,
            }
            with pytest.raises(FencedError):
                await calls[call]()
            with pytest.raises(FencedError):
                await zombie.commit()
            with suppress(FencedError):
                await zombie.abort()
            await zombie.drop()
            await owner.begin()
            await acknowledged(owner, partition, b"owner")
            await owner.commit()
            async with started(broker.reader()) as reader:
                await ends(reader, partition, 4)
        assert await values_in(broker, partition) == [b"owner"]
        assert await broker.group_offsets(unique("g")) == {}

    async def test_other_ids_are_not_fenced(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer(transactional_id=unique("t"))) as one:
            await one.begin()
            await acknowledged(one, partition, b"one")
            async with started(broker.producer(transactional_id=unique("u"))):
                await one.commit()
            async with started(broker.reader()) as reader:
                await ends(reader, partition, 2)
        assert await values_in(broker, partition) == [b"one"]


class TransactionalOffsetsContract:
    """Consumed offsets, committed with the records."""

    async def test_offsets_and_metadata_are_there_once_the_next_owner_has_started(
        self, broker: Broker, unique: Unique
    ) -> None:
        """The order of taking a shard: start the producer, then read the offsets."""
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer(transactional_id=unique("t"))) as producer:
            await producer.begin()
            await acknowledged(producer, partition, b"1")
            await producer.send_offsets(unique("g"), {partition: Committed(17, '{"watermark": 5}')})
            await producer.commit()
        async with (
            started(broker.producer(transactional_id=unique("t"))),
            started(self.member(broker, unique)) as consumer,
        ):
            assert await consumer.committed([partition]) == {partition: Committed(17, '{"watermark": 5}')}

    async def test_offsets_of_an_aborted_transaction_are_never_there(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer(transactional_id=unique("t"))) as producer:
            for offset, end in ((3, producer.commit), (9, producer.abort)):
                await producer.begin()
                await producer.send_offsets(unique("g"), {partition: Committed(offset)})
                await end()
        async with (
            started(broker.producer(transactional_id=unique("t"))),
            started(self.member(broker, unique)) as consumer,
        ):
            assert await consumer.committed([partition]) == {partition: Committed(3)}

    async def test_committed_waits_for_offsets_that_are_pending(self, broker: Broker, unique: Unique) -> None:
        """It never gives the old offset while a transaction that would change it is open."""
        [partition] = await new_topic(broker, unique("a"))
        async with (
            started(broker.producer(transactional_id=unique("t"))) as producer,
            started(self.member(broker, unique)) as consumer,
        ):
            await producer.begin()
            await producer.send_offsets(unique("g"), {partition: Committed(5)})
            asked = asyncio.create_task(consumer.committed([partition]))
            await producer.commit()
            assert await asked == {partition: Committed(5)}

    async def test_offsets_are_sent_once_a_transaction(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer(transactional_id=unique("t"))) as producer:
            await producer.begin()
            await producer.send_offsets(unique("g"), {partition: Committed(1)})
            with pytest.raises(ConfigurationError, match="once a transaction"):
                await producer.send_offsets(unique("g"), {partition: Committed(2)})

    def member(self, broker: Broker, unique: Unique) -> GroupConsumer:
        return broker.consumer(group=unique("g"), topics=[unique("a")], assignor=InTurn(), listener=Heard())
