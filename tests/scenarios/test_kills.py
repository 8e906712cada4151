"""With `guarantee: exactly_once`, whatever is killed and whenever, each input's effect is seen once (semantics.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.chaos import Run

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

KILLS = 10
SEED = 20261124


def run(bootstrap: str, app: str, guarantee: str, folder: Path) -> Run:
    return Run(bootstrap, app, guarantee, folder, portion=1_500, seed=SEED)


def test_ten_kills_lose_nothing_and_repeat_nothing(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> None:
    """Two workers, four partitions, ten times `kill -9` at a random point of the stream."""
    chaos = run(kafka, unique("eos"), "exactly_once", tmp_path)
    with chaos.workers:
        chaos.workers.start(0)
        chaos.workers.start(1)
        chaos.rounds(KILLS, chaos.kill_one)
        outcome = chaos.finish()
        assert outcome.clean, f"{outcome}, seed {SEED}\n{chaos.workers.logs()}"
        assert outcome.kills == KILLS


def test_the_same_kills_repeat_records_under_at_least_once(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """Negative control: the harness sees duplicates where they are allowed, and still no loss."""
    chaos = run(kafka, unique("alo"), "at_least_once", tmp_path)
    with chaos.workers:
        chaos.workers.start(0)
        chaos.rounds(KILLS, chaos.kill_one)
        outcome = chaos.finish()
        assert outcome.doubled.duplicated > 0, f"the harness cannot fail: {outcome}"
        assert outcome.doubled.lost == 0


def test_a_stopped_worker_hands_over_cleanly(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> None:
    """SIGTERM: what was worked off is committed, exit status 0, the next one goes on from there."""
    chaos = run(kafka, unique("term"), "at_least_once", tmp_path)
    with chaos.workers:
        chaos.workers.start(0)
        chaos.produce()
        chaos.wait_for(1.0)
        assert chaos.workers.stop(0) == 0
        chaos.workers.start(0)
        chaos.produce()
        outcome = chaos.finish()
        assert outcome.clean, f"{outcome}\n{chaos.workers.logs()}"
