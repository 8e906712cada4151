"""Reducers of the user's own: what they are given, what their state may be, and what is said where they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from millstream import AggregateFunction, App, Driver, session
from millstream.state.slots import Accumulator
from millstream.workers.errors import PlanError, UserFunctionError
from millstream.workers.reducer import describe_reducer


def made(**functions: Any) -> AggregateFunction:
    """The difference between the largest and the smallest, but for what is given."""
    usual: dict[str, Any] = {
        "init": lambda: None,
        "add": lambda state, x: [x, x] if state is None else [min(state[0], x), max(state[1], x)],
        "merge": lambda state, other: [min(state[0], other[0]), max(state[1], other[1])],
        "result": lambda state: None if state is None else state[1] - state[0],
    }
    return AggregateFunction("spread", "x", "float", **{**usual, **functions})


def held(reducer: AggregateFunction, *values: Any) -> Accumulator:
    accumulator = reducer.accumulator(pl.Float64())
    accumulator.reserve(1)
    accumulator.add(np.zeros(len(values), np.int64), pl.Series(values), np.zeros(len(values), np.int64))
    return accumulator


def test_sessions_that_grow_together_are_merged() -> None:
    app = App("spreads")
    source = app.topic("prices", {"user": "string", "x": "float", "ts": "timestamp_ms"}, key="user", event_time="ts")
    sessions = app.stream(source).window(session("10s"), by="user", grace="1m", emit="final")
    sessions.agg(spread=made()).to(app.topic("spreads", key="user"))
    driver = Driver(app)
    for x, ts in ((3.0, 1_000), (9.0, 15_000), (None, 9_000), (5.0, 8_000)):
        driver.send("prices", [{"user": "ada", "x": x, "ts": ts}])
        driver.commit()
    driver.end()
    (row,) = driver.rows("spreads")
    assert (row["window_start"], row["window_end"], row["spread"]) == (1_000, 25_000, 6.0)


def test_it_is_named_by_its_name_and_column() -> None:
    assert describe_reducer(made()) == "spread(x)"


@pytest.mark.parametrize("function", ["init", "add", "merge", "result"])
def test_what_a_function_raises_is_told_with_what_it_was_given(function: str) -> None:
    def fails(*given: Any) -> Any:
        raise ValueError("too much")

    reducer = made(**{function: fails})
    with pytest.raises(UserFunctionError, match=rf"spread\(x\): {function}\(.*\) raised ValueError\('too much'\)"):
        _all_of(reducer)


def _all_of(reducer: AggregateFunction) -> None:
    accumulator = held(reducer, 1.0)
    accumulator.reserve(2)
    accumulator.add(np.array([1]), pl.Series([2.0]), np.array([1]))
    accumulator.merge(np.array([0]), np.array([1]))
    accumulator.result(np.array([0]))


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ((1, 2), r"JSON makes \[1,2\] of it"),
        (float("nan"), "JSON makes null of it"),
        ([1.0, float("inf")], r"JSON makes \[1.0,null\] of it"),
        ({1: 2}, "Dict key must be str"),
        ({1, 2}, "not JSON serializable"),
        (1 << 70, "Integer exceeds 64-bit range"),
    ],
)
def test_a_state_that_would_not_come_back_is_refused_when_it_is_written(state: Any, told: str) -> None:
    accumulator = held(made(add=lambda _, x: state), 1.0)
    with pytest.raises(
        UserFunctionError, match=f"the state .* cannot be written .*{told}.*keep numbers that are finite"
    ):
        accumulator.encode(np.array([0]))


@pytest.mark.parametrize("state", [None, True, 0, -0.0, 1 << 63, "ä", [], [[1, 1.0], {"a": None}], {}, {"": [True]}])
def test_a_state_comes_back_as_it_was(state: Any) -> None:
    function = made(add=lambda _, x: state, result=lambda given: float(given == state and type(given) is type(state)))
    accumulator, again = held(function, 1.0), held(function)
    again.decode(np.array([0]), accumulator.encode(np.array([0])))
    assert again.result(np.array([0])).to_list() == [1.0]


def test_a_result_of_another_type_is_told() -> None:
    accumulator = held(made(result=lambda state: "much"), 1.0)
    with pytest.raises(UserFunctionError, match=r"spread\(x\): result must give Float64 or None: .*change output= or"):
        accumulator.result(np.array([0]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: made(add=5), "spread: add takes a function, got 5"),
        (
            lambda: AggregateFunction("", "x", "float", **FUNCTIONS),
            "an AggregateFunction takes a name, as in 'spread', got ''",
        ),
        (
            lambda: AggregateFunction("a", "", "float", **FUNCTIONS),
            r"a takes a column's name, as in a\('price'\), got ''",
        ),
        (lambda: AggregateFunction("a", "x", "flaot", **FUNCTIONS), "'flaot'.*'float'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_reducer_is_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        make()


FUNCTIONS: dict[str, Any] = dict.fromkeys(("init", "add", "merge", "result"), print)
