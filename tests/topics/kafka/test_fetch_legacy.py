"""Message formats 0 and 1, which old topics of brokers before 4.0 may hold."""

from __future__ import annotations

import struct

import pytest
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from millstream.topics.batch import Partition
from millstream.topics.kafka.fetch import RecordSet


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1, 2])
def test_legacy_records_are_read(magic, codec):
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for offset in range(3):
        builder.append(offset, timestamp=100 + offset, key=b"k%d" % offset, value=None if offset == 1 else b"v")
    stored = bytearray(builder.build())
    if codec:
        struct.pack_into(">q", stored, 0, 2)  # a broker gives the wrapper of compressed messages the last one's offset
    records = RecordSet(
        Partition("t", 0),
        bytes(stored),
        fetch_offset=1,
        end_offset=3,
        aborted=None,
        read_committed=True,
        check_crcs=True,
    )
    found = [records.take(records_max=1, bytes_max=1 << 20) for _ in iter(lambda: records.exhausted, True)]
    rows = [row for fetch in found for row in zip(fetch.offsets.tolist(), fetch.keys, fetch.values, strict=True)]
    assert [(1, b"k1", None), (2, b"k2", b"v")] == rows
    assert 3 == records.next_offset
    if magic == 1:
        assert [101, 102] == [time for fetch in found for time in fetch.timestamps.tolist()]
