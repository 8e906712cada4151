"""What a `Broker` promises of topics, writing and reading. Run it over an implementation by a subclass:

    class TestMine(TopicsContract): ...      with a fixture `broker` that gives a started Broker

Groups are in `group_contract.py`, transactions in `transaction_contract.py`. Tests need no timing; topic names come from
the fixture `unique`, so that one real cluster serves them all.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Broker, TopicSpec
from millstream.topics.errors import ConfigurationError, RecordTooLargeError
from tests.contracts.broker_tools import new_topic, polled, read_to_end, records, started, values_in, values_of, write

Unique = Callable[[str], str]


class TopicsContract:
    """Topics: created once, described, deleted; records deleted from their beginning."""

    async def test_a_topic_is_created_and_described(self, broker: Broker, unique: Unique) -> None:
        name = unique("clicks")
        await broker.create_topics([TopicSpec(name, 3, 1, "compact", {"retention.ms": "60000"})])
        described = await broker.describe_topics([name, unique("missing")])
        assert list(described) == [name]
        assert (described[name].name, described[name].partitions) == (name, 3)
        assert described[name].config["cleanup.policy"] == "compact"
        assert described[name].config["retention.ms"] == "60000"
        assert name in await broker.list_topics()

    async def test_partitions_are_the_brokers_default_where_none_are_given(
        self, broker: Broker, unique: Unique
    ) -> None:
        await broker.create_topics([TopicSpec(unique("a"))])
        assert (await broker.describe_topics([unique("a")]))[unique("a")].partitions >= 1

    async def test_an_existing_topic_is_left_as_it_is(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        await write(broker, partition, b"1")
        await broker.create_topics([TopicSpec(unique("a"), 5, 1), TopicSpec(unique("b"), 2, 1)])
        described = await broker.describe_topics([unique("a"), unique("b")])
        assert {name: info.partitions for name, info in described.items()} == {unique("a"): 1, unique("b"): 2}
        assert await values_in(broker, partition) == [b"1"]

    async def test_a_deleted_topic_is_gone_and_a_new_one_has_another_id(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        await write(broker, partition, b"1")
        before = (await broker.describe_topics([unique("a")]))[unique("a")].topic_id
        await broker.delete_topics([unique("a"), unique("missing")])
        assert await broker.describe_topics([unique("a")]) == {}
        assert unique("a") not in await broker.list_topics()
        await new_topic(broker, unique("a"))
        after = (await broker.describe_topics([unique("a")]))[unique("a")].topic_id
        assert after != before or (before, after) == ("", "")
        assert await values_in(broker, partition) == []

    async def test_deleted_records_are_gone_and_offsets_stay(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        for value in (b"0", b"1", b"2", b"3"):
            await write(broker, partition, value)
        await broker.delete_records({partition: 2})
        async with started(broker.reader()) as reader:
            assert await reader.begin_offsets([partition]) == {partition: 2}
            assert await reader.end_offsets([partition]) == {partition: 4}
        fetches = await read_to_end(broker, partition, start=2)
        assert [int(offset) for fetch in fetches for offset in fetch.offsets] == [2, 3]
        assert values_of(fetches) == [b"2", b"3"]

    async def test_an_offset_out_of_range_is_an_error_that_names_both_ends(
        self, broker: Broker, unique: Unique
    ) -> None:
        [partition] = await new_topic(broker, unique("a"))
        await write(broker, partition, b"0", b"1", b"2", b"3")
        await broker.delete_records({partition: 3})
        for offset in (1, 77):
            async with started(broker.reader()) as reader:
                reader.assign({partition: offset})
                with pytest.raises(ConfigurationError, match=r"3\b.*\b4\b"):
                    await polled(reader, bool)


class WritingContract:
    """Producers without transactions."""

    async def test_what_is_sent_is_read(self, broker: Broker, unique: Unique) -> None:
        """Keys, values, null ones, timestamps, headers with repeated names and null values; in order."""
        [partition] = await new_topic(broker, unique("a"))
        headers = [(("h", b"1"), ("h", None)), (), (("\u00e4", b""),)]
        sent = records(b"x", None, b"", keys=[b"k", None, b""], timestamps=[5, 1_700_000_000_000, 6], headers=headers)
        async with started(broker.producer()) as producer:
            assert await (await producer.send(partition, sent)) == 3
        [fetch] = [fetch for fetch in await read_to_end(broker, partition) if len(fetch)]
        assert list(fetch.values) == [b"x", None, b""]
        assert list(fetch.keys) == [b"k", None, b""]
        assert fetch.timestamps.tolist() == [5, 1_700_000_000_000, 6]
        assert fetch.offsets.tolist() == [0, 1, 2]
        assert {row: tuple(some) for row, some in fetch.headers.items()} == {0: headers[0], 2: headers[2]}
        assert (fetch.partition, fetch.first_offset, fetch.next_offset, fetch.end_offset) == (partition, 0, 3, 3)
        assert fetch.caught_up

    async def test_without_keys_every_key_is_null_and_the_clock_gives_the_time(
        self, broker: Broker, unique: Unique
    ) -> None:
        [partition] = await new_topic(broker, unique("a"))
        await write(broker, partition, b"x", b"y")
        [fetch] = [fetch for fetch in await read_to_end(broker, partition) if len(fetch)]
        assert list(fetch.keys) == [None, None]
        assert (fetch.timestamps >= 0).all()

    async def test_sends_keep_their_order_and_tell_the_offset_after_them(self, broker: Broker, unique: Unique) -> None:
        a, b = await new_topic(broker, unique("a"), 2)
        async with started(broker.producer()) as producer:
            waiting = [await producer.send(a, records(b"%d" % n, b"%d'" % n)) for n in range(20)]
            other = await producer.send(b, records(b"other"))
            assert [await one for one in waiting] == list(range(2, 42, 2))
            assert await other == 1
        assert await values_in(broker, a) == [b"%d%s" % (n, mark) for n in range(20) for mark in (b"", b"'")]

    async def test_stop_delivers_what_is_queued(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer()) as producer:
            await producer.send(partition, records(b"x"))
        assert await values_in(broker, partition) == [b"x"]

    async def test_a_record_too_large_is_refused_with_its_row_and_nothing_of_its_send_is_written(
        self, broker: Broker, unique: Unique
    ) -> None:
        """Raised by the send or its awaitable; the producer goes on."""
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.producer()) as producer:
            with pytest.raises(RecordTooLargeError) as caught:
                await (await producer.send(partition, records(b"small", b"x" * 30_000_000, b"small")))
            assert tuple(caught.value.rows) == (1,)
            await (await producer.send(partition, records(b"next")))
        assert await values_in(broker, partition) == [b"next"]

    async def test_a_topic_or_partition_that_is_missing_is_named(self, broker: Broker, unique: Unique) -> None:
        await new_topic(broker, unique("a"))
        async with started(broker.producer()) as producer:
            for partition in (Partition(unique("missing"), 0), Partition(unique("a"), 7)):
                with pytest.raises(ConfigurationError, match=partition.topic):
                    await (await producer.send(partition, records(b"x")))

    async def test_a_producer_that_is_not_started_says_so(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        with pytest.raises(ConfigurationError, match="not started"):
            await broker.producer().send(partition, records(b"x"))


class ReadingContract:
    """Readers outside any group."""

    async def test_an_empty_fetch_tells_that_a_partition_is_caught_up(self, broker: Broker, unique: Unique) -> None:
        """Once: then nothing until there is news."""
        [partition] = await new_topic(broker, unique("a"))
        async with started(broker.reader()) as reader:
            reader.assign({partition: 0})
            [fetch] = await polled(reader, bool)
            assert (len(fetch), fetch.first_offset, fetch.next_offset, fetch.end_offset) == (0, 0, 0, 0)
            assert fetch.caught_up
            assert await reader.poll(timeout_ms=50, records_max=10) == []
            await write(broker, partition, b"x")
            fetches = await polled(reader, lambda fetches: bool(fetches) and fetches[-1].caught_up)
            assert values_of(fetches) == [b"x"]
            assert reader.position(partition) == 1

    async def test_reading_begins_where_it_is_told_and_goes_on(self, broker: Broker, unique: Unique) -> None:
        [partition] = await new_topic(broker, unique("a"))
        await write(broker, partition, *(b"%d" % n for n in range(10)))
        async with started(broker.reader()) as reader:
            reader.assign({partition: 7})
            assert reader.position(partition) == 7
            fetches = await polled(reader, lambda fetches: reader.position(partition) == 10)
            assert values_of(fetches) == [b"7", b"8", b"9"]
            assert [fetch.offsets.tolist() for fetch in fetches if len(fetch)] == [[7, 8, 9]]
            reader.assign({partition: 9})
            fetches = await polled(reader, lambda fetches: reader.position(partition) == 10)
            assert values_of(fetches) == [b"9"]

    async def test_a_poll_brings_about_as_many_records_as_asked_for(self, broker: Broker, unique: Unique) -> None:
        """Whole record batches; nothing is lost between polls."""
        [partition] = await new_topic(broker, unique("a"))
        expected = [b"%d" % n for n in range(1_000)]
        for start in range(0, 1_000, 100):
            await write(broker, partition, *expected[start : start + 100])
        async with started(broker.reader()) as reader:
            reader.assign({partition: 0})
            first = await polled(reader, lambda fetches: any(map(len, fetches)), records_max=100)
            assert 0 < len(values_of(first)) <= 200
            rest = await polled(reader, lambda fetches: reader.position(partition) == 1_000, records_max=100)
            assert values_of([*first, *rest]) == expected

    async def test_a_poll_of_some_partitions_leaves_the_others(self, broker: Broker, unique: Unique) -> None:
        a, b = await new_topic(broker, unique("a"), 2)
        await write(broker, a, b"a")
        await write(broker, b, b"b")
        async with started(broker.reader()) as reader:
            reader.assign({a: 0, b: 0})
            fetches = await polled(reader, lambda fetches: reader.position(a) == 1, partitions=[a])
            assert {fetch.partition for fetch in fetches} == {a}
            assert reader.position(b) == 0
            fetches = await polled(reader, lambda fetches: reader.position(b) == 1)
            assert values_of(fetches) == [b"b"]

    async def test_offsets_by_time(self, broker: Broker, unique: Unique) -> None:
        """The first at or after the time; the end where there is none."""
        a, b = await new_topic(broker, unique("a"), 2)
        await write(broker, a, b"0", b"1", b"2", timestamps=[100, 200, 300])
        async with started(broker.reader()) as reader:
            found = [(await reader.offsets_at([a, b], time))[a] for time in (0, 100, 101, 300, 301)]
            assert found == [0, 0, 1, 2, 3]
            assert (await reader.offsets_at([a, b], 0))[b] == 0
            assert await reader.begin_offsets([a, b]) == {a: 0, b: 0}
            assert await reader.end_offsets([a, b]) == {a: 3, b: 0}
            assert await reader.end_offsets([]) == {}

    async def test_a_partition_that_was_not_assigned_has_no_position(self, broker: Broker, unique: Unique) -> None:
        a, b = await new_topic(broker, unique("a"), 2)
        async with started(broker.reader()) as reader:
            reader.assign({a: 0})
            reader.assign({b: 0})
            assert reader.position(b) == 0
            with pytest.raises(ConfigurationError, match="not assigned"):
                reader.position(a)

    async def test_nothing_assigned_gives_nothing(self, broker: Broker) -> None:
        async with started(broker.reader()) as reader:
            assert await reader.poll(timeout_ms=10, records_max=10) == []
