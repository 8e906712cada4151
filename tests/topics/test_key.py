"""Keys: UTF-8 of one string column, else a compact JSON array; both ways exact."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.errors import SchemaError
from millstream.topics.key import columns_of, key_bytes, key_text
from millstream.topics.schema import Schema

TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "s": (pl.String(), st.text()),
    "n": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "i": (pl.Int32(), st.integers(-(2**31), 2**31 - 1)),
    "f": (pl.Float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "b": (pl.Boolean(), st.booleans()),
    "x": (pl.Binary(), st.binary()),
}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"a": ["x", "\u00e4", "", None]}, [b"x", "\u00e4".encode(), b"", None]),
        ({"a": [7, None]}, [b"[7]", None]),
        ({"a": [b"hi"]}, [b'["aGk="]']),
        ({"a": ['q"', None], "b": [1, None]}, [b'["q\\"",1]', b"[null,null]"]),
        ({"a": ["x"], "b": [True], "c": [1.5]}, [b'["x",true,1.5]']),
        ({"a": [2**53 + 1], "b": [-1]}, [b"[9007199254740993,-1]"]),
    ],
)
def test_key_bytes(columns: dict[str, Any], expected: list[bytes | None]) -> None:
    assert key_bytes(pl.DataFrame(columns), list(columns)).to_pylist() == expected


def test_columns_stand_in_the_order_they_are_named() -> None:
    assert key_text(pl.DataFrame({"a": [1], "b": ["x"]}), ["b", "a"]).to_list() == ['["x",1]']


@given(st.data(), st.lists(st.sampled_from(sorted(TYPES)), min_size=1, unique=True), st.booleans())
def test_the_columns_come_back(data: st.DataObject, names: list[str], as_bytes: bool) -> None:
    """Through text and through bytes; two different keys never look the same."""
    rows = data.draw(st.lists(st.tuples(*(st.none() | TYPES[name][1] for name in names)), max_size=8))
    schema = Schema.of({name: TYPES[name][0] for name in names})
    frame = pl.DataFrame(rows, schema=schema.polars(), orient="row")
    keys = key_text(frame, names)
    read = columns_of(keys.cast(pl.Binary) if as_bytes else keys, schema)
    assert read.equals(frame)
    assert read.schema == frame.schema
    assert keys.n_unique() == frame.n_unique()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("x", "are not JSON arrays"),
        ("[1]", r"are arrays of 2, got \[1\]"),
        ("[1,2],[3,4]", "are arrays of 2, got 2 values in 1 keys"),
        ("7", "are arrays of 2, got 7"),
        ('["x","y"]', r"key: expected int, got 'y' - at \$\.n"),
        ('["x",true]', r"key: expected int, got True - at \$\.n"),
        ('["x",9223372036854775808]', r"key: expected int, got 9223372036854775808 - at \$\.n"),
    ],
)
def test_a_key_that_these_columns_did_not_make_is_refused(key: str, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        columns_of(pl.Series([key]), Schema.of({"s": "string", "n": "int"}))


def test_a_key_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"keys of \(s\) are not UTF-8"):
        columns_of(pl.Series([b"\xff"]), Schema.of({"s": "string"}))


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(SchemaError, match="key column 'user' is not among a, b"):
        key_text(pl.DataFrame({"a": [1], "b": [2]}), ["user"])


def test_a_key_of_no_columns_is_refused() -> None:
    with pytest.raises(SchemaError, match="at least one column"):
        key_text(pl.DataFrame({"a": [1]}), [])
