"""Random schedules: several kills, moments of commits and checkpoints, cuts of batches, lost requests. The seed is told."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.topics.memory import MemoryBroker
from millstream.topics.memory.faults import Request, When
from tests.crashes.case import Case
from tests.crashes.enumeration import SEED, different, how_many, sampled, wrong_runs
from tests.crashes.pipelines import CASES
from tests.crashes.world import Faulty, bounded, run, shared, stopped, warm

LOST: list[Request] = ["init_producer", "produce", "send_offsets", "commit", "offset_fetch", "list_offsets"]
WHEN: list[When] = ["before", "after"]
POINTS_MAX = 260
"""About as many as the longest runs have."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_second_kill_while_the_first_one_is_recovered_from(case: Case) -> None:
    first = different(run(case, bounded).processes[0].points)
    for at in sampled(first, how_many(3), f"first {case.name}"):
        second = different(run(case, bounded, Faulty(kills={0: at})).processes[1].points)
        again = sampled(second, how_many(3), f"second {case.name} {at}")
        assert wrong_runs(case, bounded, (Faulty(kills={0: at, 1: then}) for then in again)) == []


@pytest.mark.parametrize("number", range(how_many(40)))
def test_a_random_schedule_gives_the_same_outputs(number: int, tmp_path: Path) -> None:
    """As it was drawn: `MILLSTREAM_CRASH_SEED=<seed>` draws it again."""
    drawn = random.Random(f"{SEED} {number}")
    case = drawn.choice(CASES)
    scenario = drawn.choice([bounded, stopped, shared, shared, warm])
    kills = {process: drawn.randrange(POINTS_MAX) for process in range(4) if drawn.random() < 0.6}
    settings = {
        "commit_interval": f"{drawn.choice([1, 5, 30, 100])}ms",
        "checkpoint_interval_ms": drawn.choice([1, 40, 10_000]),
        "poll_records_max": drawn.choice([1, 3, 8, 100]),
        "watermark_interval_ms": drawn.choice([1, 100, 1_000]),
        "standby_replicas": drawn.choice([0, 0, 1]),
    }
    faulty = Faulty(
        kills=kills,
        settings=settings,
        prepare=_losing(drawn),
        disks=tmp_path if drawn.random() < 0.1 else None,
    )
    said = wrong_runs(case, scenario, [faulty], must_crash=False)
    assert said == [], f"schedule {number} of MILLSTREAM_CRASH_SEED={SEED}: {settings}"


def _losing(drawn: random.Random) -> Callable[[MemoryBroker], None]:
    """Up to three requests or answers, each at some time."""
    lost = [(drawn.choice(LOST), drawn.randrange(1, 12), drawn.choice(WHEN)) for _ in range(3)]
    given = lost[: drawn.randrange(4)]

    def prepare(broker: MemoryBroker) -> None:
        for request, nth, when in given:
            broker.faults.lose(request, nth, when)

    return prepare
