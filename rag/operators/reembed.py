"""Chunks of index-updates -> the same chunks with another embedder's vectors (output 0).

    input   `key`, `value` of index-updates, tombstones kept      output 0   `key`, `value` of another topic of that kind

For a change of model without a moment without answers: whoever answers with the new model reads the second topic. A record says
what the newest one of its key said: text, metadata and place as they were, a tombstone a tombstone. One that is of the new model
already goes on as it is; one that no view could read takes its key's chunk away, as it does there. Texts of several records are
embedded in one call, a text that was embedded is not paid for again. One that the embedder refuses is rejected (a dead letter):
what the second topic holds of its key stays, which has the same text, since a chunk's id is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ...topics.batch import Batch
from ...topics.schema import Schema
from ...workers.operator import AsyncOperator, Call, Context, Emit, StateDefinition
from ..binding import Bind, unbound
from ..call_cache import CallCache, cache_key
from ..embedder import Embedder
from ..embedding_batches import EmbeddingBatches
from ..errors import MessageError, RagError
from ..locked_state import LockedState
from ..paid_calls import MakePaid, PaidCalls, nobody
from ..paid_embeddings import told
from ..parse_job import Part
from ..parts import part_named
from ..raw import RAW, check_raw, key_and_value, raw_batch
from ..shared import Shared
from ..updates import VectorType, read_update, vector_bytes, write_update


@dataclass(frozen=True, slots=True)
class ReembedSettings:
    """index-updates -> index-updates of another model."""

    embedder: Part
    vector_type: VectorType = "f16"
    cache_entries_max: int = 100_000
    """Vectors kept by the hash of their text, per task."""
    concurrency_max: int = 256
    """Records under way beside each other, per task: their texts are embedded together."""
    pending_rows_max: int = 512
    embed_texts_max: int = 256
    """Texts that are embedded in one call."""


class ReembedParts:
    """What all tasks of a process share. Raises PartError for an embedder that cannot be."""

    def __init__(self, settings: ReembedSettings, paid: PaidCalls | None = None) -> None:
        self.vector_type = settings.vector_type
        made: Embedder = part_named("embedder", settings.embedder.name, settings.embedder.options)
        self.embedder = told(made, paid)
        self.model = self.embedder.fingerprint()
        self.batches = EmbeddingBatches(self.embedder, "document", settings.embed_texts_max)

    async def close(self) -> None:
        await self.embedder.close()


@dataclass(frozen=True, slots=True)
class Reembed:
    """The step."""

    kind: ClassVar[str] = "reembed"

    settings: ReembedSettings
    paid: MakePaid = field(default=nobody, compare=False, repr=False)
    """Where what an embedder was paid for is told, asked when the first task opens."""
    bind: Bind = field(default=unbound, compare=False, repr=False)
    """Tells the pipeline which broker that is."""
    parts: Shared[ReembedParts] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", Shared(lambda: ReembedParts(self.settings, self.paid())))

    def output_schemas(self, inputs: Sequence[Schema]) -> Sequence[Schema]:
        check_raw(self.kind, inputs)
        return (RAW,)

    def state_definition(self, inputs: Sequence[Schema]) -> StateDefinition:
        """Vectors are kept with all they depend on in their key: another embedder does no harm to them."""
        return StateDefinition({"embeddings": "1"})

    def build(self, inputs: Sequence[Schema]) -> ReembedRun:
        return ReembedRun(self.settings, self.parts)

    async def closed(self) -> None:
        """Until what its tasks shared, and have all given back, is closed."""
        await self.parts.closed()

    def describe(self) -> Mapping[str, str]:
        return {"embedder": self.settings.embedder.name, "vectors": self.settings.vector_type}


@dataclass(frozen=True, slots=True)
class _Made:
    """What a record comes to, and the new entry of the cache, if the embedder was asked."""

    value: bytes | None
    entry: tuple[bytes, bytes] | None = None
    unreadable: bool = False


class ReembedRun(AsyncOperator):
    """The operator of one task. State: the embedding cache."""

    def __init__(self, settings: ReembedSettings, shared: Shared[ReembedParts]) -> None:
        self.concurrency_max = settings.concurrency_max
        self.pending_rows_max = settings.pending_rows_max
        embeddings = LockedState("embeddings")  # read by calls, in the event loop
        self.states = (embeddings,)
        self._cache = CallCache(embeddings, settings.cache_entries_max)
        self._lease = shared.lease()

    def open(self, context: Context, watermark: int) -> None:
        super().open(context, watermark)
        self._parts = self._lease.take()

    def close(self) -> None:
        self._lease.give_back()

    def submit(self, batch: Batch, input_index: int) -> Sequence[Call]:
        return [self._call(batch.replaced(batch.frame[row])) for row in range(len(batch))]

    def _call(self, row: Batch) -> Call:
        key, value = key_and_value(row)
        return Call(row, lambda: self._made(key, value), key)

    async def _made(self, key: bytes | None, value: bytes | None) -> _Made:
        self._lease.note_loop()
        if value is None:
            return _Made(None)
        try:
            update = read_update(key, value)
        except MessageError:
            return _Made(None, unreadable=True)
        if update.model == self._parts.model:
            return _Made(value)
        model, dtype = self._parts.model, self._parts.vector_type
        known = cache_key(f"{model} {dtype}", update.chunk.text)
        (vector,) = self._cache.get_many([known])
        if vector is not None:
            return _Made(write_update(update.chunk, vector, model, dtype))
        (embedded,) = await self._parts.batches.embed([update.chunk.text])
        vector = vector_bytes(embedded, dtype)
        return _Made(write_update(update.chunk, vector, model, dtype), (known, vector))

    def complete(self, call: Call, outcome: object | BaseException) -> Sequence[Emit]:
        key, _ = key_and_value(call.row)
        if isinstance(outcome, _Made):
            return self._given(call.row, key, outcome)
        if isinstance(outcome, RagError):
            self.context.count("chunks_failed", 1)
            self.context.reject(call.row, np.zeros(1, np.int64), [str(outcome)])
            return []
        raise outcome if isinstance(outcome, BaseException) else TypeError(f"no outcome of ours: {outcome!r}")

    def _given(self, row: Batch, key: bytes | None, made: _Made) -> list[Emit]:
        if made.entry is not None:
            self._cache.put(*made.entry)
            self.context.count("chunks_embedded", 1)
        if made.unreadable:
            self.context.count("records_unreadable", 1)
        return [] if key is None else [Emit(raw_batch(row, [(key, made.value)]), 0)]
