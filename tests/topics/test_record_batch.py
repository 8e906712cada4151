"""Record batches built from columns read back as what was put in, by aiokafka's own parser."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.batch import Headers, Records
from millstream.topics.errors import ConfigurationError, RecordTooLargeError
from millstream.topics.record_batch import record_batches

pytestmark = pytest.mark.usefixtures("way")

BYTES = st.one_of(st.none(), st.binary(max_size=200), st.just(b"x" * 20_000))
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.binary(max_size=9))), max_size=3).map(tuple)
ROW = st.tuples(BYTES, BYTES, st.integers(-(1 << 40), 1 << 45), HEADERS)


def columns(
    rows: list[tuple[bytes | None, bytes | None, int, Headers]], *, keys=True, times=True, headers=True
) -> Records:
    return Records(
        pa.array([row[0] for row in rows], pa.large_binary()) if keys else None,
        pa.array([row[1] for row in rows], pa.large_binary()),
        np.array([row[2] for row in rows], np.int64) if times else None,
        [row[3] for row in rows] if headers else None,
    )


@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    keys=st.booleans(),
    times=st.booleans(),
    headers=st.booleans(),
    compression=st.sampled_from(["none", "lz4", "zstd"]),
    rows_max=st.integers(1, 15),
    batch_bytes_max=st.sampled_from([100, 1_000, 1 << 20]),
)
def test_what_is_put_in_is_read_back(rows, keys, times, headers, compression, rows_max, batch_bytes_max):
    """Keys, values, timestamps and headers, nulls too, in order, whatever the cuts; checksums fit."""
    batches = record_batches(
        columns(rows, keys=keys, times=times, headers=headers),
        now_ms=77,
        compression=compression,
        rows_max=rows_max,
        batch_bytes_max=batch_bytes_max,
    )
    found = []
    for batch in batches:
        batch.stamp(5, 2, 9)
        written = batch.to_bytes()
        assert batch.size_bytes == len(written)
        read = DefaultRecordBatch(written)
        assert read.validate_crc()
        assert (read.producer_id, read.producer_epoch, read.base_sequence) == (5, 2, 9)
        records = list(read)
        assert [record.offset for record in records] == list(range(batch.count))
        assert batch.count <= rows_max
        assert read.max_timestamp == max(record.timestamp for record in records)
        found += [(r.key, r.value, r.timestamp, tuple(r.headers)) for r in records]
    expected = [(row[0] if keys else None, row[1], row[2] if times else 77, row[3] if headers else ()) for row in rows]
    assert expected == found


def test_slices_of_columns_are_sent_as_what_they_are():
    """Arrow slices share their parent's buffers; only the slice is written."""
    keys = pa.array([b"a", None, b"ccc", b"d"], pa.large_binary())[1:3]
    values = pa.array([b"1", b"22", b"333", b"4"], pa.large_binary())[1:3]
    (batch,) = record_batches(Records(keys, values), now_ms=1)
    assert [(None, b"22"), (b"ccc", b"333")] == [(r.key, r.value) for r in DefaultRecordBatch(batch.to_bytes())]


def test_the_transactional_bit():
    """Set exactly in batches of a transaction: brokers refuse others in one, and readers of committed data need it."""
    records = Records(None, pa.array([b"v"], pa.large_binary()))
    (plain,) = record_batches(records, now_ms=1)
    (inside,) = record_batches(records, now_ms=1, transactional=True)
    assert not DefaultRecordBatch(plain.to_bytes()).is_transactional
    assert DefaultRecordBatch(inside.to_bytes()).is_transactional


def test_layout():
    """Magic 2 at byte 16, the length without the first 12 bytes, the last offset delta."""
    (batch,) = record_batches(Records(None, pa.array([b"v", b"w"], pa.large_binary())), now_ms=1, compression="none")
    written = batch.to_bytes()
    assert written[16] == 2
    assert struct.unpack_from(">i", written, 8) == (len(written) - 12,)
    assert struct.unpack_from(">i", written, 23) == (1,)


def test_a_batch_ends_at_the_limit_of_bytes_but_holds_at_least_one_record():
    sizes = [400, 400, 400, 5_000, 10]
    records = Records(None, pa.array([b"x" * size for size in sizes], pa.large_binary()))
    batches = record_batches(records, now_ms=1, batch_bytes_max=1_000)
    assert [2, 1, 1, 1] == [batch.count for batch in batches]


def test_records_above_the_limit_are_named_and_nothing_is_built():
    records = Records(None, pa.array([b"", b"x" * 5_000, b"y", b"z" * 6_000], pa.large_binary()))
    with pytest.raises(
        RecordTooLargeError, match=r"row 1 has 5,021 bytes \(2 such rows\), the limit is 4,000"
    ) as caught:
        record_batches(records, now_ms=1, record_bytes_max=4_000)
    assert (1, 3) == caught.value.rows


def test_no_records_make_no_batch():
    assert [] == record_batches(Records(None, pa.array([], pa.large_binary())), now_ms=1)


def test_an_unknown_compression_is_refused():
    with pytest.raises(ConfigurationError, match="one of none, lz4, zstd"):
        record_batches(Records(None, pa.array([b""], pa.large_binary())), now_ms=1, compression="gzip")  # type: ignore[arg-type]
