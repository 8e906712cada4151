"""Batches that stop in the middle, and joins that have every row on disk, crashed like the rest: no output changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from millstream.workers import pieces, portions, shard_runtime
from millstream.workers.operators import interval_join, window_join
from tests.crashes import cases_joins
from tests.crashes.case import Case
from tests.crashes.enumeration import killed_once
from tests.crashes.pipelines import CASES
from tests.crashes.world import Faulty, bounded, run


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch at a sink is sent before the next is made; after one that stopped records are given one by one."""
    monkeypatch.setattr(shard_runtime, "GIVEN_ROWS_MAX", 1)
    monkeypatch.setattr(interval_join, "_PAIRS_MAX", 2)
    monkeypatch.setattr(window_join, "PAIRS_MAX", 2)
    monkeypatch.setattr(portions, "STOPS_MAX", 0)


def test_batches_do_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests below would test nothing."""
    stops = 0

    class Counting(pieces.Pieces):
        def go_on(self) -> None:
            nonlocal stops
            stops += self.under_way
            super().go_on()

    monkeypatch.setattr("millstream.workers.task.Pieces", Counting)
    assert run(cases_joins.CASES[1], bounded, Faulty()).judged() == []
    assert stops > 10


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_kill_in_the_middle_of_a_batch_changes_no_output(case: Case) -> None:
    assert killed_once(case, bounded, at_most=6) == []


@pytest.mark.parametrize("case", cases_joins.CASES, ids=lambda case: case.name)
def test_a_kill_with_rows_on_disk_changes_no_output(case: Case, tmp_path: Path) -> None:
    spilling = replace(case, settings={**case.settings, "join_buffer_bytes_max": 0, "state_dir": tmp_path})
    assert killed_once(spilling, bounded, at_most=24) == []
    assert list(tmp_path.iterdir()) == []
