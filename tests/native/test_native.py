"""The native library: there where there is a compiler, safe on any bytes, and no other answers than Python's."""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import subprocess
import sys
from random import Random
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.native import loader as loading
from millstream.native.json_in import read_json
from millstream.native.loader import SWITCH, library
from millstream.native.records import (
    ByteSlices,
    ParsedRecords,
    RecordColumns,
    build_records,
    joined,
    parse_records,
    slices_of,
)
from millstream.topics.arrow_buffers import large_binary
from millstream.topics.json_text import json_objects, json_rows
from millstream.topics.json_values import decode_rows
from millstream.topics.schema import Schema

SCHEMA = Schema.of(
    {"text": "string", "number": "int", "share": "float", "small": pl.Int8(), "yes": "bool", "half": "float32"}
)
BYTES = st.lists(st.none() | st.binary(max_size=30))


@pytest.mark.skipif(not shutil.which("cc"), reason="without a C compiler there is no library, and that is fine")
def test_the_set_up_has_built_it():
    assert library() is not None


def test_a_switch_and_a_library_of_another_version_leave_it_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "VERSION", -1)
    assert library.__wrapped__() is None
    monkeypatch.setattr(loading, "FILE", tmp_path / "none.so")
    assert library.__wrapped__() is None
    (tmp_path / "none.so").write_bytes(b"no library")
    assert library.__wrapped__() is None
    done = subprocess.run(
        [sys.executable, "-c", "from millstream.native.loader import library; print(library())"],
        env={**os.environ, SWITCH: "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"


# -- slices


@given(BYTES, BYTES)
def test_slices_are_the_bytes_they_were_made_of(one: list[bytes | None], other: list[bytes | None]):
    parts = [slices_of(one), slices_of(other)]
    nothing = np.empty(0, np.int64)
    both = joined([ParsedRecords(part, part, nothing, nothing) for part in parts]).keys
    assert list(both) == [*one, *other] == [both[row] for row in range(len(both))]
    assert large_binary(both).to_pylist() == [*one, *other]
    rows = np.arange(len(both), dtype=np.int64)[::-2]
    assert list(both.taken(rows)) == [*one, *other][::-2]
    assert large_binary(both[1:]).to_pylist() == [*one, *other][1:]


# -- records


def records_of(rows: list[tuple[bytes | None, bytes | None, int]]) -> bytes:
    keys, values = (pa.array([row[at] for row in rows], pa.large_binary()) for at in (0, 1))
    times = np.array([row[2] for row in rows], np.int64)
    payload = sum(len(row[0] or b"") + len(row[1] or b"") for row in rows)
    built = build_records(RecordColumns(keys, values, None, times), range(len(rows)), 0, payload)
    assert built is not None
    return bytes(built)


ROWS = st.lists(st.tuples(*[st.none() | st.binary(max_size=200)] * 2, st.integers(-(2**63), 2**63 - 1)), min_size=1)


@given(ROWS)
def test_records_read_back_as_they_were_written(rows: list[tuple[bytes | None, bytes | None, int]]):
    parsed = parse_records(np.frombuffer(records_of(rows), np.uint8), len(rows))
    assert parsed is not None
    assert list(zip(parsed.keys, parsed.values, parsed.times.tolist(), strict=True)) == rows
    assert parsed.offsets.tolist() == list(range(len(rows)))


@given(ROWS, st.data())
def test_damaged_records_are_not_read_beyond_their_end(rows: list[tuple[bytes | None, bytes | None, int]], data: Any):
    """Cut, changed, or counted wrongly: no answer, or one whose every slice lies within the body."""
    body = bytearray(records_of(rows))
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=4)):
        body[at] = data.draw(st.sampled_from([0, 1, 2, 127, 128, 254, 255]))
    body = body[: data.draw(st.integers(1, len(body)))]
    parsed = parse_records(np.frombuffer(bytes(body), np.uint8), data.draw(st.integers(1, len(rows) + 2)))
    if parsed is not None:
        for column in (parsed.keys, parsed.values):
            present = column.lengths >= 0
            assert (column.lengths >= -1).all()
            assert (column.starts[present] >= 0).all()
            assert (column.starts + column.lengths)[present].max(initial=0) <= len(body)


# -- JSON in


def rule(records: list[bytes | None]) -> dict[int, dict[str, Any]]:
    frame, rows, _ = decode_rows(records, SCHEMA)
    return dict(zip(rows, frame.to_dicts(), strict=True))


def native(records: list[bytes | None]) -> tuple[list[dict[str, Any]], list[bool]]:
    read = read_json(slices_of(records), list(SCHEMA))
    assert read is not None
    return read[0].to_dicts(), read[1].tolist()


NUMBERS = (
    "0 -0 1 -1 127 128 -128 -129 255 1.0 1.5 -0.0 0.1 1e5 1E5 1e-5 1.e5 .5 01 -01 1e 1e+ 1e+2 - + 1_000 0x1 "
    "999999999999999999 1000000000000000000 9007199254740993 9007199254740993.0 123456789012345678.9 1e22 1e23 1e308 1e309 "
    "-1e309 5e-324 2e-324 2.2250738585072011e-308 0.30000000000000004 3.4028235e38 3.4028236e38 1.7976931348623157e308 "
    "100000000000000000000000000000000000000000000000000000000001 0.00000000000000000000000000000000000000000000000000000001 "
    "8.41 1.23456789012345678901234567890 9007199254740992e22 9007199254740992e-22 1e00000000000000000001 NaN Infinity -Infinity"
).split()
TEXTS = [
    '""', '"a"', '"twelve chars"', '"thirteen char"', r'"\n"', r'"\u0041"', r'"\u00e9"', r'"\u20ac"', r'"\ud83d\ude00"',
    r'"\ud800"', r'"\x"', r'"\u12"', r'"\u12g4"', r'"a long text with an \" escape and more"', r'"\/\b\f\n\r\t\\"',
    '"\u00e9\u20ac\U0001f600"',
    '"a\tb"', '"a\x7fb"', '"open', r'"open\"', '"open\\', '"12345678é"', r'"1234567\n89012"', "null", "nul", "true", "[]", "{}",
]  # fmt: skip
NOT_UTF8 = [
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"\xc3",
    b"\x80",
    b"\xf0\x80\x80\x80",
]
IGNORED = [
    "[1,[2,{}]]",
    '{"a":{"b":[]}}',
    "[1,]",
    "[",
    '{"a"}',
    '{"a":1,}',
    "1e999",
    "[" * 40 + "]" * 40,
    "tru",
    "[1 2]",
]


def records_of_the_table() -> list[bytes]:
    made = [
        f'{{"{name}":{number}}}' for number in NUMBERS for name in ("number", "share", "small", "half", "text", "else")
    ]
    made += [f'{{"{name}":{text}}}' for text in TEXTS for name in ("text", "number", "yes", "else")]
    made += [f'{{"else":{value},"number":1}}' for value in IGNORED]
    made += [
        "",
        " ",
        "{",
        "}",
        "{}",
        " {} ",
        "{}x",
        "{,}",
        '{"text"}',
        '{"text":}',
        '{"text":"a",}',
        '{"text" : "a" , "number" : 2 }',
    ]
    made += [
        '{"text":"a","text":"b"}',
        '{"\\u0074ext":"a"}',
        "\ufeff{}",
        '[{"text":"a"}]',
        '{"text":"a"}{"text":"b"}',
        '{"te":1}',
    ]
    return [*(text.encode() for text in made), *(b'{"text":"' + bad + b'"}' for bad in NOT_UTF8)]


def agree(records: list[bytes | None]) -> list[bool]:
    """Where it does not doubt, it reads what the rule reads. Which rows it doubts."""
    expected = rule(records)
    rows, doubtful = native(records)
    for number, (row, doubt) in enumerate(zip(rows, doubtful, strict=True)):
        if not doubt:
            assert number in expected, records[number]
            assert repr(expected[number]) == repr(row), records[number]
    return doubtful


def test_it_reads_what_the_rule_reads_or_doubts():
    records = records_of_the_table()
    doubtful = agree([*records, None])
    assert doubtful[-1]
    plain = {
        b'{"number":1}',
        b'{"share":8.41}',
        b'{"text":"a"}',
        b'{"yes":true}',
        b'{"else":[1,[2,{}]],"number":1}',
        b"{}",
    }
    assert [record for record, doubt in zip(records, doubtful, strict=False) if record in plain and doubt] == []


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.sampled_from(["%r", "%.2f", "%.17g", "%e", "%.25f"]),
)
def test_floats_are_read_as_python_reads_them(numbers: list[float], form: str):
    texts = [form % number for number in numbers]
    agree([f'{{"share":{text}}}'.encode() for text in texts])


@given(st.integers(0, 2**63), st.data())
def test_damaged_json_is_read_as_the_rule_reads_it(seed: int, data: Any):
    draw = Random(seed)
    whole = [record for record in records_of_the_table() if len(record) > 4]
    records: list[bytes | None] = []
    for _ in range(30):
        record = bytearray(draw.choice(whole))
        for _ in range(draw.randrange(3)):
            at = draw.randrange(len(record))
            if draw.random() < 0.3:
                del record[at:]
                break
            record[at] = draw.choice(b'{}[]:," \\\n01e.-tfnu\x00\xc3\xff')
        records.append(bytes(record) or b"{")
    agree(records)


def test_texts_of_all_lengths_and_columns_without_a_value():
    for length in (0, 1, 7, 8, 11, 12, 13, 16, 1000):
        records = [json.dumps({"text": "x" * length}).encode(), b"{}", json.dumps({"text": "é" * length}).encode()]
        frame, doubtful = read_json(slices_of(records), list(SCHEMA)) or (None, None)
        assert frame is not None
        assert doubtful is not None
        assert not doubtful.any()
        assert frame["text"].to_list() == ["x" * length, None, "é" * length]
        assert frame["number"].null_count() == 3


def test_what_it_cannot_read_is_left_to_python():
    nothing = slices_of([b"{}"])
    assert read_json(nothing, []) is None
    assert read_json(nothing, [("list", pl.List(pl.Int64()))]) is None
    assert read_json(nothing, [('a "name"', pl.Int64())]) is None
    assert read_json(nothing, [(f"field{number}", pl.Int64()) for number in range(65)]) is None


# -- JSON out

FRAMES = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.text(),
            "share": st.none() | st.floats(),
            "price": st.none() | st.decimals(-(10**6), 10**6, places=2).map(float),
            "number": st.none() | st.integers(-(2**63), 2**63 - 1),
            "big": st.none() | st.integers(0, 2**64 - 1),
            "yes": st.none() | st.booleans(),
        }
    ),
    min_size=1,
)
TYPES = {
    "text": pl.String,
    "share": pl.Float64,
    "price": pl.Float64,
    "number": pl.Int64,
    "big": pl.UInt64,
    "yes": pl.Boolean,
}


def texts_of(frame: pl.DataFrame) -> list[bytes]:
    return [text or b"" for text in json_rows(frame).to_pylist()]


@given(FRAMES)
def test_rows_are_written_as_python_writes_them(rows: list[dict[str, Any]]):
    """The same text, but for a float of at most 15 digits that is written in another of its shortest forms."""
    frame = pl.DataFrame(rows, schema=TYPES)
    for written, expected, row in zip(texts_of(frame), json_objects(frame), rows, strict=True):
        assert orjson.loads(written) == orjson.loads(expected)
        for name in ("share", "price"):
            kept = row[name] if row[name] is not None and math.isfinite(row[name]) else None
            assert orjson.loads(written)[name] == kept


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1), st.integers(0, 8))
def test_decimals_are_written_with_their_digits_and_no_others(whole: list[int], places: int):
    numbers = [number / 10**places for number in whole]
    written = texts_of(pl.DataFrame({"v": numbers}))
    digits = [len(repr(number).replace("e-0", "e-").lstrip("-0.").replace(".", "").split("e")[0]) for number in numbers]
    for text, number, most in zip(written, numbers, digits, strict=True):
        assert float(text[5:-1]) == number
        assert len(text[5:-1].lstrip(b"-0.").replace(b".", b"").split(b"e")[0]) <= most


def test_slices_of_columns_are_written_as_the_slice():
    frame = pl.DataFrame({"a": ["x", None, "a text of more than twelve"] * 3, "b": [1.5, None, 2.0] * 3})[1:3]
    assert json_rows(frame).to_pylist() == [b'{"a":null,"b":null}', b'{"a":"a text of more than twelve","b":2.0}']


def test_structures_are_as_wide_as_in_c():
    """A change of one side alone would read other memory."""
    from millstream.native import json_in, json_out

    assert [ctypes.sizeof(one) for one in (loading.BinaryColumn, json_in._Field, json_out._Cells)] == [32, 56, 56]


def test_bytes_are_made_of_the_values_asked_for_only():
    column = ByteSlices(np.frombuffer(b"abcdef", np.uint8), np.array([4, 0, 2]), np.array([2, -1, 1]))
    assert (column[0], column[1], column[-1], len(column)) == (b"ef", None, b"c", 3)
