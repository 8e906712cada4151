"""A reducer of the user's own, from four plain functions (what Flink calls an aggregate function).

State is kept as a Python value a key and window, and written as JSON: that it comes back as it was is checked at each commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ..state.slots import Accumulator, Layout, Part, Slots, Values, grown
from ..topics.errors import SchemaError
from ..topics.schema import ColumnType, Schema
from .errors import PlanError, UserFunctionError
from .reducer import checked_column


@dataclass(frozen=True, slots=True)
class AggregateFunction:
    """A reducer in Python: `agg(spread=AggregateFunction("spread", "price", "float", init=..., add=..., merge=..., result=...))`.

    - `init()`: the state of no values.
    - `add(state, value)`: the state with one more value, which is never null; in order of arrival.
    - `merge(state, other)`: the state of both; what `state` saw came first. Needed where sessions grow together.
    - `result(state)`: a value of the type `output` (as in a topic's schema), or None. A list is `pl.List(pl.Float64)`.

    `add` and `merge` may change `state` and give it back. State is what JSON can say: None, booleans, integers of 64 bits, finite
    floats, text, lists, and dicts with text as keys; a tuple comes back as a list, so it is refused. Functions must be pure: rows
    are given again after a crash. Python is called once a value, about a hundred times the cost of a built-in reducer.

    `name` and `column` are what the state is found again by: where its shape changes, change the name (`spread-2`).
    Raises PlanError for what is no function, no column or no type. What a function raises ends the worker as UserFunctionError:
    there is no row to blame that would leave the state as it was.
    """

    name: str
    column: str
    output: ColumnType = field(repr=False)
    init: Callable[[], Any] = field(repr=False, kw_only=True)
    add: Callable[[Any, Any], Any] = field(repr=False, kw_only=True)
    merge: Callable[[Any, Any], Any] = field(repr=False, kw_only=True)
    result: Callable[[Any], Any] = field(repr=False, kw_only=True)

    def __post_init__(self) -> None:
        checked_column(self.name or "AggregateFunction", self.column)
        _check_name(self.name)
        for what in ("init", "add", "merge", "result"):
            if not callable(getattr(self, what)):
                raise PlanError(f"{self.name}: {what} takes a function, got {getattr(self, what)!r}")
        try:
            output = Schema.of({"output": self.output}).columns[0][1]
        except SchemaError as error:
            raise PlanError(f"{self.name}, output=: {error}") from error
        object.__setattr__(self, "output", output)

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        assert isinstance(self.output, pl.DataType), "made so at the beginning"
        return self.output

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        return _States(self, self.output_type(column_type))


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise PlanError(f"an AggregateFunction takes a name, as in 'spread', got {name!r}")


class _States:
    """`_states[slot]`: what the functions made, None before the first value."""

    layout: Layout = (None,)

    def __init__(self, function: AggregateFunction, output: pl.DataType) -> None:
        self._function, self._output = function, output
        self._states: NDArray[np.object_] = np.full(0, None, object)
        self._there = np.zeros(0, np.bool_)

    def reserve(self, slots: int) -> None:
        self._states, self._there = grown(self._states, slots, None), grown(self._there, slots, fill=False)

    def add(self, slots: Slots, values: Values | None, times: NDArray[np.int64]) -> None:
        assert values is not None, "it is of a column"
        for slot, value in zip(slots.tolist(), pl.Series(values).to_list(), strict=True):
            if value is not None:
                self._set(slot, self._call("add", self._state(slot), value))

    def merge(self, into: Slots, source: Slots) -> None:
        for slot, other in zip(into.tolist(), source.tolist(), strict=True):
            if self._there[other]:
                there = self._there[slot]
                state = self._states[other]
                self._set(slot, self._call("merge", self._states[slot], state) if there else state)

    def _state(self, slot: int) -> Any:
        return self._states[slot] if self._there[slot] else self._call("init")

    def _set(self, slot: int, state: Any) -> None:
        self._states[slot], self._there[slot] = state, True

    def _call(self, what: str, *arguments: Any) -> Any:
        try:
            return getattr(self._function, what)(*arguments)
        except Exception as error:
            given = ", ".join(map(repr, arguments))
            raise UserFunctionError(f"{self._place}: {what}({given}) raised {error!r}") from error

    @property
    def _place(self) -> str:
        return f"{self._function.name}({self._function.column})"

    def clear(self, slots: Slots) -> None:
        self._states[slots], self._there[slots] = None, False

    def result(self, slots: Slots) -> pl.Series:
        results = [self._call("result", self._state(slot)) for slot in slots.tolist()]
        try:
            return pl.Series(results, dtype=self._output)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            raise UserFunctionError(
                f"{self._place}: result must give {self._output} or None: {str(error).splitlines()[0]}; change output= or the function"
            ) from error

    def unfit(self, slots: Slots) -> NDArray[np.bool_] | None:
        return None

    def encode(self, slots: Slots) -> list[Part]:
        encoded = [self._dumped(self._states[slot]) if self._there[slot] else b"" for slot in slots.tolist()]
        return [pa.array(encoded, pa.large_binary())]

    def _dumped(self, state: Any) -> bytes:
        try:
            data = orjson.dumps(state)
        except TypeError as error:
            raise self._unwritable(state, str(error)) from error
        if not _same(orjson.loads(data), state):
            raise self._unwritable(state, f"JSON makes {data.decode()} of it")
        return data

    def _unwritable(self, state: Any, why: str) -> UserFunctionError:
        return UserFunctionError(
            f"{self._place}: the state {state!r} cannot be written ({why}); keep numbers that are finite, text, lists, and dicts "
            "with text as keys"
        )

    def decode(self, slots: Slots, parts: Sequence[Part]) -> None:
        assert not isinstance(parts[0], np.ndarray), "states are encoded as bytes"
        self.clear(slots)
        for slot, data in zip(slots.tolist(), parts[0].to_pylist(), strict=True):
            if data:
                self._set(slot, orjson.loads(data))

    @property
    def size_bytes(self) -> int:
        """An estimate: 200 bytes a state."""
        return self._states.nbytes + self._there.nbytes + 200 * int(self._there.sum())


def _same(loaded: Any, state: Any) -> bool:
    """Equal, and of the same types all the way down: 1.0 is not 1, a tuple is no list."""
    if type(loaded) is not type(state):
        return False
    if isinstance(loaded, list):
        return len(loaded) == len(state) and all(map(_same, loaded, state))
    if isinstance(loaded, dict):
        return loaded.keys() == state.keys() and all(_same(value, state[key]) for key, value in loaded.items())
    return bool(loaded == state)
