"""murmur2 as the Java client computes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.partitioner import murmur2, murmur2_column, murmur2_partitions

pytestmark = pytest.mark.usefixtures("way")

# key in hex, Utils.murmur2 (a signed int in Java), Utils.toPositive(...) % 12: printed by the Java class of Kafka 4.3.1
VECTORS: list[tuple[str, int, int]] = json.loads(Path(__file__).with_name("murmur2.json").read_text())

# The cases of Kafka's own UtilsTest.testMurmur2.
KAFKA = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


def binary(keys: list[bytes | None]) -> pa.LargeBinaryArray:
    return pa.array(keys, pa.large_binary())


@pytest.mark.parametrize(("key", "expected"), KAFKA)
def test_the_cases_of_kafkas_own_test(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32
    assert murmur2_column(binary([key])).astype(np.int32).tolist() == [expected]


def test_vectors_of_the_java_class() -> None:
    """All in one column (many lengths at once), long keys among them."""
    keys = binary([bytes.fromhex(key) for key, _, _ in VECTORS])
    assert murmur2_column(keys).astype(np.int32).tolist() == [expected for _, expected, _ in VECTORS]
    assert murmur2_partitions(keys, 12).tolist() == [partition for _, _, partition in VECTORS]


def test_one_by_one_agrees_with_the_java_class() -> None:
    assert [murmur2(bytes.fromhex(key)) for key, _, _ in VECTORS] == [expected % 2**32 for _, expected, _ in VECTORS]


@given(st.lists(st.none() | st.binary(max_size=40), max_size=30), st.integers(0, 5), st.integers(1, 100))
def test_a_column_and_its_slices_agree_with_one_by_one(keys: list[bytes | None], start: int, count: int) -> None:
    """Null keys get partition 0."""
    expected = [0 if key is None else (murmur2(key) & 0x7FFFFFFF) % count for key in keys[start:]]
    partitions = murmur2_partitions(binary(keys).slice(min(start, len(keys))), count)
    assert partitions.dtype == np.int32
    assert partitions.tolist() == expected


def test_a_topic_without_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one partition, got 0"):
        murmur2_partitions(binary([b"a"]), 0)
