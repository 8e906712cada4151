"""What every windowed aggregation does alike: its schemas and checks, keys of rows, values to gather, rows of results."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..state.slots import Accumulator, ResultRows
from ..topics.batch import BEFORE, DELETED, OFFSET, TIME, Batch
from ..topics.key import columns_of, key_text
from ..topics.schema import Schema, type_text
from .errors import PlanError
from .operator import Context, Emit, StateDefinition
from .reducer import Reducer, columns_read, describe_reducer

WINDOW_START: Final = "window_start"
WINDOW_END: Final = "window_end"
LATE_REASON: Final = "late_reason"

EMIT_ROWS_MAX: Final = 100_000

Aggregates = tuple[tuple[str, Reducer], ...]


def checked_schemas(step: str, inputs: Schema, by: Sequence[str], aggregates: Aggregates) -> tuple[Schema, Schema]:
    """The schemas of the results and of the late rows. Raises PlanError naming what does not fit, and something close."""
    if not by:
        raise PlanError(
            f"{step}: windows are by key, so by= needs a column; for one group over all add a constant column"
        )
    results = result_schema(step, inputs, by, aggregates, {WINDOW_START: pl.Int64(), WINDOW_END: pl.Int64()})
    if LATE_REASON in inputs:
        raise PlanError(f"{step}: rename the column {LATE_REASON!r}; late rows get one of that name")
    return results, Schema.of({**dict(inputs), LATE_REASON: "string"})


def result_schema(
    step: str,
    inputs: Schema,
    by: Sequence[str],
    aggregates: Aggregates,
    between: Mapping[str, pl.DataType] = MappingProxyType({}),
) -> Schema:
    """The key columns, those `between`, the aggregates. Raises PlanError naming what does not fit, and something close."""
    if not aggregates:
        raise PlanError(f"{step} needs at least one reducer, as in n=count()")
    for column in by:
        _column_type(step, inputs, column, "by")
    columns: dict[str, pl.DataType] = {name: dict(inputs)[name] for name in by} | dict(between)
    for name, reducer in aggregates:
        if name in columns:
            raise PlanError(
                f"{step}: two result columns are named {name!r} ({', '.join(columns)} are taken); rename it"
            )
        columns[name] = _output_type(step, inputs, name, reducer)
    _check_key(step, inputs, by)
    return Schema.of(columns)


def _output_type(step: str, inputs: Schema, name: str, reducer: Reducer) -> pl.DataType:
    where = f"{step}, {name}={describe_reducer(reducer)}"
    try:
        return reducer.output_type(column_type(inputs, reducer, where))
    except PlanError as error:
        raise error if str(error).startswith(where) else PlanError(f"{where}: {error}") from error


def column_type(inputs: Schema, reducer: Reducer, where: str = "") -> pl.DataType | None:
    """The type of the column a reducer reads, of two as one struct (`PairReducer`); None where it reads none."""
    types = [_column_type(where, inputs, column, reducer.name) for column in columns_read(reducer)]
    if len(types) > 1:
        return pl.Struct(dict(zip(("value", "by"), types, strict=True)))
    return types[0] if types else None


def _column_type(where: str, inputs: Schema, column: str, what: str) -> pl.DataType:
    if column in inputs:
        return dict(inputs)[column]
    close = difflib.get_close_matches(column, inputs.names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise PlanError(f"{where}: {what} names no column {column!r}{hint} Columns: {', '.join(inputs.names)}")


def _check_key(step: str, inputs: Schema, by: Sequence[str]) -> None:
    try:
        key_text(inputs.empty(), by)
    except Exception as error:
        raise PlanError(f"{step}: by=({', '.join(by)}) cannot be a key: {error}") from error


def accumulators(inputs: Schema, aggregates: Aggregates) -> list[Accumulator]:
    """A fresh one an aggregate."""
    return [reducer.accumulator(column_type(inputs, reducer)) for _, reducer in aggregates]


def values_of(frame: pl.DataFrame, aggregates: Aggregates) -> list[pl.Series | None]:
    """The column an aggregate reads, one an aggregate; of two columns one struct."""
    return [_values(frame, columns_read(reducer)) for _, reducer in aggregates]


def _values(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series | None:
    if len(columns) > 1:
        value, by = columns
        return pl.DataFrame([frame[value].alias("value"), frame[by].alias("by")]).to_struct(value)
    return frame[columns[0]] if columns else None


def describe_aggregation(
    window: str, by: Sequence[str], aggregates: Aggregates, emission: Mapping[str, str]
) -> Mapping[str, str]:
    """For `describe` and the fingerprint. `emission`: see `early.describe_emission`."""
    reducers = {name: describe_reducer(reducer) for name, reducer in aggregates}
    return {"window": window, "by": ", ".join(by), **emission, **reducers}


def aggregation_state(
    window: str, by: Sequence[str], aggregates: Aggregates, inputs: Schema, grace_ms: int
) -> StateDefinition:
    """What the state of a windowed aggregation depends on. Names of results do not matter: accumulators are kept in order."""
    columns = dict(inputs)
    reducers = [
        ": ".join([describe_reducer(reducer), *(type_text(columns[column]) for column in columns_read(reducer))])
        for _, reducer in aggregates
    ]
    parameters = {"window": window, "by": inputs.text(by), "aggregates": ", ".join(reducers)}
    return StateDefinition(parameters, {"grace": grace_ms})


def keyed(batch: Batch, by: Sequence[str], context: Context, *, tombstones: bool = False) -> tuple[Batch, pl.Series]:
    """The rows that have a key, and their key texts. The others are rejected: a null or a NaN in a key column, and a tombstone
    unless `tombstones` are wanted."""
    frame = batch.frame
    refused = DELETED in frame.columns and not tombstones
    if not refused and not any(_has_gaps(frame[name]) for name in by):
        return batch, key_text(frame, by)
    reasons = pl.coalesce(*_faults(frame, by, refused), pl.lit(None, pl.String))
    told = frame.select(reasons.alias("reason"))["reason"]
    rows = np.flatnonzero(told.is_not_null().to_numpy())
    if len(rows):
        context.reject(batch, rows, told.drop_nulls().to_list())
        batch = batch.replaced(frame.filter(told.is_null()))
    return batch, key_text(batch.frame, by)


def _has_gaps(column: pl.Series) -> bool:
    return column.null_count() > 0 or (column.dtype.is_float() and not column.is_finite().all())


def _faults(frame: pl.DataFrame, by: Sequence[str], tombstones_refused: bool) -> Iterable[pl.Expr]:
    if tombstones_refused:
        yield pl.when(DELETED).then(pl.lit("a tombstone cannot be counted; use emit='final' before it"))
    for name in by:
        yield pl.when(pl.col(name).is_null()).then(pl.lit(f"key column {name!r} is null"))
        if frame[name].dtype.is_float():
            yield pl.when(~pl.col(name).is_finite()).then(pl.lit(f"key column {name!r} is not a finite number"))


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """Makes batches of results. `schema`: of the results; `by`: its key columns."""

    schema: Schema
    by: tuple[str, ...]
    step: str

    def emits(self, rows: ResultRows, starts: NDArray[np.int64], passed_on: int, context: Context) -> list[Emit]:
        """Results as rows whose time is their window's last millisecond; those that do not fit their type are rejected.

        `starts`: of the windows. `passed_on`: the watermark passed on before these rows.
        """
        frame = self._frame(rows, starts, passed_on)
        if rows.unfit is not None:
            beyond = np.flatnonzero(rows.unfit)
            reason = f"{self.step}: an integer sum is beyond 64 bits; sum a float column, or use smaller windows"
            context.reject(Batch(frame), beyond, [reason] * len(beyond))
            frame = frame.filter(pl.Series(~rows.unfit))
        return [Emit(Batch(part)) for part in frame.iter_slices(EMIT_ROWS_MAX) if len(part)]

    def tombstones(
        self, keys: pl.Series, starts: NDArray[np.int64], ends: NDArray[np.int64], passed_on: int
    ) -> list[Emit]:
        """Rows that take back what was given under these keys and starts. Their time is not behind what was passed on."""
        nothing = [pl.Series([None], dtype=dtype).new_from_index(0, len(keys)) for _, dtype in self._aggregates]
        frame = self._frame(ResultRows(keys, ends, nothing, None), starts, passed_on)
        time = pl.max_horizontal(pl.col(TIME), pl.lit(passed_on, pl.Int64)).alias(TIME)
        frame = frame.with_columns(time, pl.lit(value=True).alias(DELETED))
        return [Emit(Batch(part)) for part in frame.iter_slices(EMIT_ROWS_MAX)]

    @property
    def _aggregates(self) -> Sequence[tuple[str, pl.DataType]]:
        return self.schema.columns[len(self.by) + 2 :]

    def _frame(self, rows: ResultRows, starts: NDArray[np.int64], passed_on: int) -> pl.DataFrame:
        columns = columns_of(rows.keys, Schema(self.schema.columns[: len(self.by)])).get_columns()
        columns += [pl.Series(WINDOW_START, starts), pl.Series(WINDOW_END, rows.ends)]
        names = self.schema.names[len(columns) :]
        columns += [result.alias(name) for name, result in zip(names, rows.results, strict=True)]
        size = len(starts)
        columns += [
            pl.Series(TIME, rows.ends - 1),
            pl.Series(BEFORE, np.full(size, passed_on)),
            pl.Series(OFFSET, np.full(size, -1)),
        ]
        return pl.DataFrame(columns)
