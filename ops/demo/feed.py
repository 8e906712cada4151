"""What happens in the shop: customers look at products and buy some of them. Made up, but from a seed, so that it is known.

Rows come in slices of time, in the order they are sent. One in ten reaches us up to `DISORDER_MS` late, which is less than
the topics allow (`out_of_order`), so none is too late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

PRODUCTS: Final = (
    "reading lamp,desk lamp,floor lamp,wall clock,alarm clock,oak table,side table,armchair,office chair,bookshelf,wool blanket,"
    "linen sheets,tea pot,coffee mill,bread knife,cast iron pan,umbrella,rucksack"
).split(",")
USERS: Final = 1_000
DISORDER_MS: Final = 500
RECENT_VIEWS_MAX: Final = 4_000
"""Half of the orders follow one of that many views."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Orders (`order, user, product, cents, ts`) and views (`view, user, product, ts`), in the order they are sent."""

    orders: pl.DataFrame
    views: pl.DataFrame

    def __len__(self) -> int:
        return self.orders.height + self.views.height


def together(parts: list[Rows]) -> Rows:
    """All of them as one. At least one must be given."""
    return Rows(pl.concat([part.orders for part in parts]), pl.concat([part.views for part in parts]))


class Feed:
    """The same seed and the same slices give the same rows."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._orders = 0
        self._views = 0
        self._recent = pl.DataFrame(schema={"user": pl.String, "product": pl.String})

    def take(self, begin_ms: int, end_ms: int, orders: int, views: int) -> Rows:
        """The next rows, spread over `[begin_ms, end_ms)`."""
        looked = self._anything(views)
        self._recent = pl.concat([self._recent, looked]).tail(RECENT_VIEWS_MAX)
        cents = pl.Series("cents", self._random.integers(500, 90_000, orders))
        bought = self._bought(orders).with_columns(cents)
        rows = Rows(
            self._placed("order", self._orders, bought, begin_ms, end_ms),
            self._placed("view", self._views, looked, begin_ms, end_ms),
        )
        self._orders += orders
        self._views += views
        return rows

    def closing(self, at_ms: int, users: list[str]) -> Rows:
        """One order and one view of each user, which move the time of every partition on to `at_ms`."""
        frame = pl.DataFrame({"user": users, "product": ["closing time"] * len(users)})
        return Rows(
            self._placed("order", self._orders, frame.with_columns(cents=pl.lit(1, pl.Int64)), at_ms, at_ms),
            self._placed("view", self._views, frame, at_ms, at_ms),
        )

    def _anything(self, count: int) -> pl.DataFrame:
        users = self._random.integers(0, USERS, count).astype(str)
        products = self._random.integers(0, len(PRODUCTS), count)
        return pl.DataFrame(
            {"user": [f"user-{user}" for user in users], "product": [PRODUCTS[product] for product in products]},
            schema={"user": pl.String, "product": pl.String},
        )

    def _bought(self, count: int) -> pl.DataFrame:
        """Half of what is bought was looked at shortly before."""
        follow = min(count // 2, self._recent.height)
        seen = self._recent[self._random.integers(0, max(self._recent.height, 1), follow)]
        rows = pl.concat([seen, self._anything(count - follow)])
        return rows[self._random.permutation(count)]

    def _placed(self, kind: str, first: int, frame: pl.DataFrame, begin_ms: int, end_ms: int) -> pl.DataFrame:
        count = frame.height
        sent = np.sort(self._random.integers(begin_ms, max(end_ms, begin_ms + 1), count))
        late = np.where(self._random.random(count) < 0.1, self._random.integers(0, DISORDER_MS + 1, count), 0)
        stamped = frame.with_columns(
            pl.Series(kind, np.arange(first, first + count)), pl.Series("ts", sent - (late if begin_ms < end_ms else 0))
        )
        return stamped.select(kind, *frame.columns, "ts")
