"""Rows in and out by the command line's own functions, over the broker in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.ops.commands.topics import describe_lines, is_internal, list_lines
from millstream.ops.consume import Shown, as_cells, as_json, records_of
from millstream.ops.errors import InputError
from millstream.ops.produce import Row, key_of, row_of_argument, rows_of_lines, send, targets
from millstream.topics.broker import TopicSpec
from millstream.topics.key import key_bytes
from millstream.topics.memory import MemoryBroker
from millstream.topics.partitioner import murmur2

_ARGUMENTS = """
alice:{"page": "/"}  | alice | {"page": "/"}
{"page": "/"}        |       | {"page": "/"}
["a", 1]             |       | ["a", 1]
"a:b"                |       | "a:b"
hello                |       | hello
a:b:c                | a     | b:c
k:                   | k     |
"""


@pytest.mark.parametrize("line", _ARGUMENTS.strip().splitlines())
def test_an_argument_is_a_key_and_a_value(line: str) -> None:
    """Up to the first colon, unless it begins like JSON."""
    argument, key, value = (part.strip() for part in line.split("|"))
    assert row_of_argument(argument) == Row(key.encode() or None, value.encode())


def test_lines_are_values_and_fields_of_them_keys() -> None:
    lines = [b'{"u": "ada", "n": 1}\r\n', b"\n", b'{"u": null, "n": 2}']
    assert list(rows_of_lines(lines, ["u"], "f")) == [Row(b"ada", lines[0].strip()), Row(None, lines[2])]
    assert [row.key for row in rows_of_lines(lines, ["u", "n"], "f")] == [b'["ada",1]', b"[null,2]"]
    assert [row.key for row in rows_of_lines([b"any text"], [], "f")] == [None]


@given(st.lists(st.none() | st.text() | st.integers(-(2**53), 2**53) | st.booleans(), min_size=1, max_size=3))
def test_keys_are_those_the_engine_writes(parts: list[object]) -> None:
    """So that rows sent by hand meet rows written by a pipeline in one partition."""
    import polars as pl

    names = [f"c{number}" for number in range(len(parts))]
    frame = pl.DataFrame({name: [part] for name, part in zip(names, parts, strict=True)})
    if all(part is not None for part in parts):
        value = json.dumps(dict(zip(names, parts, strict=True))).encode()
        assert key_of(value, names, "x") == key_bytes(frame, names)[0].as_py()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"not json", "f:2: not JSON"),
        (b"[1]", "f:2: expected a JSON object for --key u, got [1]"),
        (b'{"v": 1}', "f:2: no field 'u' for the key; fields are v"),
    ],
)
def test_a_line_without_its_key_is_named(line: bytes, told: str) -> None:
    with pytest.raises(InputError) as raised:
        list(rows_of_lines([b'{"u": "a"}', line], ["u"], "f"))
    assert str(raised.value).startswith(told)


@given(st.lists(st.none() | st.binary(max_size=8), max_size=30), st.integers(1, 7), st.integers(0, 20))
def test_keyed_rows_go_where_java_sends_them_and_others_in_turn(
    keys: list[bytes | None], partitions: int, before: int
) -> None:
    expected = [
        (before + number) % partitions if key is None else (murmur2(key) & 0x7FFFFFFF) % partitions
        for number, key in enumerate(keys)
    ]
    assert targets([Row(key, b"") for key in keys], partitions, before) == expected


async def _broker(**partitions: int) -> MemoryBroker:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec(name, count) for name, count in partitions.items()])
    return broker


async def _read(broker: MemoryBroker, topic: str, partitions: int, **options: Any) -> list[Shown]:
    chosen: dict[str, Any] = {"from_beginning": True, "until_end": True, "limit": None} | options
    return [record async for record in records_of(broker, topic, partitions, **chosen)]


async def test_what_is_produced_is_consumed() -> None:
    broker = await _broker(clicks=3)
    rows = [Row(f"u{number % 4}".encode(), str(number).encode()) for number in range(12_000)]
    assert await send(broker, "clicks", 3, rows) == 12_000
    found = await _read(broker, "clicks", 3)
    assert sorted((record.key, record.value) for record in found) == sorted((row.key, row.value) for row in rows)
    for key in {row.key for row in rows}:
        in_order = [record.value for record in found if record.key == key]
        assert in_order == [row.value for row in rows if row.key == key]


async def test_a_limit_ends_it_and_without_the_beginning_only_what_is_new_is_shown() -> None:
    broker = await _broker(clicks=1)
    await send(broker, "clicks", 1, [Row(None, b"1"), Row(None, b"2"), Row(None, b"3")])
    assert [record.value for record in await _read(broker, "clicks", 1, limit=2)] == [b"1", b"2"]
    assert await _read(broker, "clicks", 1, from_beginning=False) == []


async def test_an_open_transaction_is_not_shown() -> None:
    from millstream.ops.produce import _records
    from millstream.topics.batch import Partition

    broker = await _broker(clicks=1)
    producer = broker.producer(transactional_id="t")
    await producer.start()
    await producer.begin()
    await (await producer.send(Partition("clicks", 0), _records([Row(None, b"1")])))
    assert await _read(broker, "clicks", 1, open_wait_ms=1) == []
    await producer.commit()
    assert [record.value for record in await _read(broker, "clicks", 1)] == [b"1"]
    await producer.stop()


_RECORDS = [
    (Shown(0, 1, 0, b"a", b'{"x":1}'), {"key": "a", "value": {"x": 1}}),
    (Shown(0, 1, 0, None, b"plain"), {"key": None, "value": "plain"}),
    (Shown(0, 1, 0, b"\xff", None), {"key": {"base64": "/w=="}, "value": None}),
    (Shown(0, 1, 0, b"[1]", b"\xff"), {"key": "[1]", "value": {"base64": "/w=="}}),
]


@pytest.mark.parametrize(("record", "expected"), _RECORDS)
def test_json_shows_json_as_it_is_then_text_then_base64(record: Shown, expected: dict[str, object]) -> None:
    assert json.loads(as_json(record, headers=False)) == {"partition": 0, "offset": 1, "timestamp": 0, **expected}


def test_headers_keep_their_order_and_repeat() -> None:
    record = Shown(2, 7, 1_500, b"k", b"v", (("a", b"1"), ("a", None), ("b", b"\xff")))
    assert json.loads(as_json(record, headers=True))["headers"] == [["a", "1"], ["a", None], ["b", {"base64": "/w=="}]]
    assert as_cells(record, headers=True) == ["2", "7", "1970-01-01 00:00:01.500", "k", "v", "a=1 a=null b=base64 /w=="]


async def test_topics_are_listed_without_the_internal_ones() -> None:
    broker = await _broker(clicks=3, totals=1)
    await broker.create_topics([TopicSpec("shop-w-changelog", 3), TopicSpec("shop-by-user-1-repartition", 3)])
    assert await list_lines(broker) == ["clicks  3 partitions", "totals  1 partition"]
    assert len(await list_lines(broker, internal=True)) == 4
    assert is_internal("__consumer_offsets")


async def test_a_topic_is_described_by_its_offsets() -> None:
    broker = await _broker(clicks=2)
    await send(broker, "clicks", 2, [Row(None, b"1"), Row(None, b"2"), Row(None, b"3")])
    lines = await describe_lines(broker, "clicks")
    assert lines[0] == "clicks: 2 partitions"
    assert [line.split() for line in lines[2:4]] == [["0", "0", "2", "2"], ["1", "0", "1", "1"]]


async def test_a_topic_that_is_not_there_is_said_with_a_close_one() -> None:
    broker = await _broker(clicks=1)
    with pytest.raises(InputError, match="no topic 'clikcs'; did you mean 'clicks'"):
        await describe_lines(broker, "clikcs")
