"""A table grouped by other columns than its key; `agg` gives the table of what is gathered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import PlanError
from .operators.table_aggregate import TableAggregate
from .reducer import Reducer

if TYPE_CHECKING:
    from .stream import Stream
    from .table import Table


@dataclass(frozen=True, slots=True)
class GroupedTable:
    """What `Table.group_by` gives. `rows`: the table's changes, sent by `by`; `key`: the table's."""

    rows: Stream
    key: tuple[str, ...]
    by: tuple[str, ...]
    name: str | None

    def agg(self, **aggregates: Reducer) -> Table:
        """One result column a keyword: `.agg(n=count(), total=sum("price"))`.

        A row that changes or goes is taken out of its group. A group without rows is a tombstone.
        """
        from .table import Table

        if not aggregates:
            raise PlanError("agg needs at least one reducer, as in agg(n=count())")
        step = TableAggregate(self.key, self.by, tuple(aggregates.items()))
        result = self.rows.then(step, name=self.name)
        return Table(type(result)(result.graph, result.port, self.rows.partitioned_by, self.by), self.by)
