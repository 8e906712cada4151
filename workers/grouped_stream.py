"""A stream grouped by key for good; `agg` gives the table of what is gathered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import PlanError
from .operators.aggregate import Aggregate
from .reducer import Reducer
from .table import Table

if TYPE_CHECKING:
    from .stream import Stream


@dataclass(frozen=True, slots=True)
class GroupedStream:
    """What `Stream.group_by` gives."""

    stream: Stream
    by: tuple[str, ...]
    name: str | None

    def agg(self, **aggregates: Reducer) -> Table:
        """One result column a keyword: `.agg(n=count(), total=sum("price"))`.

        Rows of the table: the `by` columns and the named ones, one row a key. At each commit the rows that changed are given,
        as upserts. State grows with the number of different keys and is kept for good; use `window` where it may go.
        """
        if not aggregates:
            raise PlanError("agg needs at least one reducer, as in agg(n=count())")
        stream = self.stream
        result = stream.then(Aggregate(self.by, tuple(aggregates.items())), name=self.name)
        return Table(type(stream)(stream.graph, result.port, stream.partitioned_by, self.by), self.by)
