"""Any pipeline, any order, any cuts, any crashes: what comes out is what the words say (semantics.md, section 6).

Rows are on time. Of every step all rows are compared, with those of the reference and with those of a bounded run.
`MILLSTREAM_TOPOLOGIES` sets how many pipelines are tried (default 60).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st

from millstream.topics.control import ControlRecord
from millstream.workers import pipeline as pipeline_module
from millstream.workers import task as task_module
from millstream.workers.app import App
from millstream.workers.batch_run import run_batch
from millstream.workers.driver import Driver
from millstream.workers.errors import PlanError
from millstream.workers.watermark import InputTime
from tests.oracles.pipeline import Row
from tests.semantics.stage import partition_of, settled
from tests.semantics.topologies import Topology, topologies

EXAMPLES = int(os.environ.get("MILLSTREAM_TOPOLOGIES", "60"))
ROWS_MAX = 400
"""Of a step; joins of joins that give more are left out."""


@dataclass
class Run:
    """What is drawn of a run: rows and how they come, and what is done between."""

    partitions: int
    out_of_order_ms: int
    rows: dict[str, list[Row]]
    chance: Any
    fetch_records_max: int
    after_a_pause: list[tuple[str, Row]]
    """By topic; later than all of the others, and in the order of time."""

    def all_rows(self) -> dict[str, list[Row]]:
        later = {name: [row for topic, row in self.after_a_pause if topic == name] for name in self.rows}
        return {name: [*rows, *later[name]] for name, rows in self.rows.items()}


@st.composite
def runs(draw: st.DrawFn, topology: Topology) -> Run:
    chance = draw(st.randoms(use_true_random=False))
    lag = draw(st.sampled_from([0, 3, 30]))
    rows = {name: _rows(chance, lag, draw(st.integers(0, 25))) for name in topology.sources}
    newest = max((row.at for some in rows.values() for row in some), default=0)
    later = [row._replace(at=newest + number) for number, row in enumerate(_rows(chance, 0, draw(st.integers(0, 6))))]
    after = [(chance.choice(topology.sources), row) for row in later]
    return Run(draw(st.integers(1, 3)), lag, rows, chance, draw(st.sampled_from([1, 3, 10_000])), after)


def _rows(chance: Any, lag: int, count: int) -> list[Row]:
    """No row is further behind the largest time before it than `lag`."""
    clock, rows = chance.randrange(-60, 20), []
    for _ in range(count):
        clock += chance.choice([0, 0, 1, 1, 2, 5, 30])
        k, g = (chance.choice(["a", "a", "b", "c", None]) for _ in range(2))
        rows.append(Row(k, g, chance.randrange(-3, 4), clock - chance.randint(0, lag)))
        clock = max(clock, rows[-1].at)
    return rows


def _sent(run: Run, topology: Topology, driver: Driver) -> None:
    """Each partition in its order, partitions in any, some far behind the others. Then there may be a pause in which all fall
    asleep, and what comes behind it comes in the order of time. (Not where there is a repartition: what a shard upstream that
    sleeps has not given yet is late when it wakes, behind what others went on to.)"""
    queues: dict[tuple[str, int], list[Row]] = {}
    for name, keyed in zip(topology.sources, topology.keyed, strict=True):
        for row in run.rows[name]:
            queues.setdefault((name, _partition(run, row, keyed)), []).append(row)
    while queues:
        (name, partition), rows = run.chance.choice(sorted(queues.items()))
        size = run.chance.choice([1, 2, 10])
        _send(driver, name, partition, rows[:size])
        del rows[:size]
        if not rows:
            del queues[name, partition]
        _deed(run.chance, driver)
    if run.after_a_pause:
        settled(driver, 11_000)
    for name, row in run.after_a_pause:
        _send(driver, name, _partition(run, row, topology.keyed[topology.sources.index(name)]), [row])
        _deed(run.chance, driver)


def _partition(run: Run, row: Row, keyed: bool) -> int:
    """Where a producer puts it; without a key, anywhere."""
    if not keyed:
        return int(run.chance.randrange(run.partitions))
    return partition_of(row.k, run.partitions) if row.k is not None else 0


def _send(driver: Driver, name: str, partition: int, rows: list[Row]) -> None:
    driver.send(name, [row._asdict() for row in rows], partition=partition)


def _deed(chance: Any, driver: Driver) -> None:
    deed = chance.choice(["", "", "commit", "commit", "checkpoint", "crash", "tick"])
    if deed == "tick":
        driver.advance_clock(chance.choice([1, 50]))
    elif deed:
        getattr(driver, deed)()


def _by_value(rows: list[dict[str, Any]]) -> Counter[Row]:
    return Counter(Row(**row) for row in rows)


def _check(topology: Topology, run: Run) -> None:
    interval, buffer = (
        run.chance.choice([1, 20, 1_000]),
        run.chance.choice([0, 1 << 28]),
    )  # bounded runs with rows on disk, too
    app = topology.app(
        run.partitions, run.out_of_order_ms, watermark_interval_ms=interval, join_buffer_bytes_max=buffer
    )
    driver = _driver(app, run)
    if len(driver.topology.subs) > 1:
        run.after_a_pause.clear()
    all_rows = run.all_rows()
    expected = topology.words(all_rows)
    assume(max(map(len, expected)) <= ROWS_MAX)
    event(f"{len(topology.steps)} steps")
    _sent(run, topology, driver)
    driver.end()
    bounded = run_batch(app, {name: _frame(rows) for name, rows in all_rows.items() if name in _read(app)})
    for number, rows in enumerate(expected):
        topic = f"out-{number}"
        assert _by_value(driver.rows(topic)) == Counter(rows), f"step {number} of {topology}"
        assert _by_value(bounded[topic].to_dicts()) == Counter(rows), f"bounded, step {number} of {topology}"
    assert driver.instrument.total("late_rows") == driver.instrument.total("late_rows.partition_woke") == 0


def _driver(app: App, run: Run) -> Driver:
    """A stream that is joined with itself by another key is refused when it is planned."""
    try:
        return Driver(app, fetch_records_max=run.fetch_records_max)
    except PlanError as error:
        assume("circle" not in str(error))
        raise


def _read(app: App) -> set[str]:
    return {source.topic.name for sub in app.plan().subs for source in sub.sources}


def _frame(rows: list[Row]) -> pl.DataFrame:
    """In the order of time, as one writes a file."""
    schema = {"k": pl.String, "g": pl.String, "x": pl.Int64, "at": pl.Int64}
    return pl.DataFrame(sorted(rows, key=lambda row: row.at), schema=schema, orient="row")


def _tried(examples: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=phases,
        report_multiple_bugs=False,
    )
    @given(data=st.data(), topology=topologies())
    def tried(data: st.DataObject, topology: Topology) -> None:
        _check(topology, data.draw(runs(topology)))

    tried()


def test_a_pipeline_gives_what_the_words_say() -> None:
    _tried(EXAMPLES)


def _largest(inputs: Iterable[InputTime], before: int) -> int:
    return max([before, *(time.watermark for time in inputs)])


def _never_lowered(watermark: int, delay_ms: int) -> int:
    return watermark


def _by_the_last_writer(self: InputTime, records: Iterable[ControlRecord]) -> None:
    self.watermark = max([self.watermark, *(record.watermark for record in records)])


MISTAKES: dict[str, tuple[object, str, object]] = {
    "the fastest input decides": (task_module, "smallest", _largest),
    "no step delays": (pipeline_module, "_lowered", _never_lowered),
    "the fastest writer decides": (InputTime, "saw_control", _by_the_last_writer),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_negative_control_mistakes_are_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some pipeline comes out wrong: as a rule one of the first 60, and the first that is found ends the search."""
    owner, name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        _tried(2_000, [Phase.generate])
