"""Killed before and after every instruction, request and write, then started again: the outputs are what they should be."""

from __future__ import annotations

import pytest

from tests.crashes.case import Case
from tests.crashes.enumeration import killed_once
from tests.crashes.pipelines import CASES
from tests.crashes.world import bounded


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_kill_at_any_point_changes_no_output(case: Case) -> None:
    """Start-up, processing, every commit, the end; of the longest runs a sample."""
    assert killed_once(case, bounded, at_most=64) == []
