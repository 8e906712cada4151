"""Calling a user's Python function row by row, such that a row for which it raises costs only itself."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import polars as pl

from ..topics.batch import INTERNAL_COLUMNS, Batch
from ..topics.schema import Schema
from .operator import Context

Result = TypeVar("Result")


def apply_rows(
    function: Callable[[dict[str, Any]], Result], batch: Batch, context: Context
) -> tuple[list[Result], list[int]]:
    """What the function gave, and for which rows. Rows for which it raised are rejected through the context."""
    results: list[Result] = []
    rows: list[int] = []
    failed: list[int] = []
    reasons: list[str] = []
    for row, values in enumerate(batch.frame.select(batch.user_columns).iter_rows(named=True)):
        try:
            results.append(function(values))
            rows.append(row)
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises is that row's fault alone
            failed.append(row)
            reasons.append(failure_text(function, error))
    if failed:
        context.reject(batch, np.array(failed, np.int64), reasons)
    return results, rows


@dataclass(frozen=True, slots=True)
class Rows:
    """What a user's function gave: rows, and for each the number of the batch's row it came from."""

    rows: Sequence[Mapping[str, Any]]
    sources: Sequence[int]


def frame_of(given: Rows, batch: Batch, schema: Schema, context: Context, what: str) -> pl.DataFrame:
    """Rows a function gave, as a frame of the schema, with the internal columns of the rows they came from.

    A row that does not fit the schema is rejected with the column and the value.
    """
    try:
        frame = _strict_frame(given.rows, schema)
    except _UNFIT:
        given = _fitting(given, batch, schema, context, what)
        frame = _strict_frame(given.rows, schema)
    internal = [column for column in batch.frame.get_columns() if column.name in INTERNAL_COLUMNS]
    sources = list(given.sources)
    if sources != list(range(len(batch))):
        internal = [column[sources] for column in internal]
    return frame.hstack(internal)


_UNFIT = (TypeError, ValueError, OverflowError, AttributeError, pl.exceptions.PolarsError)


def _strict_frame(rows: Sequence[Mapping[str, Any]], schema: Schema) -> pl.DataFrame:
    data = {name: [row.get(name) for row in rows] for name in schema.names}
    return pl.DataFrame(data, schema=schema.polars(), strict=True)


def _fitting(given: Rows, batch: Batch, schema: Schema, context: Context, what: str) -> Rows:
    """The rows that fit; the batch's rows behind the others are rejected, each once."""
    misfits = [_misfit(row, schema) for row in given.rows]
    told: dict[int, str] = {}
    for source, reason in zip(given.sources, misfits, strict=True):
        if reason is not None:
            told.setdefault(source, f"{what} gave {reason}")
    context.reject(batch, np.array(list(told), np.int64), list(told.values()))
    good = [number for number, reason in enumerate(misfits) if reason is None]
    return Rows([given.rows[number] for number in good], [given.sources[number] for number in good])


def _misfit(row: Mapping[str, Any], schema: Schema) -> str | None:
    """Why a row does not fit; None where it does."""
    if not hasattr(row, "get"):
        return f"{type(row).__name__} {repr(row)[:80]}, expected a dict of columns"
    for name, kind in schema:
        value = row.get(name)
        if value is None:
            continue
        try:
            pl.Series([value], dtype=kind, strict=True)
        except _UNFIT:
            return f"{repr(value)[:80]} for column {name!r}, expected {kind}"
    return None


def flattened(results: Iterable[Iterable[Mapping[str, Any]]], rows: Sequence[int]) -> Rows:
    """The rows of several results in one list, each with the row it came from."""
    pairs = [(item, row) for items, row in zip(results, rows, strict=True) for item in items]
    return Rows([item for item, _ in pairs], [row for _, row in pairs])


def function_text(function: Callable[..., Any]) -> str:
    """How a function is named in plans and errors."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def failure_text(function: Callable[..., Any], error: Exception) -> str:
    """The function's name, the error, and where it was raised: the last line of the traceback."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{function_text(function)} raised {type(error).__name__}: {error} (line {last.lineno} in {last.name})"
