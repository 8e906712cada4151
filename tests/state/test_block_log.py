"""Blocks of a changelog are merged as they become many; what they say stays the same."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.state.block_log import FAN_IN, Block, BlockLog, Covered
from millstream.state.join_runs import Ints
from millstream.state.keys import key_int

KIB = 1 << 10


def log_of(bytes_max: int = 512 * KIB, span_ms_max: int = 1 << 60) -> BlockLog[Ints]:
    return BlockLog(
        b"L", np.concatenate, lambda numbers: numbers.tobytes(), bytes_max=bytes_max, span_ms_max=span_ms_max
    )


def block(first: int, rows: int, dies_at: int = 0) -> Block[Ints]:
    numbers = np.arange(first, first + rows)
    return Block(first, first + rows, numbers, numbers.nbytes, dies_at)


def told(written: dict[bytes, bytes]) -> list[int]:
    """All numbers, block by block."""
    return [int(number) for _, value in sorted(written.items()) for number in np.frombuffer(value, np.int64)]


def follow(written: dict[bytes, bytes], log: BlockLog[Ints], watermark: int = -1) -> int:
    """Does to `written` what the log says; how many bytes."""
    size = 0
    for key, value in log.take(watermark):
        if value is None:
            del written[key]  # a key that is deleted was there
        else:
            written[key] = value
            size += len(value)
    return size


@pytest.mark.parametrize(("rows", "commits"), [(1, 1_000), (10, 1_000), (100, 1_000), (1, 40_000)])
def test_blocks_are_few_and_rows_are_written_a_few_times(rows: int, commits: int) -> None:
    """Fewer than eight a level and, where a block is as large as it may be, as many as the bytes need; each byte is written once a
    level."""
    log, written = log_of(), dict[bytes, bytes]()
    size = 0
    for number in range(commits):
        log.add(block(number * rows, rows))
        size += follow(written, log)
    assert told(written) == list(range(rows * commits))
    levels = 1 + int(np.log(commits) / np.log(FAN_IN))
    full = rows * commits * 8 // (32 * KIB)
    assert len(written) == log.blocks <= (FAN_IN - 1) * levels + full
    assert size <= (1 + levels) * 8 * rows * commits
    assert max(map(len, written.values())) <= 512 * KIB
    assert log.size_bytes <= 512 * KIB * (FAN_IN - 1)


@settings(max_examples=100)
@given(st.integers(0, 1 << 40), st.sampled_from([100, 1_000, 100_000]), st.sampled_from([0, 20, 1_000]))
def test_it_says_the_same_as_unmerged_blocks(seed: int, bytes_max: int, span_ms_max: int) -> None:
    """Blocks of any size, gaps between their numbers, several a commit, deaths in between, and a restart anywhere."""
    chance, log, written = random.Random(seed), log_of(bytes_max, span_ms_max), dict[bytes, bytes]()
    first, dies_at, watermark = 0, 0, -1
    living: list[tuple[int, int, int]] = []
    for _ in range(chance.randrange(1, 60)):
        for _ in range(chance.randrange(3)):
            rows = chance.choice([1, 1, 2, 5, bytes_max // 16 + 1])
            first += chance.choice([0, 0, 0, 0, 7])
            log.add(block(first, rows, dies_at))
            living.append((first, first + rows, dies_at))
            first += rows
            dies_at += chance.choice([0, 1, 30])
        watermark = max(watermark, dies_at - chance.randrange(200))
        follow(written, log, watermark)
        living = [one for one in living if one[2] >= watermark]
        there = told(written)
        assert there == sorted(there)
        assert {number for begin, end, _ in living for number in range(begin, end)} <= set(there)
        if chance.random() < 0.1:
            log = log_of(bytes_max, span_ms_max)
            for key, value in sorted(written.items()):
                numbers = np.frombuffer(value, np.int64)
                dies = max(death for begin, _, death in living if begin <= numbers[-1])
                log.add(Block(key_int(key, 1), int(numbers[-1]) + 1, numbers, numbers.nbytes, dies, logged=True))
    follow(written, log, dies_at + 1)
    assert written == {}


def test_parts_that_a_broken_write_left_are_found() -> None:
    """A merged block and, behind it, some of what it was made of; the next block is none of these."""
    covered = Covered()
    assert [covered.has(end, dies_at) for end, dies_at in [(80, 9), (20, 3), (80, 9), (90, 9), (85, 12)]] == [
        False,
        True,
        True,
        False,
        False,
    ]
