"""A table: one row a key, and a stream of what changes in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..topics.schema import Schema
from ..topics.topic import Topic, topic
from .errors import PlanError

if TYPE_CHECKING:
    from .stream import Stream


@dataclass(frozen=True, slots=True)
class Table:
    """What `Stream.group_by(...).agg(...)` gives. `key`: the columns of which each value has one row."""

    _changes: Stream
    key: tuple[str, ...]

    @property
    def schema(self) -> Schema:
        return self._changes.schema

    def changes(self) -> Stream:
        """The upserts as a stream: the new row of a key, at each commit in which it changed."""
        return self._changes

    def to(self, target: str | Topic, *, name: str | None = None) -> Topic:
        """Writes the upserts, keyed by the table's key. A topic named by text is made compacted: it holds the newest row of each key.

        Raises PlanError for a topic with another key: its newest records would not be the table.
        """
        written = topic(target, self.schema, key=self.key, cleanup="compact") if isinstance(target, str) else target
        if written.key and written.key != self.key:
            raise PlanError(
                f"topic {written.name!r} has the key ({', '.join(written.key)}), the table has ({', '.join(self.key)}); "
                "leave the topic's key out, or write .changes() to it"
            )
        return self._changes.to(written, key=self.key, name=name)
