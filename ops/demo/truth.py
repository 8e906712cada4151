"""What must have come out, computed from what was sent, and the comparison with what did come out. Plain functions.

This is another way to the same results than the engine's: all rows at once, sorted and joined by polars, with no batch, no
state and no commit in sight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from .feed import Rows

WINDOW_MS: Final = 10_000
VIEWED_BEFORE_MS: Final = 300_000
EXAMPLES_MAX: Final = 3

Results = Mapping[Hashable, tuple[Any, ...]]
"""The values of each result by what identifies it."""


def sales_of(orders: pl.DataFrame, final_up_to_ms: int) -> Results:
    """(product, window start) -> (orders, cents) of every window that has ended by then."""
    start = pl.col("ts") // WINDOW_MS * WINDOW_MS
    sums = orders.group_by("product", start.alias("start")).agg(pl.len().alias("n"), pl.sum("cents"))
    closed = sums.filter(pl.col("start") + WINDOW_MS <= final_up_to_ms)
    return {(product, start): (n, cents) for product, start, n, cents in closed.rows()}


def pairs_of(rows: Rows) -> Results:
    """(order, view) -> (cents, time of the order, time of the view) of every order and view that belong together."""
    views = rows.views.rename({"ts": "viewed"})
    after_ms = pl.col("ts") - pl.col("viewed")
    pairs = rows.orders.join(views, on=["user", "product"]).filter(after_ms.is_between(0, VIEWED_BEFORE_MS))
    return {
        (order, view): (cents, ts, viewed)
        for order, view, cents, ts, viewed in pairs.select("order", "view", "cents", "ts", "viewed").rows()
    }


def falsified(rows: Rows) -> Rows:
    """The negative control: a truth with one order too many. A recount that finds nothing wrong then can find nothing."""
    return replace(rows, orders=pl.concat([rows.orders, rows.orders.head(1).with_columns(order=pl.lit(-1, pl.Int64))]))


@dataclass(frozen=True, slots=True)
class Recount:
    """How many results are right, and what is wrong with the others."""

    expected: int = 0
    right: int = 0
    lost: int = 0
    twice: int = 0
    """Results that came again, each counted once more."""
    wrong: int = 0
    invented: int = 0
    """Results of something that was never sent."""
    examples: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        return self.right == self.expected and not (self.lost or self.twice or self.wrong or self.invented)

    def __add__(self, other: Recount) -> Recount:
        return Recount(
            self.expected + other.expected,
            self.right + other.right,
            self.lost + other.lost,
            self.twice + other.twice,
            self.wrong + other.wrong,
            self.invented + other.invented,
            self.examples + other.examples,
        )

    def __str__(self) -> str:
        parts = [
            (self.lost, "lost"),
            (self.twice, "given again"),
            (self.wrong, "wrong"),
            (self.invented, "of nothing that was sent"),
        ]
        faults = [f"{count} {what}" for count, what in parts if count]
        return f"{self.right} of {self.expected} right, {', '.join(faults) or 'none lost, none twice'}"


def recount(what: str, expected: Results, seen: Iterable[tuple[Hashable, tuple[Any, ...]]]) -> Recount:
    """Each result must have come once, with the values expected."""
    given = list(seen)
    times = Counter(key for key, _ in given)
    lost = [key for key in expected if key not in times]
    wrong = [(key, values) for key, values in given if key in expected and expected[key] != values]
    invented = [key for key, _ in given if key not in expected]
    again = [key for key, count in times.items() if count > 1]
    faulty = {key for key, _ in wrong} | set(again)
    examples = [
        *(f"{what} {key}: lost, expected {expected[key]}" for key in lost[:EXAMPLES_MAX]),
        *(f"{what} {key}: came {times[key]} times" for key in again[:EXAMPLES_MAX]),
        *(f"{what} {key}: {values}, expected {expected[key]}" for key, values in wrong[:EXAMPLES_MAX]),
        *(f"{what} {key}: of nothing that was sent" for key in invented[:EXAMPLES_MAX]),
    ]
    return Recount(
        expected=len(expected),
        right=sum(1 for key in expected if key in times and key not in faulty),
        lost=len(lost),
        twice=sum(times[key] - 1 for key in again),
        wrong=len(wrong),
        invented=len(invented),
        examples=tuple(examples),
    )
