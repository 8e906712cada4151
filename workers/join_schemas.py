"""What every join of two streams checks before it runs: its keys, its columns, its `how`. Each refusal names something close.

Columns of a result are the left's in their order, then the right's but for the keys, with a suffix where a name is taken.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import polars as pl

from ..topics.duration import duration_text
from ..topics.errors import SchemaError
from ..topics.key import key_text
from ..topics.schema import Schema
from .errors import PlanError
from .gathering import LATE_REASON

OUTER: Final[Mapping[str, tuple[bool, bool]]] = {
    "inner": (False, False),
    "left": (True, False),
    "right": (False, True),
    "outer": (True, True),
}
"""By `how`, whether unmatched rows of the left and of the right side are given."""


def joined_columns(step: str, on: Sequence[str], suffix: str, left: Schema, right: Schema) -> dict[str, pl.DataType]:
    """Names and types of the result's columns. Raises PlanError for keys that do not fit and for names that are taken."""
    check_keys(step, on, left, right)
    columns = dict(left)
    for column, renamed in right_names(on, suffix, left, right).items():
        if renamed in columns:
            raise PlanError(
                f"{step}: the right side's column {column!r} would be {renamed!r}, which is taken "
                f"({', '.join(columns)}); rename it before, or choose another suffix than {suffix!r}"
            )
        columns[renamed] = dict(right)[column]
    if LATE_REASON in columns:
        raise PlanError(f"{step}: rename the column {LATE_REASON!r}; late rows get one of that name")
    return columns


def right_names(on: Sequence[str], suffix: str, left: Schema, right: Schema) -> dict[str, str]:
    """Names in the output of the right side's columns that are not keys."""
    names = [name for name in right.names if name not in on]
    return {name: name + suffix if name in left else name for name in names}


def check_keys(step: str, on: Sequence[str], left: Schema, right: Schema) -> None:
    """Both sides have the key columns, of the same types."""
    if not on:
        raise PlanError(f"{step}: on= needs a column; rows are paired by equal keys")
    for column in on:
        for side, schema in (("left", left), ("right", right)):
            if column not in schema:
                hint = _close(column, schema.names)
                raise PlanError(
                    f"{step}: the {side} side has no column {column!r}{hint} Columns: {', '.join(schema.names)}"
                )
        kinds = dict(left)[column], dict(right)[column]
        if kinds[0] != kinds[1]:
            raise PlanError(
                f"{step}: key column {column!r} is {kinds[0]} on the left and {kinds[1]} on the right; cast one"
            )


def check_text_keys(step: str, on: Sequence[str], schema: Schema) -> None:
    """The keys can be written as texts, by which rows that wait are found."""
    try:
        key_text(schema.empty(), on)
    except SchemaError as error:
        raise PlanError(f"{step}: on=({', '.join(on)}) cannot be a key: {error}") from error


def check_option(step: str, name: str, given: object, options: Collection[str]) -> None:
    """`how`, `direction`: one of a few words."""
    if given not in options:
        raise PlanError(f"{step}: no {name}={given!r}{_close(str(given), options)} One of: {', '.join(options)}")


def check_grace(step: str, grace_ms: int) -> None:
    if grace_ms < 0:
        raise PlanError(f"{step}: grace must not be negative, got {duration_text(grace_ms)}")


def _close(given: str, options: Collection[str]) -> str:
    close = difflib.get_close_matches(given, options, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
