"""The demo's truth and its comparison: small enough to be counted by hand, and against a slow oracle."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.ops.demo.feed import DISORDER_MS, Feed, Rows, together
from millstream.ops.demo.truth import (
    VIEWED_BEFORE_MS,
    WINDOW_MS,
    Recount,
    Results,
    falsified,
    pairs_of,
    recount,
    sales_of,
)

ORDERS = {"order": pl.Int64, "user": pl.String, "product": pl.String, "cents": pl.Int64, "ts": pl.Int64}
VIEWS = {"view": pl.Int64, "user": pl.String, "product": pl.String, "ts": pl.Int64}


def orders(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ORDERS, orient="row")


def views(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=VIEWS, orient="row")


def test_sales_are_summed_by_product_and_window() -> None:
    bought = orders(
        (1, "a", "lamp", 100, 0), (2, "b", "lamp", 50, 9_999), (3, "a", "lamp", 7, 10_000), (4, "a", "pan", 1, 5)
    )
    assert sales_of(bought, 20_000) == {("lamp", 0): (2, 150), ("lamp", 10_000): (1, 7), ("pan", 0): (1, 1)}


def test_a_window_that_has_not_ended_is_not_expected() -> None:
    bought = orders((1, "a", "lamp", 100, 0), (2, "a", "lamp", 7, 10_000))
    assert sales_of(bought, 19_999) == {("lamp", 0): (1, 100)}
    assert sales_of(bought, 9_999) == {}


def test_an_order_is_paired_with_the_views_of_five_minutes_before() -> None:
    bought = orders((1, "a", "lamp", 100, VIEWED_BEFORE_MS))
    looked = views(
        (1, "a", "lamp", 0),  # just young enough
        (2, "a", "lamp", VIEWED_BEFORE_MS),  # at the same moment
        (3, "a", "lamp", -1),  # too old
        (4, "a", "lamp", VIEWED_BEFORE_MS + 1),  # after it
        (5, "b", "lamp", 10),  # somebody else
        (6, "a", "pan", 10),  # something else
    )
    expected = {
        (1, 1): (100, VIEWED_BEFORE_MS, 0),
        (1, 2): (100, VIEWED_BEFORE_MS, VIEWED_BEFORE_MS),
    }
    assert pairs_of(Rows(bought, looked)) == expected


@given(st.integers(0, 1_000), st.integers(1, 40), st.integers(1, 80))
def test_pairs_are_those_of_two_loops(seed: int, bought: int, looked: int) -> None:
    """Twelve minutes, so that some views are too old."""
    feed = Feed(seed)
    rows = together([feed.take(0, 360_000, bought, looked), feed.take(360_000, 720_000, bought, looked)])
    slow = {
        (order["order"], view["view"])
        for order in rows.orders.to_dicts()
        for view in rows.views.to_dicts()
        if (order["user"], order["product"]) == (view["user"], view["product"])
        and 0 <= order["ts"] - view["ts"] <= VIEWED_BEFORE_MS
    }
    assert set(pairs_of(rows)) == slow


EXPECTED: Results = {("lamp", 0): (2, 150), ("pan", 0): (1, 1)}
LAMP, PAN = (("lamp", 0), (2, 150)), (("pan", 0), (1, 1))


@pytest.mark.parametrize(
    ("seen", "counts"),
    [
        ([LAMP, PAN], Recount(2, 2)),
        ([PAN], Recount(2, 1, lost=1)),
        ([LAMP, PAN, PAN, PAN], Recount(2, 1, twice=2)),
        ([LAMP, (("pan", 0), (1, 2))], Recount(2, 1, wrong=1)),
        ([LAMP, PAN, (("cup", 0), (1, 1))], Recount(2, 2, invented=1)),
        ([], Recount(2, 0, lost=2)),
    ],
)
def test_what_differs_is_counted_and_named(seen: list, counts: Recount) -> None:
    found = recount("sales", EXPECTED, seen)
    assert (found.expected, found.right, found.lost, found.twice, found.wrong, found.invented) == (
        counts.expected,
        counts.right,
        counts.lost,
        counts.twice,
        counts.wrong,
        counts.invented,
    )
    assert found.is_right == (seen == [LAMP, PAN])
    assert bool(found.examples) != found.is_right


def test_recounts_are_added() -> None:
    both = recount("sales", EXPECTED, [LAMP, PAN]) + recount("pair", {1: (1,)}, [])
    assert (str(both), both.is_right) == ("2 of 3 right, 1 lost", False)
    assert both.examples == ("pair 1: lost, expected (1,)",)


def test_a_falsified_truth_is_another_one() -> None:
    rows = Feed(1).take(0, WINDOW_MS, 5, 0)
    assert sales_of(falsified(rows).orders, WINDOW_MS) != sales_of(rows.orders, WINDOW_MS)


# -- the feed


def test_the_same_seed_gives_the_same_rows() -> None:
    first, second = (Feed(7).take(0, 1_000, 20, 80) for _ in range(2))
    assert first.orders.equals(second.orders)
    assert first.views.equals(second.views)
    assert not first.views.equals(Feed(8).take(0, 1_000, 20, 80).views)


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5))
def test_ids_are_never_used_twice_and_no_row_is_too_late(seed: int, slices: list[tuple[int, int]]) -> None:
    """Rows are sent in this order: none may be further behind the newest before it than the disorder."""
    feed = Feed(seed)
    rows = together([feed.take(n * 100, n * 100 + 100, *counts) for n, counts in enumerate(slices)])
    for frame, name in ((rows.orders, "order"), (rows.views, "view")):
        assert frame[name].to_list() == list(range(frame.height))
        newest = frame["ts"].cum_max()
        assert ((newest - frame["ts"]) <= DISORDER_MS + 0).all()


def test_orders_follow_views() -> None:
    """Half of them, so that there is something to be joined."""
    rows = Feed(3).take(0, 10_000, 100, 1_000)
    looked = Counter(zip(rows.views["user"], rows.views["product"], strict=True))
    followed = sum(1 for pair in zip(rows.orders["user"], rows.orders["product"], strict=True) if pair in looked)
    assert followed >= 50


def test_the_closing_rows_are_of_one_moment_and_pair_with_each_other() -> None:
    rows = Feed(3).closing(5_000, ["user-1", "user-2"])
    assert rows.orders["ts"].to_list() == rows.views["ts"].to_list() == [5_000, 5_000]
    assert len(pairs_of(rows)) == 2
