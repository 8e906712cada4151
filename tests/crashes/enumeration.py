"""Every point of a run as a crash, and what came of it.

    MILLSTREAM_CRASHES=all        every point, also those that leave the world as the one before did
    MILLSTREAM_CRASHES=500        so many random schedules (and as many points where they are sampled)
    MILLSTREAM_CRASH_SEED=12345   the samples and schedules of that seed again; a failure tells it

The world outside a process (broker, disks, group) changes at few points. A crash at any of the points between two changes leaves
the same world, so one of them is enough where one process is at work; the points of the group's words are all kept.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tests.crashes.case import Case
from tests.crashes.process import Point
from tests.crashes.world import Faulty, Scenario, run

ASKED = os.environ.get("MILLSTREAM_CRASHES", "")
ALL = ASKED == "all"
SEED = int(os.environ.get("MILLSTREAM_CRASH_SEED") or random.SystemRandom().randrange(1 << 32))


def how_many(usually: int) -> int:
    return int(ASKED) if ASKED.isdigit() else usually


def different(points: Sequence[Point]) -> list[int]:
    """Positions of the points that leave different worlds behind."""
    if ALL:
        return list(range(len(points)))
    seen: set[int] = set()
    kept = []
    for position, point in enumerate(points):
        if point.changes not in seen or point.is_of_the_group:
            kept.append(position)
        seen.add(point.changes)
    return kept


def sampled(positions: Sequence[int], at_most: int, of: str) -> list[int]:
    """Some of them, by the seed."""
    if ALL or len(positions) <= at_most:
        return list(positions)
    return sorted(random.Random(f"{SEED} {of}").sample(positions, at_most))


def wrong_runs(case: Case, scenario: Scenario, faulties: Iterable[Faulty], *, must_crash: bool = True) -> list[str]:
    """What is wrong, run by run, with what it takes to see it again."""
    said = []
    for faulty in faulties:
        world = run(case, scenario, faulty)
        told = world.judged()
        if must_crash and not any(process.dead for process in world.processes):
            told.append("nobody was killed: the run differs from the one that was enumerated")
        if told:
            where = [str(process.points[-1]) for process in world.processes if process.dead]
            said.append(
                f"{case.name}, {scenario.__name__}, kills={dict(faulty.kills)} freezes={dict(faulty.freezes)} "
                f"seed={SEED} ({'; '.join(where)}): {'; '.join(told[:3])}"
            )
    return said


def killed_once(
    case: Case,
    scenario: Scenario,
    process: int = 0,
    *,
    at_most: int = 1_000,
    only: str = "",
    faulty: Faulty | None = None,
) -> list[str]:
    """The process killed at each of its points (or at so many of them, or at those of one kind), every time from the beginning."""
    faulty = faulty or Faulty()
    points = run(case, scenario, faulty).processes[process].points
    wanted = [at for at in different(points) if points[at].what.startswith(only)]
    positions = sampled(wanted, at_most, f"{case.name} {scenario.__name__} {process}")
    return wrong_runs(case, scenario, (replace(faulty, kills={process: at}) for at in positions))
