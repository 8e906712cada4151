"""A long run in which keys are ever new: what has passed is freed, in memory and on disk (semantics.md, section 2).

The same as `python -m benchmarks.ever_new_keys`, smaller, with a database whose parts are small enough to be merged meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks import ever_new_keys
from benchmarks.ever_new_keys import JOBS, Sample, samples
from millstream.state.settings import StateSettings
from millstream.workers.reducers.count import Count
from millstream.workers.windows.tumbling import tumbling

PERIODS, ROWS = 45, 5_000
"""The dictionaries of keys are made anew at 65,536 keys at the earliest, so a third of the run has to have more."""
KIB = 1 << 10
SMALL = StateSettings(block_cache_bytes=4096 * KIB, write_buffers_bytes=1024 * KIB, store_write_buffer_bytes=128 * KIB)


def _grew(found: Sequence[Sample]) -> list[str]:
    """What is on average half as much again in the last third of the run as it was in the first."""
    third = len(found) // 3
    thirds = found[:third], found[-third:]
    means = {
        name: [fmean(getattr(one, name) for one in one_third) for one_third in thirds]
        for name in ("state_bytes", "entries", "disk_bytes")
    }
    return [f"{name}: {first:.0f} to {last:.0f}" for name, (first, last) in means.items() if last > 1.5 * first]


@pytest.mark.parametrize("job", JOBS)
def test_memory_and_disk_stay_level(job: str, tmp_path: Path) -> None:
    assert _grew(list(samples(job, PERIODS, ROWS, tmp_path, SMALL))) == []


def test_negative_control_a_window_that_does_not_close_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, in entries and on disk, and it is noticed."""
    endless = {"day": lambda rows, others: rows.window(tumbling("1d"), by="key").agg(n=Count())}
    monkeypatch.setattr(ever_new_keys, "JOBS", endless)
    grew = _grew(list(samples("day", PERIODS, ROWS, tmp_path, SMALL)))
    assert [text.split(":")[0] for text in grew] == ["state_bytes", "entries", "disk_bytes"]
