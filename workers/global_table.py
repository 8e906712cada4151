"""The fluent face of a global table: all of it on every worker, to be looked into by any key without a repartition."""

from __future__ import annotations

from dataclasses import dataclass

from ..topics.schema import Schema
from ..topics.topic import Topic


@dataclass(frozen=True, slots=True)
class GlobalTable:
    """Get one from `App.global_table(topic)`; a stream looks into it by `Stream.join`.

    For small tables that change seldom, such as countries or products: every worker reads the topic from its beginning at each
    start, and holds all of it in memory. It takes no part in the plan: no partition of it is assigned, and no offset committed.
    """

    topic: Topic

    @property
    def schema(self) -> Schema:
        assert self.topic.schema is not None, "checked where it was declared"
        return self.topic.schema

    @property
    def key(self) -> tuple[str, ...]:
        return self.topic.key
