"""Two workers share the work; one is killed or paused at any point, and the other one takes over."""

from __future__ import annotations

import pytest

from tests.crashes.case import Case
from tests.crashes.enumeration import killed_once, sampled, wrong_runs
from tests.crashes.pipelines import BY_NAME, CASES
from tests.crashes.world import Faulty, run, shared, warm, zombie


@pytest.mark.parametrize("process", [0, 1], ids=["the first", "the one that joins"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_of_two_is_killed_and_the_other_goes_on(case: Case, process: int) -> None:
    """In the rebalance when the second one joins, at work, and while both are stopped."""
    assert killed_once(case, shared, process, at_most=5) == []


@pytest.mark.parametrize("process", [0, 1], ids=["the first", "the one that joins"])
def test_killed_at_every_point_of_a_rebalance(process: int) -> None:
    assert killed_once(BY_NAME["windows, update"], shared, process, at_most=50) == []


@pytest.mark.parametrize("name", ["rows", "windows, final", "windows, chained"])
def test_a_zombie_that_wakes_up_is_fenced_and_adds_nothing(name: str) -> None:
    """Paused at an instruction until the other has taken over and done the work; its own transaction is still open."""
    case = BY_NAME[name]
    points = run(case, shared).processes[0].points
    at_work = [at for at, point in enumerate(points) if " of shard " in point.what and point.nth <= 3]
    runs = (Faulty(freezes={0: at}) for at in sampled(at_work, 16, name))
    assert wrong_runs(case, zombie, runs, must_crash=False) == []


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize("name", ["windows, final", "join, outer"])
def test_a_standby_that_takes_over_has_what_was_committed_and_nothing_else(name: str, process: int) -> None:
    """Each keeps a warm copy of the other one's state, which is where it goes on when the other is gone."""
    faulty = Faulty(settings={"standby_replicas": 1})
    points = [point.what for one in run(BY_NAME[name], warm, faulty).processes[:2] for point in one.points]
    assert {"writing 0/0", "writing 0/1"} <= set(points)
    assert killed_once(BY_NAME[name], warm, process, at_most=14, faulty=faulty) == []
