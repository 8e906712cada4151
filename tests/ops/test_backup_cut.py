"""When a shard's offsets and records belong together, and how far a backup is."""

from __future__ import annotations

import pytest

from millstream.ops.backup.cut import Seen, consistent_cut
from millstream.ops.backup.progress import Lines
from millstream.ops.errors import BackupError
from millstream.topics.batch import Partition
from millstream.topics.broker import Committed, TopicSpec
from tests.contracts.broker_tools import records, started
from tests.ops.backup_run import cluster

A, B = Partition("in", 0), Partition("in", 1)
C, D = Partition("shop-w-changelog", 0), Partition("shop-w-changelog", 1)

QUIET: dict[str, tuple[Seen, bool]] = {
    "nothing moved": (Seen({A: Committed(1)}, {C: 5}, {C: 5}, {A: Committed(1)}), True),
    "an offset was committed between": (Seen({A: Committed(1)}, {C: 5}, {C: 5}, {A: Committed(2)}), False),
    "a watermark was committed between": (Seen({A: Committed(1)}, {C: 5}, {C: 5}, {A: Committed(1, "w")}), False),
    "records are not stable": (Seen({A: Committed(1)}, {C: 6}, {C: 5}, {A: Committed(1)}), False),
    "another shard is busy": (
        Seen({A: Committed(1), B: Committed(1)}, {C: 5, D: 9}, {C: 5, D: 8}, {A: Committed(1), B: Committed(2)}),
        True,
    ),
    "a first commit may be pending": (Seen({}, {C: 5}, {C: 5}, {}), False),
}


@pytest.mark.parametrize("what", QUIET)
def test_when_a_shard_is_quiet(what: str) -> None:
    seen, expected = QUIET[what]
    assert seen.is_quiet(0, {}) == expected


def test_without_offsets_a_shard_is_quiet_when_its_records_stay() -> None:
    assert Seen({}, {C: 5}, {C: 5}, {}).is_quiet(0, {C: 5})


async def test_no_moment_is_told_with_the_shards_in_the_way() -> None:
    """A transaction that stays open."""
    broker = await cluster(1)
    await broker.create_topics([TopicSpec("shop-w-changelog", 2)])
    async with started(broker.producer(transactional_id="shop.1")) as producer:
        await producer.begin()
        await (await producer.send(D, records(b"x")))
        with pytest.raises(BackupError, match=r"commits all the time \(shards 1\).*stop its workers"):
            await consistent_cut(broker, "shop", [C, D], together=False, timeout_s=0.05)
        with pytest.raises(BackupError, match=r"shards 0, 1"):
            await consistent_cut(broker, "shop", [C, D], together=True, timeout_s=0.05)


def test_progress_is_told_once_a_second() -> None:
    lines: list[str] = []
    clock = iter([0.0, 0.0, 0.5, 1.5, 2.0, 4.0])
    told = Lines(lines.append, lambda: next(clock))
    for done in (0, 100, 300, 400, 1_000):
        told("records", done, 1_000 - done)
    assert lines == ["records: 300 of 1,000, 200 a second, 4 s left", "records: 1,000 of 1,000, 250 a second, 0 s left"]
