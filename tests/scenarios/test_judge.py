"""The judge and the figures of a run, on runs made by hand: what is wrong is found, each kind for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.scenarios.chaos import Wish, order
from tests.scenarios.judge import Verdict, judge_readers, judge_sums, judge_totals
from tests.scenarios.outcome import Kill, Mark, Outcome, Seen, quantile, recoveries, stalls, throughput
from tests.scenarios.plays import PLAYS
from tests.scenarios.stores import compacted
from tests.scenarios.timeline import timeline

ORDERS = [
    {"id": 0, "user": "a", "amount": 5, "ts": 0},
    {"id": 1, "user": "b", "amount": 7, "ts": 10},
    {"id": 2, "user": "a", "amount": 1, "ts": 20},
    {"id": 3, "user": "a", "amount": 0, "ts": 5_000},
]
RIGHT = ["0 a 1 5", "1 b 1 7", "2 a 2 6", "3 a 3 6"]


def totals(lines: Sequence[str]) -> list[dict[str, Any]]:
    rows = [line.split() for line in lines]
    return [{"id": int(id_), "user": user, "n": int(n), "total": int(total)} for id_, user, n, total in rows]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (RIGHT, Verdict()),
        ([*RIGHT[1:2], RIGHT[0], *RIGHT[2:]], Verdict()),  # users among each other have no order
        (RIGHT[:2] + RIGHT[3:], Verdict(lost=1)),
        ([*RIGHT, RIGHT[3]], Verdict(duplicated=1)),
        ([*RIGHT[:2], "2 a 2 7", RIGHT[3]], Verdict(wrong=1)),
        ([RIGHT[0], RIGHT[1], RIGHT[3], RIGHT[2]], Verdict(out_of_order=1)),
        ([*RIGHT, "4 a 4 6"], Verdict(wrong=1)),
    ],
)
def test_running_totals_are_recomputed(lines: Sequence[str], expected: Verdict) -> None:
    assert expected == judge_totals(ORDERS, totals(lines))


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ([("a", 0, 2, 6), ("b", 0, 1, 7)], Verdict()),
        ([("a", 0, 2, 6)], Verdict(lost=1)),
        ([("a", 0, 2, 6), ("b", 0, 1, 7), ("b", 0, 1, 7)], Verdict(duplicated=1)),
        ([("a", 0, 1, 5), ("b", 0, 1, 7)], Verdict(wrong=1)),
    ],
)
def test_each_closed_window_comes_once(sums: Sequence[tuple[str, int, int, int]], expected: Verdict) -> None:
    rows = [dict(zip(("user", "window_start", "n", "total"), row, strict=True)) for row in sums]
    assert expected == judge_sums(ORDERS, rows)


def test_a_reader_beside_the_run_sees_what_is_there_afterwards() -> None:
    """A row too many or one too few, on either side."""
    assert judge_readers([(0, 1), (0, 2)], [(0, 2), (0, 1)]).clean
    assert judge_readers([(0, 1), (0, 2)], [(0, 1)]) == Verdict(vanished=1)
    assert judge_readers([(0, 1)], [(0, 1), (1, 1)]) == Verdict(vanished=1)


def test_a_store_is_compared_with_its_changelog_up_to_its_position() -> None:
    records = [(0, b"a", b"1"), (1, b"b", b"1"), (3, b"a", None), (4, b"b", b"2")]
    assert compacted(records, 3) == {b"a": b"1", b"b": b"1"}
    assert compacted(records, 5) == {b"b": b"2"}


def test_recovery_is_counted_from_the_kill_to_what_was_committed_after_it() -> None:
    """Row 7 was visible when worker 1 was killed, though it was seen later; partition 1 was not its own."""
    seen = [Seen(0, 7, 10.1), Seen(1, 3, 10.2), Seen(0, 9, 12.5), Seen(0, 10, 14.0)]
    assert recoveries([Kill(10.0, 1, frozenset({0}), {0: 8, 1: 0})], seen) == [2.5]


def test_a_stall_is_a_gap_of_one_partition() -> None:
    """Others going on does not hide it."""
    seen = [Seen(0, 0, 0.0), Seen(1, 0, 0.5), Seen(1, 1, 1.2), Seen(1, 2, 2.0), Seen(0, 1, 3.0)]
    assert stalls(seen) == [(0.0, 3.0)]
    assert throughput(seen) == [1, 1, 1, 0, 1, 0, 1]


def test_quantiles_are_nearest_ranks() -> None:
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]
    assert quantile([], 0.5) == 0.0


def test_the_picture_is_well_formed_and_says_what_was_done() -> None:
    marks = [Mark(1.0, "kill", "worker 1"), Mark(2.0, "broker away", "node <2>", 4.0)]
    outcome = Outcome("kills", 10, Verdict(), marks, stalls=[(2.0, 4.0)], throughput=[5, 0, 0, 0, 5])
    picture = timeline([("kill -9 & more", outcome)], "a run")
    root = ElementTree.fromstring(picture)
    texts = [element.text for element in root.iter() if element.text]
    assert "kill -9 & more" in texts
    assert "broker away node <2>" in texts
    assert "prefers-color-scheme: dark" in picture


def test_a_run_gives_every_play_once_and_goes_on_while_there_is_time() -> None:
    wish = Wish.of(["MINUTES=5", "SEED=3"])
    assert [play.name for play in order(wish, until=0.0)] == [play.name for play in PLAYS]
    assert wish.command() == 'make chaos ARGS="MINUTES=5 SEED=3"'
    with pytest.raises(ValueError, match="PLAYS=nonsense"):
        Wish.of(["PLAYS=nonsense"])
