"""For every operator and every window a pipeline that has it; a part without one is told by `test_bounded_runs.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from millstream.workers.app import App
from millstream.workers.reducers.collect_set import CollectSet
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.max import Max
from millstream.workers.reducers.sum import Sum
from millstream.workers.stream import Stream
from millstream.workers.table import Table
from millstream.workers.window import Window
from millstream.workers.windows.count import count
from millstream.workers.windows.cumulative import cumulative
from millstream.workers.windows.hopping import hopping
from millstream.workers.windows.session import session
from millstream.workers.windows.sliding import sliding
from millstream.workers.windows.tumbling import tumbling
from tests.semantics.stage import SCHEMA

Given = Stream | Table


@dataclass(frozen=True)
class Part:
    """`key`: of the results where they are read as upserts; () where each row counts."""

    build: Callable[[Sources], Given]
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """Two topics of rows, of which the keys are in one partition, and two of tables, that are written before."""

    app: App
    partitions: int = 1
    lag_ms: int = 30

    def _topic(self, name: str, **options: Any) -> Any:
        shared = {"event_time": "at", "partitions": self.partitions, "out_of_order": self.lag_ms}
        return self.app.topic(name, SCHEMA, **{"key": "k", **shared, **options})

    @property
    def rows(self) -> Stream:
        return self.app.stream(self._topic("rows"))

    @property
    def others(self) -> Stream:
        return self.app.stream(self._topic("others"))

    @property
    def table(self) -> Table:
        return self.app.table(self._topic("table"))

    @property
    def names(self) -> Table:
        return self.app.table(self._topic("names"))

    @property
    def everywhere(self) -> Any:
        return self.app.global_table(self.app.topic("everywhere", SCHEMA, key="k", partitions=self.partitions))


def _doubled(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "x": row["x"] * 2}


def _twice(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [row, _doubled(row)]


async def _later(row: dict[str, Any]) -> dict[str, Any]:
    return _doubled(row)


async def _each_later(row: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    for one in _twice(row):
        yield one


async def _is_odd(row: dict[str, Any]) -> bool:
    return bool(row["x"] % 2)


def _tripled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(x=pl.col("x") * 3)


def _branched(sources: Sources) -> Stream:
    branches = sources.rows.branch(low=pl.col("x") < 0, odd=pl.col("x") == 1)
    return branches["rest"].merge(branches["low"])


def _windowed(window: Window) -> Callable[[Sources], Stream]:
    def build(sources: Sources) -> Stream:
        windows = sources.rows.window(window, by="g", grace="5ms", emit="final")
        return windows.agg(n=Count(), total=Sum("x"), high=Max("x"), different=CollectSet("x"))

    return build


def _updated(window: Window, every: str | None = None) -> Callable[[Sources], Stream]:
    def build(sources: Sources) -> Stream:
        return sources.rows.window(window, by="g", grace="5ms", every=every).agg(n=Count(), total=Sum("x"))

    return build


def _counted(sources: Sources) -> Stream:
    """Of equal keys the order is that of the partition."""
    return sources.rows.window(count(3, partial=True), by="k").agg(n=Count(), total=Sum("x"))


def _interval(how: Any) -> Callable[[Sources], Stream]:
    return lambda s: s.rows.interval_join(s.others, on="g", lower="-20ms", upper="9ms", how=how, grace="5ms")


def _asof(direction: Any) -> Callable[[Sources], Stream]:
    def build(sources: Sources) -> Stream:
        tolerance = None if direction == "backward" else "30ms"
        joined = sources.rows.asof_join(sources.others, on="g", direction=direction, tolerance=tolerance)
        return joined.select("k", "g", "x", "at", "at_right")

    return build


def _table_join(how: Any, on: str | None = None) -> Callable[[Sources], Table]:
    return lambda s: s.table.join(s.names, on=on, how=how)


def _window_join(window: Window, how: Any) -> Callable[[Sources], Stream]:
    return lambda s: s.rows.window_join(s.others, window, on="g", how=how, grace="5ms")


OPERATORS: dict[str, dict[str, Part]] = {
    "aggregate": {"": Part(lambda s: s.rows.group_by("g").agg(n=Count(), total=Sum("x")), ("g",))},
    "asof_join": {direction: Part(_asof(direction)) for direction in ("backward", "forward", "nearest")},
    "async_filter": {"": Part(lambda s: s.rows.filter(_is_odd))},
    "async_flat_map": {"": Part(lambda s: s.rows.flat_map(_each_later))},
    "async_map": {"": Part(lambda s: s.rows.map(_later))},
    "branch": {"": Part(_branched)},
    "count_aggregate": {"": Part(_counted)},
    "deduplicate": {
        "": Part(lambda s: s.rows.deduplicate(by="g", within="9ms", keep="earliest", grace="5ms").select("g", "at"))
    },
    "filter": {"": Part(lambda s: s.rows.filter(pl.col("x") > 0))},
    "flat_map": {"": Part(lambda s: s.rows.flat_map(_twice))},
    "followed_by": {
        "": Part(lambda s: s.rows.followed_by(s.others, by="g", within="20ms").select("k", "g", "x", "at", "at_next"))
    },
    "foreign_key_join": {how: Part(_table_join(how, on="g"), ("k",)) for how in ("inner", "left")},
    "global_join": {"": Part(lambda s: s.rows.join(s.everywhere, on="g", how="left"))},
    "interval_join": {how: Part(_interval(how)) for how in ("inner", "left", "right", "outer")},
    "join": {"": Part(lambda s: s.rows.join(s.names, on="g", how="left"))},
    "map": {"": Part(lambda s: s.rows.map(_doubled))},
    "map_batches": {"": Part(lambda s: s.rows.map_batches(_tripled))},
    "materialize": {"": Part(lambda s: s.rows.to_table("k"), ("k",))},
    "merge": {"": Part(lambda s: s.rows.merge(s.others))},
    "newest": {"": Part(lambda s: s.table.join(s.names, on="g"), ("k",))},
    "not_followed_by": {"": Part(lambda s: s.rows.not_followed_by(s.others, by="g", within="20ms", grace="5ms"))},
    "rekey": {"": Part(lambda s: s.table.group_by("g").agg(n=Count(), total=Sum("x")), ("g",))},
    "select": {"": Part(lambda s: s.rows.select("k", (pl.col("x") * 2).alias("y")))},
    "session_aggregate": {"": Part(_windowed(session("7ms")))},
    "table_aggregate": {"": Part(lambda s: s.table.group_by("g").agg(n=Count(), high=Max("x")), ("g",))},
    "table_filter": {"": Part(lambda s: s.table.filter(pl.col("x") > 0), ("k",))},
    "table_join": {how: Part(_table_join(how), ("k",)) for how in ("inner", "left", "outer")},
    "window_aggregate": {"": Part(_windowed(tumbling("10ms")))},
    "window_join": {
        "tumbling": Part(_window_join(tumbling("9ms"), "outer")),
        "hopping": Part(_window_join(hopping("12ms", "8ms"), "left")),
        "session": Part(_window_join(session("7ms"), "right")),
    },
    "with_columns": {"": Part(lambda s: s.rows.with_columns(y=pl.col("x") + 1))},
}


def _key(window: str) -> tuple[str, ...]:
    """Of results that replace one another. Sessions are known by their start; windows that grow by their end too."""
    return ("g", "window_start") if window == "session" else ("g", "window_start", "window_end")


_WINDOWS: dict[str, Window] = {
    "cumulative": cumulative("20ms", "5ms"),
    "hopping": hopping("12ms", "5ms", offset="3ms"),
    "session": session("7ms"),
    "sliding": sliding("12ms", "20ms"),
    "tumbling": tumbling("10ms", offset="-4ms"),
}
WINDOWS: dict[str, dict[str, Part]] = {
    **{
        name: {
            "final": Part(_windowed(window)),
            "update": Part(_updated(window), _key(name)),
            "every": Part(_updated(window, "8ms"), _key(name)),
        }
        for name, window in _WINDOWS.items()
    },
    "count": {"": Part(_counted)},
}
