"""Documents -> chunks and vectors (output 0), their status (output 1); what cannot be worked on is rejected.

    input   `key`, `value` of the documents topic, tombstones kept      output 0   `key`, `value` of index-updates
                                                                        output 1   `key`, `value` of documents-status

Documents are worked on beside each other, the versions of one document one after another, and everything is given and put into
state in the order of the rows: under exactly-once the updates of a version, its status and what is remembered of it are one
commit. A version that fails is rejected (a dead letter) and reported; the one before it stays in the index, stale.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from ...state.key_value import KeyValueState
from ...topics.batch import Batch
from ...topics.schema import Schema
from ...workers.operator import AsyncOperator, Call, Context, Emit
from ..binding import Bind, unbound
from ..call_cache import CallCache
from ..diff import Held
from ..errors import RagError
from ..ingest_work import IngestParts, Prepared, failed, prepare
from ..locked_state import LockedState
from ..messages import Status, write_status
from ..paid_calls import MakePaid, nobody
from ..raw import RAW, check_raw, key_and_value, raw_batch
from ..settings import IngestSettings
from ..shared import Shared

UPDATES = 0
STATUS = 1


@dataclass(frozen=True, slots=True)
class Ingest:
    """The step. `parts` are shared by its tasks; without them each task would load the model for itself."""

    kind: ClassVar[str] = "ingest"

    settings: IngestSettings = IngestSettings()
    clock: Callable[[], float] = field(default=time.monotonic, compare=False, repr=False)
    """Seconds; for `took_ms` only."""
    paid: MakePaid = field(default=nobody, compare=False, repr=False)
    """Where what an embedder was paid for is told, asked when the first task opens."""
    bind: Bind = field(default=unbound, compare=False, repr=False)
    """Tells the pipeline which broker that is."""
    parts: Shared[IngestParts] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        shared = Shared(lambda: IngestParts(self.settings, self.clock, self.paid()))
        object.__setattr__(self, "parts", shared)

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_raw(self.kind, inputs)
        return (RAW, RAW)

    def build(self, inputs: Sequence[Schema]) -> IngestRun:
        return IngestRun(self.settings, self.parts)

    async def closed(self) -> None:
        """Until what its tasks shared, and have all given back, is closed."""
        await self.parts.closed()

    def describe(self) -> Mapping[str, str]:
        return {
            "embedder": self.settings.embedder.name,
            "splitter": self.settings.splitter.name,
            "vectors": self.settings.vector_type,
        }


class IngestRun(AsyncOperator):
    """The operator of one task. State: what the index holds by document, and the embedding cache."""

    def __init__(self, settings: IngestSettings, shared: Shared[IngestParts]) -> None:
        self.concurrency_max = settings.concurrency_max
        self.pending_rows_max = settings.pending_rows_max
        self._documents = KeyValueState("documents")
        embeddings = LockedState("embeddings")  # read by calls, in the event loop
        self.states = (self._documents, embeddings)
        self._cache = CallCache(embeddings, settings.cache_entries_max)
        self._lease = shared.lease()
        self._under_way: Counter[bytes] = Counter()
        self._expected: dict[bytes, Held | None] = {}
        """What the index will hold of documents with versions that are prepared and not handed back yet."""

    def open(self, context: Context, watermark: int) -> None:
        super().open(context, watermark)
        self._parts = self._lease.take()

    def close(self) -> None:
        self._lease.give_back()

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        return [self._call(batch.replaced(batch.frame[row])) for row in range(len(batch))]

    def _call(self, row: Batch) -> Call:
        """State is read here and in `complete`, which the task's thread calls; `run` is for the event loop."""
        key, value = key_and_value(row)
        known = key or b""
        self._under_way[known] += 1
        held = self._held(known)
        return Call(row, lambda: self._prepare(key, value, held), known)

    async def _prepare(self, key: bytes | None, value: bytes | None, held: Held | None) -> Prepared:
        """An earlier version that is under way was prepared before this call was begun: what it comes to is what is held."""
        self._lease.note_loop()
        known = key or b""
        prepared = await prepare(key, value, self._expected.get(known, held), self._cache, self._parts)
        self._expected[known] = prepared.held
        return prepared

    def complete(self, call: Call, outcome: object | BaseException) -> Sequence[Emit]:
        known = call.key or b""
        self._under_way[known] -= 1
        if self._under_way[known] == 0:
            del self._under_way[known]
            self._expected.pop(known, None)
        if isinstance(outcome, Prepared):
            return self._done(call.row, outcome)
        if isinstance(outcome, Exception):
            return self._failed(call.row, known, outcome)
        raise outcome if isinstance(outcome, BaseException) else TypeError(f"no outcome of ours: {outcome!r}")

    def _done(self, row: Batch, prepared: Prepared) -> list[Emit]:
        for key, vector in prepared.vectors:
            self._cache.put(key, vector)
        if prepared.held is None:
            self._documents.delete(prepared.key)
        else:
            self._documents.put(prepared.key, prepared.held.to_bytes())
        for what, amount in {"chunks_embedded": len(prepared.vectors), **self._parts.endpoint_counts.take()}.items():
            self.context.count(what, amount)
        status = None if prepared.status is None else write_status(prepared.status)
        emits = [Emit(raw_batch(row, prepared.records), UPDATES)] if prepared.records else []
        return [*emits, Emit(raw_batch(row, [(prepared.key, status)]), STATUS)]

    def _failed(self, row: Batch, key: bytes, error: Exception) -> list[Emit]:
        reason = str(error) if isinstance(error, RagError) else f"{type(error).__name__}: {error}"
        self.context.count("documents_failed", 1)
        self.context.reject(row, np.zeros(1, np.int64), [reason])
        held = self._held(key)
        if held is not None:
            self._documents.put(key, replace(held, stale=True).to_bytes())
        if not key:
            return []
        chunks = len(held.chunks) if held else 0
        status = failed(*key_and_value(row), Status("failed", chunks, 0, chunks, held is not None, reason))
        return [Emit(raw_batch(row, [(key, write_status(status))]), STATUS)]

    def _held(self, key: bytes) -> Held | None:
        stored = self._documents.get(key)
        return None if stored is None else Held.from_bytes(stored)
