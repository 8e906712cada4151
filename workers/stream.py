"""The fluent face: a `Stream` is a port of the graph; each method adds one node and gives the stream behind it.

    stream_base.py      what every stream is, `to`, `then`
    stream_rows.py      rows and columns
    stream_joins.py     joins
    stream_patterns.py  duplicates, what follows what
    here                keys and time

Nothing is computed here. What a method promises is said in the step it adds (`operators/`); what results mean, in the
guide. Streams are values: one may be used several times, which gives several branches.

Partitioning is followed by itself: where a step groups or joins by columns the stream is not partitioned by, an internal
repartition topic is put in between, and `describe` shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..topics.duration import Duration, duration_ms, duration_text
from ..topics.topic import Topic
from .errors import PlanError
from .global_table import GlobalTable
from .grouped_stream import GroupedStream
from .operators.global_join import GlobalJoin
from .operators.join import How, Join
from .operators.materialize import Materialize
from .stream_base import Columns, as_names
from .stream_joins import StreamJoins
from .stream_patterns import StreamPatterns
from .stream_rows import StreamRows
from .table import Table
from .window import Window
from .windowed_stream import Emission, WindowedStream


@dataclass(frozen=True, slots=True)
class Stream(StreamRows, StreamJoins, StreamPatterns):
    """Rows on their way. Get one from `App.stream(topic)`."""

    def group_by(self, *columns: str, name: str | None = None) -> GroupedStream:
        """Groups rows by these columns for good, without windows; `.agg(...)` follows and gives a `Table`.

        `name`: of the step, which keeps its store when steps before it change.
        """
        if not columns:
            raise PlanError("group_by needs a column, as in group_by('user')")
        self.check_columns(columns, "group_by")
        return GroupedStream(self.partitioned(columns), columns, name)

    def to_table(self, *by: str, name: str | None = None) -> Table:
        """The newest row of each key, by arrival. `name`: of the store, by which `app.table(name)` reads it from a running app."""
        if not by:
            raise PlanError("to_table needs a column, as in to_table('user')")
        self.check_columns(by, "to_table")
        kept = self.partitioned(by).then(Materialize(by), name=name, keep_partitioning=True)
        return Table(Stream(self.graph, kept.port, kept.partitioned_by, by), by)

    def join(
        self,
        table: Table | GlobalTable,
        *,
        on: Columns | None = None,
        how: How = "inner",
        suffix: str = "_right",
        name: str | None = None,
    ) -> Stream:
        """Each row with the row the table has for its key now. One output a row, never updated; see `operators/join.py`.

        `on`: the stream's columns that correspond to the table's key; by default those of the same names.
        """
        columns = table.key if on is None else as_names(on)
        if isinstance(table, GlobalTable):
            return self.then(GlobalJoin(columns, table.topic, how, suffix), name=name, keep_partitioning=True)
        step = Join(columns, table.key, how, suffix)
        step.look_up.columns(self.schema, table.schema)  # before a repartition by what is not there
        joined = self.partitioned(columns).then(step, table.changes().partitioned(table.key), name=name)
        return Stream(self.graph, joined.port, columns, columns)

    def window(
        self,
        window: Window,
        *,
        by: Columns,
        grace: Duration | None = None,
        emit: Emission = "update",
        every: Duration | None = None,
        late_to: str | Topic | None = None,
        name: str | None = None,
    ) -> WindowedStream:
        """Groups rows by key and time; `.agg(...)` follows.

        `grace`: how long after its end a window still takes rows (default 0 s; must be said with `emit="final"`).
        `emit`: "update" gives at each commit the net change; "final" gives each window once, when it has closed.
        `every`: a changed window is given at most once in so much event time while it is open, with "final" as with "update".
        `late_to`: a topic for rows that came too late for all their windows, with the reason.
        """
        names = as_names(by)
        self.check_columns(names, "window by=")
        if emit == "final" and grace is None:
            raise PlanError(
                'emit="final" needs grace=, as in grace="5s": a window is given once, so say how long it waits'
            )
        grace_ms = 0 if grace is None else duration_ms(grace, name="grace")
        if grace_ms < 0:
            raise PlanError(f"grace must not be negative, got {grace!r}")
        every_ms = None if every is None else duration_ms(every, name="every")
        if every_ms is not None and every_ms <= 0:
            raise PlanError(
                f"every must be longer than 0, got {duration_text(every_ms)}; leave it out to have none early, or one at each commit"
            )
        return WindowedStream(self.partitioned(names), window, names, grace_ms, emit, late_to, name, every_ms)
