"""What every codec promises: exact values both ways, and a bad record never costs its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.topics.codec_of import codec_named, codec_names
from millstream.topics.errors import ConfigurationError, SchemaError
from millstream.topics.schema import Schema

SCHEMAS = {
    "json": Schema.of({"s": "string", "n": "int", "f": "float", "b": "bool", "x": "bytes", "t": "datetime"}),
    "raw": Schema.of({"value": "bytes"}),
    "text": Schema.of({"text": "string"}),
}

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    pl.String(): st.text(),
    pl.Int64(): st.integers(-(2**63), 2**63 - 1),
    pl.Float64(): st.floats(allow_nan=False, allow_infinity=False),
    pl.Boolean(): st.booleans(),
    pl.Binary(): st.binary(),
    pl.Datetime("ms", "UTC"): st.integers(-62_135_596_800_000, 253_402_300_799_999),
}

BLOCKS = {"arrow"}
"""Codecs of our own topics, whose record holds many rows: they promise something else and have their own tests."""

each_codec = pytest.mark.parametrize("name", sorted(SCHEMAS))


def frames(schema: Schema, *, nulls: bool) -> st.SearchStrategy[pl.DataFrame]:
    """Frames of this schema with any values."""
    cells = [st.none() | VALUES[dtype] if nulls else VALUES[dtype] for _, dtype in schema]

    def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
        columns = list(zip(*rows, strict=True)) or [()] * len(cells)
        return pl.DataFrame(
            [
                pl.Series(name, column, dtype=pl.Int64).cast(dtype)
                if isinstance(dtype, pl.Datetime)
                else pl.Series(name, column, dtype=dtype)
                for (name, dtype), column in zip(schema, columns, strict=True)
            ]
        )

    return st.lists(st.tuples(*cells), max_size=20).map(frame)


def test_every_codec_has_a_schema_here() -> None:
    assert set(codec_names()) - BLOCKS == set(SCHEMAS)


@each_codec
def test_it_is_named_as_its_file(name: str) -> None:
    assert codec_named(name).name == name


@each_codec
@given(data=st.data(), copies=st.sampled_from([1, 60]))
def test_what_is_written_is_read_back(name: str, data: st.DataObject, copies: int) -> None:
    """Exactly, in few rows and in many (other ways are taken for many)."""
    codec, schema = codec_named(name), SCHEMAS[name]
    frame = data.draw(frames(schema, nulls=name == "json"))
    frame = pl.concat([frame] * copies)
    written = codec.encode(frame)
    assert len(written) == frame.height
    assert written.null_count == 0
    decoded = codec.decode(written.to_pylist(), schema)
    assert decoded.bad == () or decoded.bad == []
    assert decoded.rows is None
    assert decoded.frame.equals(frame)
    assert decoded.frame.schema == frame.schema


@each_codec
def test_null_values_are_bad_rows_and_their_neighbours_are_read(name: str) -> None:
    codec, schema = codec_named(name), SCHEMAS[name]
    one = {"json": b'{"s":"a"}', "raw": b"a", "text": b"a"}[name]
    decoded = codec.decode([one, None, one, None], schema)
    assert [(bad.row, bad.reason) for bad in decoded.bad] == [(1, "null value"), (3, "null value")]
    assert decoded.rows is not None
    assert decoded.rows.tolist() == [0, 2]
    assert decoded.rows.dtype == np.int64
    assert decoded.frame.to_series().to_list() == ([b"a", b"a"] if name == "raw" else ["a", "a"])


@each_codec
def test_no_records_give_an_empty_frame_of_the_schema(name: str) -> None:
    decoded = codec_named(name).decode([], SCHEMAS[name])
    assert decoded.frame.equals(SCHEMAS[name].empty())
    assert decoded.frame.schema == SCHEMAS[name].empty().schema
    assert len(codec_named(name).encode(SCHEMAS[name].empty())) == 0


@each_codec
def test_its_own_schema_passes_the_check(name: str) -> None:
    codec_named(name).check(SCHEMAS[name])


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("raw", {"a": "bytes", "b": "bytes"}, "the schema has a: Binary, b: Binary"),
        ("raw", {"a": "string"}, "raw codec carries one Binary column"),
        ("text", {"a": "int"}, "text codec carries one String column"),
        ("json", {"good": "int", "spent": pl.Duration("ms")}, "column 'spent': JSON cannot carry"),
        ("json", {"o": pl.Struct({"d": pl.Date()})}, "column 'o': JSON cannot carry Date"),
    ],
)
def test_a_schema_that_cannot_be_carried_is_refused_by_name(name: str, columns: Any, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        codec_named(name).check(Schema.of(columns))


@pytest.mark.parametrize("name", ["raw", "text"])
def test_a_frame_that_cannot_be_written_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="the frame has a: Int64"):
        codec_named(name).encode(pl.DataFrame({"a": [1]}))


def test_a_codec_that_is_none_is_refused_with_the_closest_one() -> None:
    with pytest.raises(ConfigurationError, match=r"no codec 'jsn'; did you mean 'json'\? Codecs: .*json, raw, text"):
        codec_named("jsn")


def test_a_path_is_no_codec() -> None:
    with pytest.raises(ConfigurationError, match="no codec"):
        codec_named("..schema")


def test_text_that_is_not_utf8_says_where() -> None:
    decoded = codec_named("text").decode([b"ok", b"ab\xffc", None], SCHEMAS["text"])
    assert [(bad.row, bad.reason) for bad in decoded.bad] == [
        (1, "not UTF-8: invalid start byte at byte 2"),
        (2, "null value"),
    ]
    assert decoded.frame["text"].to_list() == ["ok"]
