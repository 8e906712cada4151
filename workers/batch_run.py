"""The same graph over bounded input, in this process and with no broker: frames and files in, frames out.

The input is read to its end, then the watermark goes to infinity, so every window closes and every outer join is resolved.
For input that is on time the final results equal those of a streaming run (semantics.md, section 6): the steps, the rules of
lateness and the order of time are the same objects; only encoding, partitions and commits are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import polars as pl

from ..topics.batch import BEFORE, DELETED, INTERNAL_COLUMNS, OFFSET, TIME, Batch, Fetch, Partition
from ..topics.broker import Committed
from ..topics.dead_letter import Rejected
from ..topics.decode import decode_fetch
from ..topics.errors import SchemaError
from ..topics.timestamps import bad_times, event_times, watermarks
from ..topics.topic import Topic
from .app import App
from .calls import make_calls
from .errors import PlanError, UserFunctionError
from .global_rows import GlobalRows
from .graph import Source
from .instrument import Instrument, Silent
from .naming import repartition_topic
from .task import Task, TaskSettings
from .topology import SubTopology, Topology

ROWS_MAX = 50_000
"""Rows worked on at a time."""

Input = pl.DataFrame | Path | str
"""A frame, or a file: `.jsonl` / `.ndjson` (a record a line, read by the topic's codec), `.parquet`, `.csv`."""


def run_batch(
    app: App, inputs: Mapping[str, Input], *, instrument: Instrument | None = None
) -> dict[str, pl.DataFrame]:
    """Runs the app once over everything. Gives the rows of each output topic, in the order they were given; what a tombstone
    took back is left out. A table that is looked into is read before the stream that does.

    `inputs`: by topic name, all the topics the app reads. `instrument` is told of late and rejected rows; without one they
    are counted nowhere, as with `on_bad_record="skip"`.

    Raises PlanError for a topic that is missing or unknown, SchemaError for a frame without the topic's columns,
    UserFunctionError where the policy is `fail`. To be called where no event loop runs.
    """
    topology = app.plan(dict.fromkeys(app.plan().partition_counts, 1))
    sources = {source.topic.name: source for sub in topology.subs for source in sub.sources}
    inside = {topic.name for topic in topology.internal_topics}
    _check_inputs(app, inputs, (set(sources) - inside) | set(topology.graph.globals))
    instrument = instrument or Silent()
    run = _Run(
        topology,
        TaskSettings(spill_folder=Path(gettempdir()), join_buffer_bytes_max=app.settings.join_buffer_bytes_max),
        instrument,
        {name: _Feed.of(sources[name], inputs[name]) for name in set(sources) - inside},
    )
    run.globals = {name: _global(topic, inputs[name], instrument) for name, topic in topology.graph.globals.items()}
    for sub in topology.subs:
        run.sub_topology(sub)
    return {
        sink.topic.name: _joined(
            run.outputs.get(sink.topic.name, []), topology.graph.schema(sink.inputs[0]).empty(), sink.key
        )
        for sub in topology.subs
        for sink in sub.sinks
    }


def _check_inputs(app: App, inputs: Mapping[str, Input], expected: set[str]) -> None:
    for name in sorted(set(inputs) ^ expected):
        what = "is no topic it reads" if name in inputs else "is missing"
        raise PlanError(f"app {app.name!r}: input {name!r} {what}; it reads {', '.join(sorted(expected))}")


@dataclass(slots=True)
class _Feed:
    """What is left to be given of one source, oldest slice first."""

    source: Source
    slices: Iterator[pl.DataFrame | Fetch]
    watermark: int | None = None
    next: Batch | None = None
    rejected: list[tuple[Fetch, Sequence[Rejected]]] = field(default_factory=list)
    offset: int = 0

    @classmethod
    def of(cls, source: Source, given: Input) -> _Feed:
        return cls(source, _slices(source, given))


def _slices(source: Source, given: Input) -> Iterator[pl.DataFrame | Fetch]:
    if isinstance(given, pl.DataFrame):
        frame = given
    elif Path(given).suffix in _FRAME_FILES:
        frame = _FRAME_FILES[Path(given).suffix](Path(given))
    elif Path(given).suffix in {".jsonl", ".ndjson"}:
        yield from _line_fetches(source, Path(given))
        return
    else:
        known = ", ".join([*_FRAME_FILES, ".jsonl", ".ndjson"])
        raise PlanError(
            f"input {given}: no way to read {Path(given).suffix or 'a file without an ending'}; known are {known}"
        )
    checked = _with_columns(source, frame)
    yield from (checked[start : start + ROWS_MAX] for start in range(0, checked.height, ROWS_MAX))


_FRAME_FILES: dict[str, Callable[[Path], pl.DataFrame]] = {".parquet": pl.read_parquet, ".csv": pl.read_csv}


def _with_columns(source: Source, frame: pl.DataFrame) -> pl.DataFrame:
    """Exactly the source's columns and types. Raises SchemaError naming the column."""
    for name, kind in source.schema:
        if name not in frame.columns:
            raise SchemaError(f"input {source.topic.name!r} has no column {name!r}; it has {', '.join(frame.columns)}")
        try:
            frame = frame.with_columns(pl.col(name).cast(kind, strict=True))
        except pl.exceptions.PolarsError as error:
            raise SchemaError(f"input {source.topic.name!r}, column {name!r}: {error}") from error
    return frame.select(source.schema.names)


def _line_fetches(source: Source, path: Path) -> Iterator[Fetch]:
    """Lines as records without keys; what does not decode is rejected as in a topic."""
    with path.open("rb") as file:
        first = 0
        while lines := [line for line in (raw.strip() for raw in file.readlines(_READ_BYTES)) if line]:
            offsets = np.arange(first, first + len(lines), dtype=np.int64)
            times = np.full(len(lines), _NO_RECORD_TIME, np.int64)
            nothing = [None] * len(lines)
            first += len(lines)
            yield Fetch(Partition(source.topic.name, 0), int(offsets[0]), first, first, nothing, lines, offsets, times)


_READ_BYTES = 8 * 1024 * 1024
_NO_RECORD_TIME = -1
"""Lines and frames have no record timestamp; event times are not judged by it."""


def _global(topic: Topic, given: Input, instrument: Instrument) -> GlobalRows:
    rows = GlobalRows(topic, instrument)
    for piece in _slices(Source(topic.name, topic, rows.schema, table=True), given):
        if isinstance(piece, Fetch):
            rows.take(replace(piece, timestamps=np.zeros(len(piece), np.int64)))  # what no table looks at
        else:
            rows.put(Batch(piece))
    return rows


class _Run:
    """One pass over the sub-topologies in their order; what a repartition was given is the next one's input."""

    def __init__(
        self, topology: Topology, settings: TaskSettings, instrument: Instrument, feeds: dict[str, _Feed]
    ) -> None:
        self.topology = topology
        self.settings = settings
        self.instrument = instrument
        self.feeds = feeds
        self.outputs: dict[str, list[pl.DataFrame]] = {}
        self.globals: Mapping[str, GlobalRows] = {}

    def sub_topology(self, sub: SubTopology) -> None:
        task = Task(self.topology, sub, 0, self.settings, self.instrument)
        task.bind_globals(self.globals)
        for state in task.states.values():
            state.restore((), ())
        task.open({partition: Committed(0) for partition in task.inputs})
        feeds = [self.feeds[source.topic.name] for source in sub.sources]
        for feed in feeds:
            self._load(task, feed)
        while waiting := [feed for feed in feeds if feed.next is not None]:
            self._give(task, min(waiting, key=lambda feed: (feed.source.name not in sub.table_sources, _oldest(feed))))
        task.end()
        self._settle(task)
        for node in sub.repartitions:
            topic = repartition_topic(self.topology.app, node.name)
            self.feeds[topic] = _Feed(_source(self.topology, topic), iter(self.outputs.pop(node.name, [])))

    def _load(self, task: Task, feed: _Feed) -> None:
        """Decode the feed's next slice with rows in it."""
        item = task.inputs[Partition(feed.source.topic.name, 0)]
        feed.next = None
        for piece in feed.slices:
            if isinstance(piece, Fetch):
                decoded = decode_fetch(piece, feed.source.topic, item.codec, item.time.watermark)
                if decoded.rejected:
                    task.rejects.records(piece, decoded.rejected)
                batch, watermark = decoded.batch, decoded.watermark
            else:
                batch, watermark = self._timed(feed, piece, item.time.watermark)
            if len(batch):
                feed.next, feed.watermark = batch, watermark
                return

    def _timed(self, feed: _Feed, frame: pl.DataFrame, watermark: int) -> tuple[Batch, int]:
        """Rows of a frame with their event times. Rows of a repartition have theirs already."""
        if TIME in frame.columns:
            return Batch(frame), watermark
        name = feed.source.topic.event_time
        if name is None:
            raise PlanError(f"input {feed.source.topic.name!r}: a frame has no record timestamps; declare event_time=")
        times = event_times(frame[name])
        bad = times.is_null().to_numpy() | bad_times(times, np.full(frame.height, _NO_RECORD_TIME), 0)
        if bad.any():
            self._rejected(feed, int(bad.sum()))
            frame, times = frame.filter(pl.Series(~bad)), times.filter(pl.Series(~bad))
        before, after = watermarks(times.to_numpy(), watermark, feed.source.topic.out_of_order_ms)
        feed.offset += frame.height
        offsets = np.arange(feed.offset - frame.height, feed.offset)
        internal = {TIME: times.to_numpy(), BEFORE: before, OFFSET: offsets}
        return Batch(
            frame.with_columns(pl.Series(name, column, dtype=pl.Int64) for name, column in internal.items())
        ), after

    def _rejected(self, feed: _Feed, count: int) -> None:
        topic = feed.source.topic
        self.instrument.count("rejected_records", count, topic=topic.name, error="event_time", step="decode")
        if topic.on_bad_record == "fail":
            raise UserFunctionError(
                f"input {topic.name!r}: {count} rows have no usable {topic.event_time!r}, and it says 'fail'"
            )

    def _give(self, task: Task, feed: _Feed) -> None:
        batch, watermark = feed.next, feed.watermark
        if batch is not None:
            task.push(Partition(feed.source.topic.name, 0), batch, watermark)
        self._settle(task)
        self._load(task, feed)

    def _settle(self, task: Task) -> None:
        """Calls are made and results taken, until nothing is under way."""
        make_calls(task)
        task.pipeline.flush()
        for name, batches in task.pipeline.collected.items():
            target = next((sink.topic.name for sink in task.sub.sinks if sink.name == name), name)
            self.outputs.setdefault(target, []).extend(batch.frame for batch in batches)
        task.pipeline.collected.clear()


def _oldest(feed: _Feed) -> int:
    return int(feed.next.time[0]) if feed.next is not None else 0


def _source(topology: Topology, topic: str) -> Source:
    return next(source for sub in topology.subs for source in sub.sources if source.topic.name == topic)


def _joined(frames: list[pl.DataFrame], empty: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The rows of a topic. Those that were taken back later are none of them."""
    if any(DELETED in frame.columns for frame in frames):
        frames = [_without_taken_back(pl.concat(frames, how="diagonal"), key)]
    kept = [frame.select(name for name in frame.columns if name not in INTERNAL_COLUMNS) for frame in frames]
    return pl.concat(kept) if kept else empty


def _without_taken_back(frame: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Numbered first: within `over` a range would begin anew in every group."""
    gone = pl.col(DELETED).fill_null(value=False)
    last = pl.when(gone).then(pl.col(_NUMBER)).max().over(list(key))
    numbered = frame.with_row_index(_NUMBER)
    return numbered.filter(~gone & ((pl.col(_NUMBER) > last) | last.is_null())).drop(_NUMBER)


_NUMBER = "__number"
