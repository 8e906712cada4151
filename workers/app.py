"""An app: a name, its settings, and the graph that its streams are written into.

    app = App("shop")
    clicks = app.topic("clicks", {"user": "string", "price": "float", "ts": "timestamp_ms"}, key="user", event_time="ts")
    app.stream(clicks).window(tumbling("10s"), by="user").agg(n=count()).to("totals")

An app is a value one passes around: two of them in one process know nothing of each other. `millstream run file.py` runs
it as a member of a consumer group, `run_batch` over frames and files, `Driver` in tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

from ..topics.duration import Duration
from ..topics.errors import SchemaError
from ..topics.schema import ColumnType, Schema
from ..topics.topic import Topic, topic
from .global_table import GlobalTable
from .graph import Graph, Port, Sink, Source
from .inputs import RAW_SCHEMA
from .naming import free_name
from .queries import Tables, TableView
from .settings import AppSettings
from .stream import Stream
from .table import Table
from .topology import Topology, plan

DEFAULT_PARTITIONS = 1
"""Of a topic that does not exist and whose declaration does not say."""


class App:
    """`guarantee`: "exactly_once" (default) or "at_least_once". `commit_interval`: default 100 ms, respectively 1 s.

    Further keywords are the fields of `AppSettings`. Raises PlanError.
    """

    def __init__(
        self, name: str, *, guarantee: str = "exactly_once", commit_interval: Duration | None = None, **settings: object
    ) -> None:
        self.settings = AppSettings.of(name, guarantee=guarantee, commit_interval=commit_interval, **settings)
        self.graph = Graph()
        self.tables = Tables()
        """What of it runs in this process, for `table(name)`."""

    @property
    def name(self) -> str:
        return self.settings.name

    def topic(self, name: str, schema: Mapping[str, ColumnType] | Schema | None = None, **options: Any) -> Topic:
        """Declares a topic; see `millstream.topic` for the options."""
        return topic(name, schema, **options)

    def stream(self, source: Topic, *, name: str | None = None) -> Stream:
        """The rows of a topic. Asked twice for one topic, it is read once. Raises SchemaError where it has no schema."""
        if source.schema is None:
            raise SchemaError(f"topic {source.name!r} has no schema, so it cannot be read; declare its columns")
        return self._stream(source, source.schema, name)

    def records(self, source: Topic, *, name: str | None = None) -> Stream:
        """The records of a topic as bytes: columns `key` and `value`, tombstones included; time is the record's timestamp."""
        return self._stream(source, RAW_SCHEMA, name)

    @overload
    def table(self, source: Topic, *, name: str | None = None) -> Table: ...

    @overload
    def table(self, source: str) -> TableView: ...

    def table(self, source: Topic | str, *, name: str | None = None) -> Table | TableView:
        """Of a topic: its rows by its key, as a part of the plan. Of a name: a table of this app, to be read while it runs.

        In a topic a record takes the place of the one of its key before it, and one without a value takes that away. The name is
        that of a table's step, or of the topic a table is written to (`queries.py`).

        Raises SchemaError where the topic has no schema or no key, PlanError where no table has that name.
        """
        if isinstance(source, str):
            return self.tables.find(self.name, self.graph, source)
        if source.schema is None or not source.key:
            raise SchemaError(
                f"topic {source.name!r} is no table without a schema and key columns; declare them, as in key='id'"
            )
        return Table(self._stream(source, source.schema, name, table=True), source.key)

    def global_table(self, source: Topic) -> GlobalTable:
        """A topic whose rows are on every worker. Raises SchemaError where it has no schema or no key, or is read otherwise too."""
        if source.schema is None or not source.key:
            raise SchemaError(
                f"topic {source.name!r} is no table without a schema and key columns; declare them, as in key='id'"
            )
        if self.graph.source_of(source.name) is not None or self.graph.globals.get(source.name, source) != source:
            raise SchemaError(f"topic {source.name!r} is read as a global table and in another way; read it in one")
        self.graph.globals[source.name] = source
        return GlobalTable(source)

    def _stream(self, source: Topic, schema: Schema, name: str | None, *, table: bool = False) -> Stream:
        node = self.graph.source_of(source.name)
        if source.name in self.graph.globals:
            raise SchemaError(f"topic {source.name!r} is read as a global table and in another way; read it in one")
        if node is None:
            label = name or free_name(f"from-{source.name}", dict(self.graph.nodes))
            node = Source(label, source, schema, table)
            self.graph.add(node)
        elif node.topic != source or node.schema != schema:
            raise SchemaError(
                f"topic {source.name!r} is read twice, declared in two ways; declare it once and use that"
            )
        elif node.table != table:
            raise SchemaError(
                f"topic {source.name!r} is read as a stream and as a table; read it as a table, whose .changes() is a stream"
            )
        key = source.key if all(column in schema for column in source.key) else ()
        return Stream(self.graph, Port(node.name), key, key)

    def plan(self, partition_counts: Mapping[str, int] | None = None) -> Topology:
        """Sub-topologies and partitions. Counts that are not given are taken from the declarations, else 1."""
        return plan(self.name, self.graph, {**declared_partitions(self.graph), **(partition_counts or {})})


def declared_partitions(graph: Graph) -> dict[str, int]:
    """Partitions of every outside topic of a graph as declared, dead letters included."""
    counts: dict[str, int] = {}
    for declared in outside_topics(graph):
        counts[declared.name] = declared.partitions or DEFAULT_PARTITIONS
        if declared.dead_letters:
            counts.setdefault(declared.dead_letters, DEFAULT_PARTITIONS)
    return counts


def outside_topics(graph: Graph) -> list[Topic]:
    """The topics a graph reads and writes, without internal ones."""
    return [*graph.globals.values(), *(node.topic for node in graph if isinstance(node, Source | Sink))]
