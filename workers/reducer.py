"""What a reducer is: a frozen value (`Sum("price")`) that says its result's type and makes its accumulators."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Protocol, cast, runtime_checkable

import polars as pl

from ..state.slots import Accumulator
from .errors import PlanError

_CALL: Final = re.compile(
    r"""(?xs) \s* (?P<name>[A-Za-z_][A-Za-z0-9_]*) \s*
        \( \s* (?:"(?P<double>[^"]*)" | '(?P<single>[^']*)' | (?P<bare>[^()"',]*?)) \s* (?:, (?P<rest>.*))? \) \s*"""
)
_ARGUMENT: Final = re.compile(
    r"""(?x) \s* (?:(?P<key>[A-Za-z_][A-Za-z0-9_]*) \s* = \s*)?
        (?:"(?P<double>[^"]*)" | '(?P<single>[^']*)' | \[(?P<items>[^][()"'=]*)\] | (?P<bare>[^][()"',=]+?)) \s* (?:,(?=.)|$)"""
)
_NUMBER_BEGINS: Final = frozenset("+-.0123456789")


class Reducer(Protocol):
    """How rows become one value, in three vectorised steps: add, merge, result. Nulls are skipped, as in SQL.

    A reducer is a frozen dataclass in a file of its own in `workers/reducers/`, and is named as the file; its fields are its
    arguments. One of the user's own is an `AggregateFunction`.
    """

    @property
    def name(self) -> str:
        """As it is written; of one that comes with Millstream, the name of its file."""
        ...

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


@runtime_checkable
class PairReducer(Reducer, Protocol):
    """A reducer that reads a second column, `by`.

    Both reach it as one column of type `Struct({"value": ..., "by": ...})`, whatever they are called.
    """

    @property
    def by(self) -> str: ...


def columns_read(reducer: Reducer) -> tuple[str, ...]:
    """The columns a reducer reads, in the order in which they are written: none, one or two."""
    if reducer.column is None:
        return ()
    return (reducer.column, reducer.by) if isinstance(reducer, PairReducer) else (reducer.column,)


def describe_reducer(reducer: Reducer) -> str:
    """As written in YAML: `sum(price)`, `quantile(price, 0.5)`. Options are told where they are not what they are by default."""
    return f"{reducer.name}({', '.join(_arguments(reducer))})"


def _arguments(reducer: Reducer) -> Iterator[str]:
    for field in dataclasses.fields(cast(Any, reducer)):
        value = getattr(reducer, field.name)
        if field.name == "name" or not field.repr or value is None:
            continue
        text = f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
        if field.default is dataclasses.MISSING or field.name == "column":
            yield text
        elif value != field.default:
            yield f"{field.name}={text}"


def reducer_names() -> list[str]:
    from . import reducers

    return sorted(module.name for module in pkgutil.iter_modules(reducers.__path__) if not module.name.startswith("_"))


def reducer_named(name: str, *arguments: Any, **options: Any) -> Reducer:
    """The reducer of this name, of these arguments. Raises PlanError naming a close one where there is none."""
    known = reducer_names()
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PlanError(f"no reducer {name!r}{hint} Reducers: {', '.join(known)}")
    module = importlib.import_module(f"{__package__}.reducers.{name}")
    wanted = name.replace("_", "")
    made = next(value for key, value in vars(module).items() if key.lower() == wanted and isinstance(value, type))
    try:
        inspect.signature(made).bind(*arguments, **options)
    except TypeError as error:
        if not arguments:
            raise PlanError(f"{name} needs a column, as in {_usage(name, made)}") from error
        raise PlanError(f"{name} is written {_usage(name, made)}: {error}") from error
    return cast(Reducer, made(*arguments, **options))


def _usage(name: str, made: type) -> str:
    """`quantile(price, q, relative_error=0.01)`."""
    _, *others = inspect.signature(made).parameters.values()
    told = (one.name if one.default is one.empty else f"{one.name}={one.default}" for one in others)
    return f"{name}({', '.join(['price', *told])})"


def parse_reducer(text: str) -> Reducer:
    """A reducer as written in YAML: `count()`, `max("unit price")`, `quantile(price, 0.5)`. Raises PlanError.

    The first argument is a column. The others are columns, numbers, or lists of numbers (`[0, 10]`), or named ones: `ddof=0`.
    """
    call = _CALL.fullmatch(text)
    if call is None:
        raise _no_call(text)
    column = call["double"] or call["single"] or call["bare"]
    others, options = _other_arguments(text, call["rest"])
    arguments = [column, *others] if column else others
    return reducer_named(call["name"], *arguments, **options)


def _other_arguments(text: str, rest: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Those behind the first: by place, and by name."""
    arguments: list[Any] = []
    options: dict[str, Any] = {}
    at = 0
    while rest is not None and (at < len(rest) or not at):
        found = _ARGUMENT.match(rest, at)
        if found is None or (options and found["key"] is None) or found["key"] in options:
            raise _no_call(text)
        at = found.end()
        if found["key"] is None:
            arguments.append(_value(found))
        else:
            options[found["key"]] = _value(found)
    return arguments, options


def _value(found: re.Match[str]) -> Any:
    if found["items"] is not None:
        return [_number_or_text(item.strip()) for item in found["items"].split(",")] if found["items"].strip() else []
    if found["bare"] is not None:
        return _number_or_text(found["bare"].strip())
    return found["double"] if found["double"] is not None else found["single"]


def _number_or_text(text: str) -> int | float | str:
    if text[:1] in _NUMBER_BEGINS:
        for number in (int, float):
            with suppress(ValueError):
                return number(text)
    return text


def _no_call(text: str) -> PlanError:
    hint = "; in {braces} a call with a comma needs quotes around it" if text.count("(") > text.count(")") else ""
    return PlanError(f"{text!r} is not a reducer; write name(column), as in sum(price), or count(){hint}")


def checked_column(reducer: str, column: object) -> None:
    """Raises PlanError unless it is a column's name."""
    if not isinstance(column, str) or not column:
        raise PlanError(f"{reducer} takes a column's name, as in {reducer}('price'), got {column!r}")


def refused_type(reducer: str, column_type: pl.DataType | None, takes: str) -> PlanError:
    return PlanError(f"{reducer} takes {takes}, got a column of {column_type}")
