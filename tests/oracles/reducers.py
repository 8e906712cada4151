"""Every reducer record at a time, from what its docstring promises: slow and obvious. Those without arguments: `windows.py`.

An oracle judges: it is given the rows of a group, (time, value) in order of arrival, and what the engine made of them. The value
of `argmin` and `argmax` is a dict of `value` and `by`.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from tests.oracles.windows import REDUCERS, Timed

Judge = Callable[[Timed, Any], bool]


def _values(rows: Timed) -> list[Any]:
    return [value for _, value in rows if value is not None]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _numbers(rows: Timed) -> list[Any]:
    return [value for value in _values(rows) if not _is_nan(value)]


def _variance(rows: Timed, ddof: int) -> float | None:
    """Of exact fractions, rounded once."""
    values = _values(rows)
    if len(values) <= ddof:
        return None
    if not all(math.isfinite(value) for value in values):
        return math.nan
    fractions = [Fraction(value) for value in values]
    return float(statistics.variance(fractions) if ddof else statistics.pvariance(fractions))


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)


def _row_at(rows: Timed, *, largest: bool) -> Any:
    """The earliest of the best rows; of those of one time the first to come. NaN only where there is nothing else."""
    pairs = [(time, pair["value"], pair["by"]) for time, pair in rows if None not in (pair["value"], pair["by"])]
    pairs = [pair for pair in pairs if not _is_nan(pair[2])] or pairs
    best = None
    for time, value, by in pairs:
        if best is None or (by > best[2] if largest else by < best[2]) or (not _apart(by, best[2]) and time < best[0]):
            best = (time, value, by)
    return None if best is None else best[1]


def _apart(one: Any, other: Any) -> bool:
    return bool(one < other or other < one)


def _set(rows: Timed) -> list[Any]:
    values = {value + 0.0 if isinstance(value, float) else value for value in _numbers(rows)}
    return sorted(values) + [math.nan] * (len(_numbers(rows)) < len(_values(rows)))


def _largest(rows: Timed, k: int) -> list[Any]:
    nans = len(_values(rows)) - len(_numbers(rows))
    return [*sorted(_numbers(rows), reverse=True), *[math.nan] * nans][:k]


def _histogram(rows: Timed, edges: list[float]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for value in _numbers(rows):
        counts[bisect_right(edges, value)] += 1
    return counts


def exact_quantile(values: list[float], q: float) -> float | None:
    return sorted(values)[math.floor(q * (len(values) - 1))] if values else None


def _within(rows: Timed, result: Any, q: float, error: float) -> bool:
    exact = exact_quantile([float(value) for value in _numbers(rows)], q)
    if exact is None or math.isinf(exact):
        return bool(result == exact)
    return abs(result - exact) <= error * abs(exact) * (1 + 1e-9)  # logarithms are rounded


def _close(result: Any, expected: Any) -> bool:
    if None in (result, expected):
        return result is expected
    return math.isclose(result, expected, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(result) and math.isnan(expected))


def alike(result: Any, expected: Any) -> bool:
    """The same, NaN too; floats but for their last bits, as those of sums depend on the order."""
    return (
        repr(result) == repr(expected)
        or result == expected
        or (isinstance(expected, float) and _close(result, expected))
    )


def _exactly(oracle: Callable[[Timed], Any]) -> Judge:
    return lambda rows, result: alike(result, oracle(rows))


JUDGES: Mapping[str, Judge] = {
    **{f"{name}(x)": _exactly(oracle) for name, oracle in REDUCERS.items()},
    "var(x)": _exactly(lambda rows: _variance(rows, 1)),
    "var(x, ddof=0)": _exactly(lambda rows: _variance(rows, 0)),
    "std(x)": _exactly(lambda rows: _root(_variance(rows, 1))),
    "std(x, ddof=0)": _exactly(lambda rows: _root(_variance(rows, 0))),
    "argmin(x, y)": _exactly(lambda rows: _row_at(rows, largest=False)),
    "argmax(x, y)": _exactly(lambda rows: _row_at(rows, largest=True)),
    "collect_set(x)": _exactly(_set),
    "histogram(x, [-2, 0.5, 3])": _exactly(lambda rows: _histogram(rows, [-2, 0.5, 3])),
    "top_k(x, 1)": _exactly(lambda rows: _largest(rows, 1)),
    "top_k(x, 3)": _exactly(lambda rows: _largest(rows, 3)),
    # Two hashes in one register make it one too few; of thirty values that is all that happens.
    "approx_distinct(x)": lambda rows, result: abs(result - REDUCERS["count_distinct"](rows)) <= 2,
    "quantile(x, 0.5)": lambda rows, result: _within(rows, result, 0.5, 0.01),
    "quantile(x, 0.95, relative_error=0.05)": lambda rows, result: _within(rows, result, 0.95, 0.05),
}
"""By a reducer as it is written in YAML."""
