"""A bounded run and a streaming run over any cuts, commits and crashes come to the same, for every part (semantics.md, 6).

Named there as exceptions, since they depend on arrival: joins of streams with tables (here the tables are complete before the
first row), `count(n)` (here the order of a key is that of its partition), `deduplicate(keep="first")`, approximate quantiles.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import polars as pl
import pytest

from millstream.workers.app import App
from millstream.workers.batch_run import run_batch
from millstream.workers.driver import Driver
from millstream.workers.graph import Work
from millstream.workers.table import Table
from tests.semantics.parts import OPERATORS, WINDOWS, Part, Sources
from tests.semantics.stage import row
from tests.shape.tree import ROOT

PARTS = {
    f"{kind}: {name}{', ' if variant else ''}{variant}": part
    for kind, parts in (("operator", OPERATORS), ("window", WINDOWS))
    for name, variants in parts.items()
    for variant, part in variants.items()
}
RUNS = int(os.environ.get("MILLSTREAM_TOPOLOGIES", "0")) // 100 + 1
STREAMS = ("rows", "others")
Rows = dict[str, list[dict[str, Any]]]


@pytest.mark.parametrize(("folder", "parts"), [("operators", OPERATORS), ("windows", WINDOWS)])
def test_every_part_has_a_pipeline_here(folder: str, parts: Mapping[str, Mapping[str, Part]]) -> None:
    """One file a part: a new one needs a pipeline in `tests/semantics/parts.py`."""
    files = {path.stem for path in (ROOT / "workers" / folder).glob("*.py") if not path.stem.startswith("_")}
    assert sorted(parts) == sorted(files)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_pipeline_of_an_operator_has_it(name: str) -> None:
    for part in OPERATORS[name].values():
        app = _app(part)
        assert name in {node.step.kind for node in app.graph if isinstance(node, Work)}


@pytest.mark.parametrize("name", PARTS)
def test_a_bounded_run_gives_what_a_streaming_run_gives(name: str) -> None:
    part = PARTS[name]
    for seed in range(RUNS):
        rows = _rows(random.Random(seed))
        app = _app(part, partitions=2)
        topics = _topics(app)
        frames = {topic: pl.DataFrame(some, orient="row") for topic, some in rows.items() if topic in topics}
        bounded = run_batch(app, frames)["out"].to_dicts()
        driver = _streamed(app, {topic: rows[topic] for topic in topics}, random.Random(seed))
        streamed = _in_order(driver, part.key)
        assert bounded != []
        assert _comparable(streamed, part.key) == _comparable(bounded, part.key)
        assert driver.instrument.total("late_rows") == 0


def test_negative_control_a_run_that_loses_a_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that forgets what was being worked on when it crashed."""
    crash = Driver.crash

    def forgetful(self: Driver) -> None:
        for slot in self._slots:
            if slot.task is not None and (positions := slot.task._positions()):
                slot.committed = positions
        crash(self)

    monkeypatch.setattr(Driver, "crash", forgetful)
    with pytest.raises(AssertionError):
        test_a_bounded_run_gives_what_a_streaming_run_gives("window: tumbling, final")


def _app(part: Part, partitions: int = 1) -> App:
    app = App("parts", watermark_interval_ms=1)
    given = part.build(Sources(app, partitions))
    if isinstance(given, Table):
        given.to("out")
    else:
        given.to("out", key=part.key or None)
    return app


def _topics(app: App) -> set[str]:
    sources = {source.topic.name for sub in app.plan().subs for source in sub.sources}
    return {name for name in sources if not name.startswith("parts-")} | set(app.graph.globals)


def _rows(chance: random.Random) -> Rows:
    """Rows on time of four topics, tables too: their keys come several times."""
    rows: Rows = {}
    for topic, count in (("rows", 40), ("others", 30), ("table", 25), ("names", 15), ("everywhere", 8)):
        clock = -40
        rows[topic] = []
        for number in range(count):
            clock += chance.choice([0, 1, 2, 5, 12])
            k, g = chance.choice("abcd"), chance.choice("abcde")
            rows[topic].append(row(clock - chance.randrange(20), k, g, chance.randrange(-5, 6) * 100 + number))
    return rows


def _streamed(app: App, rows: Rows, chance: random.Random) -> Driver:
    driver = Driver(app, fetch_records_max=chance.choice([3, 7, 1_000]))
    for topic in sorted(rows.keys() - set(STREAMS)):
        driver.send(topic, rows[topic])
    driver.commit()
    left = {topic: list(rows[topic]) for topic in sorted(rows.keys() & set(STREAMS))}
    while left:
        topic = chance.choice(sorted(left))
        size = chance.choice([1, 4, 15])
        driver.send(topic, left[topic][:size])
        del left[topic][:size]
        if not left[topic]:
            del left[topic]
        deed = chance.choice([None, driver.commit, driver.commit, driver.checkpoint, driver.crash])
        if deed is not None:
            deed()
    driver.end()
    return driver


def _in_order(driver: Driver, key: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows as they were written; where they are upserts those of the table at the end."""
    if not key:
        return driver.rows("out")
    return list(driver.table("out").values())


def _comparable(rows: Iterable[Mapping[str, Any]], key: tuple[str, ...]) -> Any:
    """Of upserts the newest of each key; else the rows as a multiset."""
    plain = [{name: sorted(value) if isinstance(value, list) else value for name, value in one.items()} for one in rows]
    if key:
        return {tuple(one[name] for name in key): one for one in plain}
    return Counter(orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in plain)
