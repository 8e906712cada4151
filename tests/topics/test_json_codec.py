"""The `json` codec: what is accepted, alone and among a thousand others, where the fast way is taken."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.codecs.json import CODEC
from millstream.topics.errors import SchemaError
from millstream.topics.json_values import decode_rows
from millstream.topics.schema import Schema

pytestmark = pytest.mark.usefixtures("way")

MANY = 1_100  # above the fast way's minimum

# type, JSON of the value, what is read (an exception's text for a bad row)
TABLE = r"""
string    | "a"                        | 'a'
string    | ""                         | ''
string    | "12"                       | '12'
string    | "true"                     | 'true'
string    | "[1]"                      | '[1]'
string    | "{}"                       | '{}'
string    | "-"                        | '-'
string    | "t"                        | 't'
string    | "\"\\\n\u0000\ud83d\ude00" | '"\\\n\x00😀'
string    | "-1\n"                     | '-1\n'
string    | null                       | None
string    | 12                         | ! expected string, got 12 - at $.v
string    | 1.5                        | ! expected string, got 1.5 - at $.v
string    | true                       | ! expected string, got True - at $.v
string    | {"a": 1}                   | ! expected string, got {'a': 1} - at $.v
string    | ["a"]                      | ! expected string, got ['a'] - at $.v
string    | "\ud800"                   | ! not JSON: no low surrogate in string: line 1 column 7 (char 6)
int       | 12                         | 12
int       | -0                         | 0
int       | 9223372036854775807        | 9223372036854775807
int       | -9223372036854775808       | -9223372036854775808
int       | 9223372036854775808        | ! expected int, got 9223372036854775808 - at $.v
int       | 99999999999999999999       | ! expected int, got 1e+20 - at $.v
int       | "x"                        | ! expected int, got 'x' - at $.v
int       | "12"                       | ! expected int, got '12' - at $.v
int       | 1.5                        | ! expected int, got 1.5 - at $.v
int       | 1.0                        | ! expected int, got 1.0 - at $.v
int       | 1e2                        | ! expected int, got 100.0 - at $.v
int       | true                       | ! expected int, got True - at $.v
int       | []                         | ! expected int, got [] - at $.v
int32     | 2147483647                 | 2147483647
int32     | 2147483648                 | ! expected int32, got 2147483648 - at $.v
int32     | -2147483649                | ! expected int32, got -2147483649 - at $.v
uint8     | 255                        | 255
uint8     | 256                        | ! expected uint8, got 256 - at $.v
uint8     | -1                         | ! expected uint8, got -1 - at $.v
uint64    | 18446744073709551615       | 18446744073709551615
uint64    | -1                         | ! expected uint64, got -1 - at $.v
timestamp_ms | -5                      | -5
float     | 1                          | 1.0
float     | 1.5                        | 1.5
float     | -0.0                       | -0.0
float     | 0.30000000000000004        | 0.30000000000000004
float     | 5e-324                     | 5e-324
float     | 18446744073709551615       | 1.8446744073709552e+19
float     | "1"                        | ! expected float, got '1' - at $.v
float     | false                      | ! expected float, got False - at $.v
float     | NaN                        | ! not JSON
float     | Infinity                   | ! not JSON
float     | 1e400                      | ! not JSON
float32   | 0.5                        | 0.5
float32   | 1e300                      | ! expected float32, got 1e+300 - at $.v
float32   | -1e39                      | ! expected float32, got -1e+39 - at $.v
bool      | true                       | True
bool      | 0                          | ! expected bool, got 0 - at $.v
bool      | "true"                     | ! expected bool, got 'true' - at $.v
bytes     | "aGk="                     | b'hi'
bytes     | ""                         | b''
bytes     | "aGk"                      | ! expected bytes as base64, got 'aGk' - at $.v
bytes     | "1234"                     | b'\xd7m\xf8'
bytes     | 1234                       | ! expected bytes as base64, got 1234 - at $.v
datetime  | "2026-01-31T10:20:30.123Z" | 1769854830123
datetime  | "2026-01-31T10:20:30Z"     | 1769854830000
datetime  | "2026-01-31T10:20:30.123999Z" | 1769854830123
datetime  | "2026-01-31 10:20"         | 1769854800000
datetime  | "2026-01-31T10:20:30+05:30" | 1769835030000
datetime  | "2026-01-31"               | 1769817600000
datetime  | "1969-12-31T23:59:59.999Z" | -1
datetime  | "0001-01-01T00:00:00Z"     | -62135596800000
datetime  | "2026-02-30T00:00:00Z"     | ! expected datetime as in 2026-01-31T10:20:30.123Z, got '2026-02-30T00:00:00Z' - at $.v
datetime  | "2026-01-31T10:20:60Z"     | ! expected datetime as in
datetime  | "0000-01-01T00:00:00Z"     | ! expected datetime as in
datetime  | "yesterday"                | ! expected datetime as in 2026-01-31T10:20:30.123Z, got 'yesterday' - at $.v
datetime  | 1769854830123              | ! expected datetime as in 2026-01-31T10:20:30.123Z, got 1769854830123 - at $.v
ints      | [1, null, 2]               | [1, None, 2]
ints      | []                         | []
ints      | [1, "2"]                   | ! expected int, got '2' - at $.v[1]
ints      | [1.5]                      | ! expected int, got 1.5 - at $.v[0]
ints      | 5                          | ! expected array, got 5 - at $.v
floats32  | [1, 2.5, null]             | [1.0, 2.5, None]
floats32  | [1, 1e300]                 | ! expected float32, got 1e+300 - at $.v[1]
strings   | ["a", null]                | ['a', None]
strings   | ["a", 5]                   | ! expected string, got 5 - at $.v[1]
object    | {"a": 1, "b": ["x"]}       | {'a': 1, 'b': ['x']}
object    | {"z": 1}                   | {'a': None, 'b': None}
object    | {"a": "1"}                 | ! expected int, got '1' - at $.v.a
object    | {"b": ["x", 1]}            | ! expected string, got 1 - at $.v.b[1]
object    | [1]                        | ! expected object, got [1] - at $.v
"""

MORE_TYPES: dict[str, Any] = {
    "uint8": pl.UInt8(),
    "uint64": pl.UInt64(),
    "ints": pl.List(pl.Int64()),
    "floats32": pl.List(pl.Float32()),
    "strings": pl.List(pl.String()),
    "object": pl.Struct({"a": pl.Int64(), "b": pl.List(pl.String())}),
}

ROWS = [tuple(cell.strip() for cell in line.split(" | ")) for line in TABLE.strip().splitlines()]

# whole records of {"n": int, "s": string}
RECORDS: list[tuple[bytes, Any]] = [
    (b'{"n":1,"s":"a"}', (1, "a")),
    (b' {"n" : 1 ,\t"s"\r:\n"a"} ', (1, "a")),
    (b'{"n":1,"s":"a"}\n', (1, "a")),
    (b'\n{"n":1}\n\n', (1, None)),
    (b"{}", (None, None)),
    (b'{"other":{"n":5,"s":[1,2]},"n":1}', (1, None)),
    (b'{"n":1,"n":2}', (2, None)),
    (b'{"n":"x","n":2}', (2, None)),
    (b'{"n":2,"\\u006e":3}', (3, None)),
    (b'{"s":5,"s":"a"}', (None, "a")),
    (b'{"s":"5","x":{"s":6}}', (None, "5")),
    (b'{"s" :  "5"}', (None, "5")),
    (b'{"s":"a\\"n\\":1"}', (None, 'a"n":1')),
    (b'{"n":1,"n":"x"}', "expected int, got 'x' - at $.n"),
    (b'{"s":"a","s":5}', "expected string, got 5 - at $.s"),
    (b'{"s":5,"x":{"s":"5"}}', "expected string, got 5 - at $.s"),
    (b'{"\\u0073":5}', "expected string, got 5 - at $.s"),
    (b"", "not JSON"),
    (b"  ", "not JSON"),
    (b"\n", "not JSON"),
    (b"5", "expected an object, got 5 - at $"),
    (b"null", "expected an object, got None - at $"),
    (b'"x"', "expected an object, got 'x' - at $"),
    (b'[{"n":1}]', "expected an object, got [{'n': 1}] - at $"),
    (b'{"n":1}\n{"n":2}', "not JSON"),
    (b'{"n":1}{"n":2}', "not JSON"),
    (b'{"n":1} {"n":2}', "not JSON"),
    (b'{"n":1},', "not JSON"),
    (b'{"n":1', "not JSON"),
    (b'{"n":01}', "not JSON"),
    (b'{"n":1,}', "not JSON"),
    (b"{'n':1}", "not JSON"),
    (b'{"s":"a\nb"}', "not JSON"),
    (b'{"s":"a\tb"}', "not JSON"),
    (b'{"s":"\xff"}', "not JSON"),
    (b'{"x":"\xff"}', "not JSON"),
    (b'{"x":"\\ud800"}', "not JSON"),
    (b'\xef\xbb\xbf{"n":1}', "not JSON"),
    (b'{"n":1}\x00', "not JSON"),
    (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
    (b"\x00\x01\x02", "not JSON"),
]


def read_one(record: bytes, schema: Schema, around: bytes, many: int) -> Any:
    """What a record gives among many others: its row as a tuple, or the reason; the others must be untouched."""
    values: list[bytes | None] = [around] * many
    values.insert(many // 2, record)
    decoded = CODEC.decode(values, schema)
    row = many // 2
    others = decoded.frame
    found: Any
    if decoded.bad:
        assert [bad.row for bad in decoded.bad] == [row]
        assert decoded.rows is not None
        assert decoded.rows.tolist() == [number for number in range(many + 1) if number != row]
        found = decoded.bad[0].reason
    else:
        assert decoded.rows is None
        found = decoded.frame.slice(row, 1).rows()[0]
        others = pl.concat([decoded.frame.slice(0, row), decoded.frame.slice(row + 1)])
    expected, _, _ = decode_rows([around], schema)
    assert others.equals(pl.concat([expected] * many) if many else schema.empty())
    return found


def _cell(dtype: str, cell: Any) -> Any:
    if dtype == "datetime" and not isinstance(cell, str) and cell is not None:
        return int(cell.timestamp() // 1) * 1000 + cell.microsecond // 1000
    return cell


@pytest.mark.parametrize("many", [0, MANY])
@pytest.mark.parametrize(("kind", "text", "expected"), ROWS)
def test_a_value_of_a_type(kind: str, text: str, expected: str, many: int) -> None:
    """Strict: nothing is converted, nothing is lost, and the reason names value and place."""
    schema = Schema.of({"v": MORE_TYPES.get(kind, kind)})
    found = read_one(b'{"v":' + text.encode() + b"}", schema, b'{"v":null}', many)
    if expected.startswith("!"):
        assert isinstance(found, str)
        assert found.startswith(expected[2:])
    else:
        assert repr(_cell(kind, found[0])) == expected


@pytest.mark.parametrize("many", [0, MANY])
@pytest.mark.parametrize(("record", "expected"), RECORDS)
def test_a_record(record: bytes, expected: Any, many: int) -> None:
    schema = Schema.of({"n": "int", "s": "string"})
    found = read_one(record, schema, b'{"n":7,"s":"seven"}', many)
    if isinstance(expected, str):
        assert found.startswith(expected)
    else:
        assert found == expected


names = st.sampled_from(["n", "s", "f", "b", "x", "a,b", 'q"', "\u00e9", "t"])
SCHEMA = Schema.of(
    {"n": "int", "s": "string", "f": "float32", "a,b": "string", 'q"': "string", "x": "bytes", "t": "datetime"}
)
scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["12", "true", "-1.5", "[1]", "{}", '"n":', "aGk=", "2026-01-31T10:20:30Z", "2026-01-31", ","])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2))
escapes = st.booleans()


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """JSON objects of few names, some repeated, written in different ways; now and then damaged."""
    pairs = draw(st.lists(st.tuples(names, values), max_size=5))
    ascii_only, spaces = draw(st.booleans()), draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]))
    parts = [
        json.dumps(name, ensure_ascii=ascii_only)
        + spaces[1]
        + json.dumps(value, ensure_ascii=ascii_only, separators=spaces)
        for name, value in pairs
    ]
    text = ("{" + spaces[0].join(parts) + "}").encode("utf-8", "replace")
    return draw(st.sampled_from([text] * 9 + [text[:-1], b"", b"[]", text + b"\n", text.replace(b":", b":\n")]))


PLAIN_NAMES = Schema.of({name: dtype for name, dtype in SCHEMA if name != 'q"'})
"""The native library reads schemas whose names need no escapes."""


@given(st.lists(documents(), min_size=1, max_size=12), st.sampled_from([SCHEMA, PLAIN_NAMES]))
def test_the_fast_way_reads_what_the_slow_way_reads(records: list[bytes], schema: Schema) -> None:
    """Any records, among enough plain ones that the fast way is taken."""
    plain: list[bytes | None] = [
        b'{"n":1,"s":"a","f":1.5,"a,b":"c","q\\"":"d","x":"aGk=","t":"2026-01-31T10:20:30.5Z"}'
    ] * 600
    mixed = [*plain[:300], *records, *plain[300:]]
    decoded = CODEC.decode(mixed, schema)
    frame, rows, bad = decode_rows(mixed, schema)
    assert list(decoded.bad) == bad
    assert (list(range(len(mixed))) if decoded.rows is None else decoded.rows.tolist()) == rows
    assert decoded.frame.equals(frame)


@given(st.text(), st.text())
def test_names_and_texts_are_written_as_json_writes_them(name: str, text: str) -> None:
    [value] = CODEC.encode(pl.DataFrame({name: [text]})).to_pylist()
    assert value == orjson.dumps({name: text})


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series("v", [1.5, float("nan"), float("inf"), None]), [1.5, None, None, None]),
        (pl.Series("v", [2**63 - 1, -(2**63), 2**53 + 1]), [2**63 - 1, -(2**63), 2**53 + 1]),
        (pl.Series("v", [2**64 - 1], dtype=pl.UInt64), [2**64 - 1]),
        (pl.Series("v", [True, None]), [True, None]),
        (pl.Series("v", [None, None]), [None, None]),
        (pl.Series("v", ["a", "b"], dtype=pl.Categorical), ["a", "b"]),
        (pl.Series("v", [b"hi"]), [base64.b64encode(b"hi").decode()]),
        (pl.Series("v", [0, -1]).cast(pl.Datetime("ms")), ["1970-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z"]),
        (pl.Series("v", [0]).cast(pl.Datetime("us", "Europe/Berlin")), ["1970-01-01T00:00:00.000000Z"]),
        (pl.Series("v", [0]).cast(pl.Date), ["1970-01-01"]),
        (pl.Series("v", [[1, None], None, []]), [[1, None], None, []]),
        (pl.Series("v", [{"a": 'x"', "b": [1.5, float("nan")]}]), [{"a": 'x"', "b": [1.5, None]}]),
        (pl.Series("v", [[b"hi"]]), [["aGk="]]),
    ],
)
def test_a_column_is_written(column: pl.Series, expected: list[Any]) -> None:
    written = CODEC.encode(column.to_frame()).to_pylist()
    assert [orjson.loads(value or b"")["v"] for value in written] == expected


def test_a_slice_of_a_frame_is_written_as_the_slice() -> None:
    frame = pl.DataFrame({"a": [f'"{number}' for number in range(100)], "b": range(100)})
    assert CODEC.encode(frame.slice(50, 2)).to_pylist() == [b'{"a":"\\"50","b":50}', b'{"a":"\\"51","b":51}']


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pl.Series("gone", [1]).cast(pl.Duration("ms")), "column 'gone': JSON cannot carry Duration"),
        (
            pl.Series("far", [253_402_300_800_000]).cast(pl.Datetime("ms")),
            "column 'far': JSON carries datetimes of the years",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(column: pl.Series, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        CODEC.encode(column.to_frame())
