"""Requests to one shard of the index -> its replies. The task of partition p answers for partition p of `index-updates`.

    input   `key` (who asks), `value` of the topic shard-queries       output   `key`, `value` of shard-hits

It keeps nothing: the shard is a view of its partition (`rag/shard_views.py`), and a request that is answered anew after a crash gets what
the shard says then. Most are replied to before they come here, beside the worker (`rag/shard_requests.py`), and are passed over. A shard
that has not come far enough says "later" at once, so that old requests hold up nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ...topics.batch import OFFSET, Batch
from ...topics.schema import Schema
from ...workers.operator import AsyncOperator, Call, Context, Emit, StateDefinition
from ..binding import Bind
from ..raw import RAW, check_raw, key_and_value, raw_batch
from ..settings import AnswerSettings, ShardSettings
from ..shard_views import Shards
from ..shared import Shared


@dataclass(frozen=True, slots=True)
class Search:
    """The step. `parts`: the shards of this process."""

    kind: ClassVar[str] = "search"

    settings: AnswerSettings
    parts: Shared[Shards] = field(compare=False, repr=False)
    bind: Bind = field(compare=False, repr=False)
    """Where the shards are read from and kept: see `rag/pipeline.py`."""

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_raw(self.kind, inputs)
        return (RAW,)

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        return StateDefinition({})

    def build(self, inputs: Sequence[Schema]) -> SearchRun:
        return SearchRun(self.settings.sharded or ShardSettings(), self.parts)

    async def closed(self) -> None:
        """Until what its tasks shared, and have all given back, is closed."""
        await self.parts.closed()

    def describe(self) -> Mapping[str, str]:
        return {
            "embedder": self.settings.embedder.name,
            "index": self.settings.view.index.name,
            "ranking": self.settings.retrieval.ranking.name,
        }


class SearchRun(AsyncOperator):
    """The operator of one task."""

    def __init__(self, settings: ShardSettings, shared: Shared[Shards]) -> None:
        self.concurrency_max = settings.concurrency_max
        self.pending_rows_max = settings.pending_rows_max
        self._lease = shared.lease()

    def open(self, context: Context, watermark: int) -> None:
        super().open(context, watermark)
        self._shards = self._lease.take()
        self._shards.open(context.partition)

    def close(self) -> None:
        if self._lease.is_held:
            self._shards.leave(self.context.partition)
        self._lease.give_back()

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        for what, amount in self._shards.take_counts().items():
            self.context.count(what, amount)
        shard, offsets = self.context.partition, batch.frame[OFFSET].to_list()
        left = [row for row, offset in enumerate(offsets) if not self._shards.is_past(shard, offset)]
        return [self._call(batch.replaced(batch.frame[row]), offsets[row]) for row in left]

    def _call(self, row: Batch, offset: int) -> Call:
        key, value = key_and_value(row)

        async def run() -> object:
            """None: it was replied to beside us."""
            self._lease.note_loop()
            if await self._shards.wait_past(self.context.partition, offset):
                return None
            return await self._shards.replied(self.context.partition, key, value)

        return Call(row, run)

    def complete(self, call: Call, outcome: object | BaseException) -> Sequence[Emit]:
        """A request that nobody can be told of is counted."""
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            return []
        records = list(outcome) if isinstance(outcome, list) else []
        self.context.count("requests_answered" if records else "requests_unreadable", 1)
        return [Emit(raw_batch(call.row, records))] if records else []
