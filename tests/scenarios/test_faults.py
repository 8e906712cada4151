"""What else may happen to a group under exactly-once: a zombie, growing and shrinking, a broker that dies and comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.ops.local_broker import LocalBroker
from tests.scenarios.chaos import Run

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SEED = 7


def two_workers(bootstrap: str, app: str, folder: Path) -> Run:
    """Running, with a first portion behind them. The caller enters `run.workers`."""
    return Run(bootstrap, app, "exactly_once", folder, portion=1_000, seed=SEED)


def begin(run: Run, *workers: int) -> None:
    for number in workers:
        run.workers.start(number)
    run.produce()
    run.wait_for(1.0)


def test_a_zombie_is_fenced(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> None:
    """A worker is stopped for longer than its session lasts; another takes over; then it wakes, and may change nothing."""
    run = two_workers(kafka, unique("zombie"), tmp_path)
    with run.workers:
        begin(run, 0, 1)
        run.produce()
        run.workers.pause(0)
        run.produce()
        run.wait_for(1.0)
        run.workers.resume(0)
        run.produce()
        assert run.finish().clean, run.workers.logs()


def test_growing_to_three_workers_and_shrinking_to_one(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """One worker, then three, then one, while orders come."""
    run = two_workers(kafka, unique("scale"), tmp_path)
    with run.workers:
        begin(run, 0)
        run.workers.start(1)
        run.workers.start(2)
        run.workers.wait_joined(1)
        run.workers.wait_joined(2)
        run.produce()
        run.wait_for(1.0)
        for number in (0, 1):
            run.produce()
            assert run.workers.stop(number) == 0
        run.produce()
        assert run.finish().clean, run.workers.logs()


def test_a_broker_that_is_killed_and_comes_back(tmp_path: Path, unique: Callable[[str], str]) -> None:
    """`kill -9` of the only broker in the middle of the stream: the workers wait for it, and go on."""
    with LocalBroker() as broker:
        run = two_workers(broker.bootstrap, unique("broker"), tmp_path)
        with run.workers:
            begin(run, 0, 1)
            run.produce()
            broker.kill()
            broker.restart()
            run.produce()
            assert run.finish().clean, run.workers.logs()
