"""Columns from fetch answers are exactly what aiokafka's stock path makes of them, record by record."""

from __future__ import annotations

from random import Random

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.topics.batch import Partition
from millstream.topics.errors import BrokerUnavailableError, ConfigurationError
from millstream.topics.kafka.fetch import RecordSet
from tests.topics.kafka.logs import Log, batch, random_log

pytestmark = pytest.mark.usefixtures("way")

PLACE = Partition("t", 3)
EVERYTHING = 1 << 40


def stock(log: Log, data: bytes, fetch_offset: int, *, committed: bool) -> tuple[list[tuple], int]:
    records = PartitionRecords(
        TopicPartition("t", 3),
        MemoryRecords(data),
        list(log.aborted),
        fetch_offset,
        None,
        None,
        True,
        READ_COMMITTED if committed else READ_UNCOMMITTED,
    )
    found = [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]
    return found, records.next_fetch_offset


def unread(log: Log, data: bytes, fetch_offset: int, *, committed: bool) -> RecordSet:
    return RecordSet(
        PLACE,
        data,
        fetch_offset=fetch_offset,
        end_offset=log.end,
        aborted=log.aborted,
        read_committed=committed,
        check_crcs=True,
    )


def taken(records: RecordSet, records_max: int) -> tuple[list[tuple], int]:
    """All of it, in takes of about `records_max`; checks what holds of every fetch."""
    found: list[tuple] = []
    at = records.next_offset
    while not records.exhausted:
        fetch = records.take(records_max=records_max, bytes_max=EVERYTHING)
        assert fetch.partition == PLACE
        assert fetch.first_offset == at
        at = fetch.next_offset
        assert len(fetch.keys) == len(fetch.values) == len(fetch.offsets) == len(fetch.timestamps)
        if len(fetch):
            assert fetch.first_offset <= fetch.offsets[0]
            assert fetch.offsets[-1] < fetch.next_offset
        rows = zip(fetch.offsets.tolist(), fetch.timestamps.tolist(), fetch.keys, fetch.values, strict=True)
        found += [(*row, fetch.headers.get(number, ())) for number, row in enumerate(rows)]
    assert at == records.next_offset
    return found, at


@settings(max_examples=300)
@given(
    seed=st.integers(0, 1 << 32),
    batches=st.integers(1, 25),
    committed=st.booleans(),
    records_max=st.sampled_from([1, 10, 100_000]),
    cut=st.integers(0, 70),
    skip=st.integers(0, 400),
)
def test_random_logs_read_as_by_the_stock_path(seed, batches, committed, records_max, cut, skip):
    """Any mixture of transactions, compaction and codecs, from any offset, the last batch cut off by the broker."""
    log = random_log(Random(seed), batches=batches)
    start = max(log.end - 2_000, 0) + skip
    answer = log.answer(start)
    data = answer[: len(answer) - cut]
    expected = stock(log, data, start, committed=committed)
    assert expected == taken(unread(log, data, start, committed=committed), records_max)


def test_an_empty_batch_left_by_compaction_moves_the_position():
    log = Log([batch(Random(1), 10, [], last_delta=4)], end=15)
    fetch = unread(log, log.data, 10, committed=True).take(records_max=9, bytes_max=EVERYTHING)
    assert (0, 10, 15, True) == (len(fetch), fetch.first_offset, fetch.next_offset, fetch.caught_up)


def test_a_wrong_checksum_is_told_and_gives_no_record_of_its_batch():
    log = random_log(Random(3), batches=1)
    broken = log.data[:-1] + bytes([log.data[-1] ^ 1])
    with pytest.raises(BrokerUnavailableError, match="t-3: the checksum of the batch at offset"):
        unread(log, broken, 0, committed=True).take(records_max=9, bytes_max=EVERYTHING)


def test_an_answer_without_one_whole_batch_is_a_setting_too_small():
    log = random_log(Random(3), batches=1)
    with pytest.raises(ConfigurationError, match=r"max\.partition\.fetch\.bytes"):
        unread(log, log.data[:40], 0, committed=True).check_not_cut()


def test_a_take_ends_with_the_batch_that_reaches_the_limit_of_bytes():
    draw = Random(5)
    row = (0, None, b"x" * 1_000, 1, [])
    log = Log([batch(draw, offset, [row], last_delta=0) for offset in range(10)], end=10)
    fetch = unread(log, log.data, 0, committed=True).take(records_max=1_000, bytes_max=2_500)
    assert (3, 3) == (len(fetch), fetch.next_offset)
