"""The input of the interval join, and its truth: as many views as purchases by 10,000 users, one of each in 20 ms, up to two
seconds out of order; a purchase is paired with the views of the five minutes before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from millstream.topics.broker import Broker

from .clicks import BASE_MS, OUT_OF_ORDER_MS, SEED, USERS, produce_columns

STEP_MS = 20
UPPER_MS = 300_000
VIEWS, PURCHASES = "views", "purchases"
_USER_SPAN = 1 << 40
"""More than all times: user and time in one number, so that the rows of a user are one range."""


@dataclass(frozen=True)
class Visits:
    """Columns user_id, view_id, page, ts, and user_id, order_id, amount, ts."""

    views: pl.DataFrame
    purchases: pl.DataFrame

    @classmethod
    def generate(cls, count: int) -> Visits:
        """`count`: of both together."""
        rng, each = np.random.default_rng(SEED), count // 2
        number = np.arange(each)
        pages = pl.format("/category/electronic/item/{}", pl.Series(rng.integers(0, 1_000, each)))
        views = (
            _of_users(rng, number).with_columns(view_id=number, page=pages).select("user_id", "view_id", "page", "ts")
        )
        amounts = np.round(rng.random(each) * 100, 2)
        purchases = _of_users(rng, number).with_columns(order_id=number, amount=amounts)
        return cls(views, purchases.select("user_id", "order_id", "amount", "ts"))

    async def produce(self, broker: Broker) -> None:
        await produce_columns(broker, VIEWS, self.views, key="user_id")
        await produce_columns(broker, PURCHASES, self.purchases, key="user_id")

    @property
    def events(self) -> int:
        return self.views.height + self.purchases.height

    def check(self, values: list[bytes | None]) -> str:
        """Number of pairs, and the sums of their ids. Raises AssertionError."""
        rows = pl.read_ndjson(b"\n".join(value for value in values if value is not None))
        found = (rows.height, int(rows["view_id"].sum()), int(rows["order_id"].sum()))
        assert found == self.truth(), f"pairs and sums of ids: {found}, expected {self.truth()}"
        return f"{rows.height:,} pairs right"

    def truth(self) -> tuple[int, int, int]:
        views = self.views.with_columns(at=_places(self.views)).sort("at")
        at = _places(self.purchases)
        places = views["at"].to_numpy()
        first, stop = np.searchsorted(places, at - UPPER_MS), np.searchsorted(places, at, "right")
        ids = np.concatenate([[0], np.cumsum(views["view_id"].to_numpy())])
        pairs = stop - first
        return (
            int(pairs.sum()),
            int((ids[stop] - ids[first]).sum()),
            int((pairs * self.purchases["order_id"].to_numpy()).sum()),
        )


def _of_users(rng: np.random.Generator, number: NDArray[np.int64]) -> pl.DataFrame:
    times = BASE_MS + number * STEP_MS - np.minimum(rng.integers(0, OUT_OF_ORDER_MS, len(number)), number * STEP_MS)
    return pl.DataFrame({"user": rng.integers(0, USERS, len(number)), "ts": times}).select(
        pl.format("user-{}", "user").alias("user_id"), "ts"
    )


def _places(frame: pl.DataFrame) -> NDArray[np.int64]:
    users = frame["user_id"].str.strip_prefix("user-").cast(pl.Int64).to_numpy()
    return users * _USER_SPAN + (frame["ts"].to_numpy() - BASE_MS)
