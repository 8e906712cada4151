"""Random partitions as a broker stores them: transactions committed, aborted and open, compaction, codecs, headers."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random

import google_crc32c
from aiokafka.record.default_records import DefaultRecordBatchBuilder

CODECS = (0, 1, 2, 3, 4)  # none, gzip, snappy, lz4, zstd
_CONTROL_VALUE = struct.pack(">hi", 0, 0)


@dataclass
class Log:
    """Batches in offset order, and what a broker would say of aborted transactions."""

    batches: list[bytes] = field(default_factory=list)
    aborted: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0

    @property
    def data(self) -> bytes:
        return b"".join(self.batches)

    def answer(self, offset: int) -> bytes:
        """What a broker gives from this offset on: whole batches, the first of which holds it."""
        return b"".join(batch for batch in self.batches if last_offset(batch) >= offset)


def last_offset(batch: bytes) -> int:
    base, delta = struct.unpack_from(">q", batch, 0)[0], struct.unpack_from(">i", batch, 23)[0]
    return int(base + delta)


def batch(
    draw: Random,
    base: int,
    rows: list[tuple[int, bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]],
    *,
    last_delta: int,
    producer: int = -1,
    transactional: bool = False,
    control: bool = False,
    log_append_ms: int | None = None,
) -> bytes:
    """`rows`: offset delta, key, value, timestamp, headers; gaps in the deltas are what compaction took out."""
    builder = DefaultRecordBatchBuilder(
        2, draw.choice(CODECS) if rows and not control else 0, int(transactional), producer, 0, 0, 1 << 30
    )
    for delta, key, value, timestamp, headers in rows:
        assert builder.append(delta, timestamp, key, value, headers) is not None
    made = bytearray(builder.build())
    attributes = struct.unpack_from(">h", made, 21)[0] | (0x20 if control else 0)
    struct.pack_into(">q", made, 0, base)
    if log_append_ms is not None:
        attributes |= 0x08
        struct.pack_into(">q", made, 35, log_append_ms)
    struct.pack_into(">hi", made, 21, attributes, last_delta)
    struct.pack_into(">I", made, 17, google_crc32c.value(bytes(made[21:])))
    return bytes(made)


def random_log(draw: Random, *, batches: int) -> Log:
    """Three transactional producers and a plain one, interleaved."""
    log = Log(end=draw.randrange(1000))
    began: dict[int, int] = {}
    for _ in range(batches):
        producer = draw.randrange(4)
        if producer in began and draw.random() < 0.4:
            _end_transaction(draw, log, producer, began.pop(producer))
            continue
        if producer:
            began.setdefault(producer, log.end)
        rows, last_delta = _rows(draw)
        append_ms = draw.randrange(10**12) if draw.random() < 0.2 else None
        log.batches.append(
            batch(
                draw,
                log.end,
                rows,
                last_delta=last_delta,
                producer=producer or -1,
                transactional=bool(producer),
                log_append_ms=append_ms,
            )
        )
        log.end += last_delta + 1
    return log


def _end_transaction(draw: Random, log: Log, producer: int, first: int) -> None:
    commit = draw.random() < 0.5
    if not commit:
        log.aborted.append((producer, first))
    key = struct.pack(">hh", 0, int(commit))
    row = (0, key, _CONTROL_VALUE, 5, [])
    log.batches.append(batch(draw, log.end, [row], last_delta=0, producer=producer, transactional=True, control=True))
    log.end += 1


def _rows(
    draw: Random,
) -> tuple[list[tuple[int, bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]], int]:
    count = draw.choice([1, 2, 5, 40, 300])
    with_headers = draw.random() < 0.4
    compacted = draw.random() < 0.4
    same_time = draw.random() < 0.4
    base_ms = draw.randrange(10**13)
    rows = []
    for delta in range(count):
        if compacted and draw.random() < 0.5:
            continue
        headers = [(draw.choice("abc"), draw.choice([None, b"", b"h"]))] if with_headers and draw.random() < 0.3 else []
        time = base_ms if same_time else base_ms + draw.randrange(-5000, 5000)
        rows.append((delta, _bytes(draw), _bytes(draw), time, headers))
    return rows, count - 1


def _bytes(draw: Random) -> bytes | None:
    size = draw.choice([None, 0, 1, 30, 500])
    return None if size is None else draw.randbytes(size)
