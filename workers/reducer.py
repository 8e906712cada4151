"""What a reducer is: a frozen value (`Sum("price")`) that says its result's type and makes its accumulators."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from typing import ClassVar, Final, Protocol, cast

import polars as pl

from ..state.slots import Accumulator
from .errors import PlanError

_CALL: Final = re.compile(
    r"""\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*
        \(\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^()"',]*?))\s*\)\s*""",
    re.VERBOSE,
)


class Reducer(Protocol):
    """How rows become one value, in three vectorised steps: add, merge, result. Nulls are skipped, as in SQL.

    A reducer is a class in a file of its own in `workers/reducers/`, and is named as the file.
    """

    name: ClassVar[str]

    @property
    def column(self) -> str | None:
        """The column it reads; None: it reads none."""
        ...

    def output_type(self, column_type: pl.DataType | None) -> pl.DataType:
        """The type of the result over a column of this type. Raises PlanError where it cannot be."""
        ...

    def accumulator(self, column_type: pl.DataType | None) -> Accumulator:
        """A fresh one with no slots."""
        ...


def describe_reducer(reducer: Reducer) -> str:
    """As written in YAML: `sum(price)`."""
    return f"{reducer.name}({reducer.column or ''})"


def reducer_names() -> list[str]:
    from . import reducers

    return sorted(module.name for module in pkgutil.iter_modules(reducers.__path__) if not module.name.startswith("_"))


def reducer_named(name: str, column: str | None = None) -> Reducer:
    """The reducer of this name over a column. Raises PlanError naming a close one where there is none."""
    known = reducer_names()
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PlanError(f"no reducer {name!r}{hint} Reducers: {', '.join(known)}")
    module = importlib.import_module(f"{__package__}.reducers.{name}")
    wanted = name.replace("_", "")
    made = next(value for key, value in vars(module).items() if key.lower() == wanted and isinstance(value, type))
    try:
        return cast(Reducer, made() if column is None else made(column))
    except TypeError as error:
        raise PlanError(f"{name} needs a column, as in {name}(price)") from error


def parse_reducer(text: str) -> Reducer:
    """A reducer as written in YAML: `count()`, `sum(price)`, `max("unit price")`. Raises PlanError."""
    call = _CALL.fullmatch(text)
    if call is None:
        raise PlanError(f"{text!r} is not a reducer; write name(column), as in sum(price), or count()")
    column = call["double"] or call["single"] or call["bare"]
    return reducer_named(call["name"], column or None)


def checked_column(reducer: str, column: object) -> None:
    """Raises PlanError unless it is a column's name."""
    if not isinstance(column, str) or not column:
        raise PlanError(f"{reducer} takes a column's name, as in {reducer}('price'), got {column!r}")


def refused_type(reducer: str, column_type: pl.DataType | None, takes: str) -> PlanError:
    return PlanError(f"{reducer} takes {takes}, got a column of {column_type}")
