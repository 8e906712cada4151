"""What an answering worker holds of `index-updates`: vectors, keywords, metadata, and the chunks themselves on disk. Synchronous.

    number (small, dense, used again)  <->  record key `<document id>#<chunk id>`
    index, keywords, metadata          by number, in memory
    tenants                            whose numbers are whose, and the indexes of large ones (`tenants.py`)
    database, store "chunks"           record key -> number (u64, big-endian), record value
              meta                     "view": positions, embedder, topic, generation, time of the checkpoint

The view is a function of the compacted topic: what a record says replaces what an earlier one of its key said, so reading a
stretch of the topic twice does no harm, and a record that cannot be read takes its key's chunk away, as it would be gone from
the compacted topic. A checkpoint is one atomic write of the database; before it, what is dear to build (the graph of `hnsw`) is
written beside it under the name of the new generation. A crash between the two leaves a file that no checkpoint names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from ..state.store import Changes, Database, StoreWrite
from .document import Chunk
from .embedder import unit
from .errors import IndexDamagedError, MessageError
from .index import Bitmap, Found, Index, Numbers, Vector, Vectors
from .keywords import Keywords
from .metadata_table import MetadataTable
from .parse_job import Part
from .parts import part_named
from .tenants import OWN_CHUNKS_MIN, Tenants, tenant_of
from .terms import Terms
from .updates import Update, read_update, split_key

_STORE: Final = "chunks"
_META: Final = "view"
_NUMBER_BYTES: Final = 8
_LOAD_ROWS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What a view is of: a checkpoint of another plan is not used."""

    topic: str
    topic_id: str
    model: str
    """Fingerprint of the embedder; records of another one are passed over."""
    dimensions: int
    index: Part = Part("auto")
    language: str = "english"

    def fingerprint(self) -> str:
        index = f"{self.index.name} {sorted(self.index.options.items())}"
        return f"view/1 {self.topic} {self.topic_id} {self.model} {self.dimensions} {index} {self.language}"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a view, now."""

    chunks: int
    metadata: int
    """Distinct ones."""
    applied: int
    """Records since the start."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Records that gave no chunk, by reason: `unreadable`, `other_model`."""
    tenants: int = 0
    """That have chunks."""
    tenant_indexes: int = 0
    """Tenants with an index of their own."""


class ViewState:
    """`folder`: where the graph is saved; None: it is built anew at each start. `tenant_indexes_max`: as in ViewSettings, for
    tenants of more than `own_chunks_min` chunks.

    Raises what the database raises.
    """

    def __init__(
        self,
        plan: ViewPlan,
        database: Database,
        folder: Path | None = None,
        *,
        tenant_indexes_max: int = 100,
        own_chunks_min: int = OWN_CHUNKS_MIN,
    ) -> None:
        self.plan = plan
        self._own_chunks_min = own_chunks_min
        self._tenant_indexes_max = tenant_indexes_max
        self._database = database
        self._store = database.store(_STORE)
        self._folder = folder
        self._passed_over: Counter[str] = Counter()
        self._applied = 0
        self._generation = 0
        self.saved_at_ms: int | None = None
        """When the checkpoint it started from was made; None: there was none that could be used."""
        self._empty()
        self._load()

    def _empty(self) -> None:
        self.index: Index = part_named(
            "index", self.plan.index.name, {"dimensions": self.plan.dimensions} | dict(self.plan.index.options)
        )
        self.keywords = Keywords(Terms(self.plan.language))
        self.metadata = MetadataTable()
        self.tenants = Tenants(
            self.index.vectors,
            self.index.similarities,
            _own_index(self.plan),
            indexes_max=self._tenant_indexes_max,
            own_chunks_min=self._own_chunks_min,
        )
        self.positions: dict[int, int] = {}
        """Next offset by partition: everything before it is in."""
        self._numbers: dict[bytes, int] = {}
        self._keys: list[bytes | None] = []
        self._free: list[int] = []
        self._pending: dict[bytes, bytes | None] = {}
        """Written since the last checkpoint, as the store will have it."""

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def pending(self) -> int:
        """Chunks that the next checkpoint has to write."""
        return len(self._pending)

    def statistics(self) -> Statistics:
        own = len(list(self.tenants.own_indexes()))
        return Statistics(len(self), len(self.metadata), self._applied, dict(self._passed_over), len(self.tenants), own)

    def nearest(self, vector: Vector, k: int, allowed: Bitmap | None = None, tenant: str | None = None) -> Found:
        """The k nearest of those allowed (None: all), of this tenant (None: of all), whatever the others have."""
        if tenant is None:
            return self.index.search(vector, k, allowed)
        return self.tenants.search(tenant, vector, k, allowed)

    def indexes(self) -> Iterator[Index]:
        """All there are, each of which may want a rebuild."""
        yield self.index
        yield from self.tenants.own_indexes()

    # Updates

    def apply(self, partition: int, next_offset: int, records: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        """These records, and everything before `next_offset`, are in. Of several of one key the last counts."""
        last = dict(records)
        updates = [update for key, value in last.items() if (update := self._read(key, value)) is not None]
        there = {update.chunk.key.encode() for update in updates}
        self._remove([key for key in last if key is not None and key not in there])
        self._upsert(updates, last)
        self._applied += len(records)
        self.positions[partition] = next_offset

    def _read(self, key: bytes | None, value: bytes | None) -> Update | None:
        if value is None:
            return None
        try:
            update = read_update(key, value)
        except MessageError:
            self._passed_over["unreadable"] += 1
            return None
        if update.model != self.plan.model or len(update.vector) != self.plan.dimensions:
            self._passed_over["other_model"] += 1
            return None
        return update

    def _remove(self, keys: Sequence[bytes]) -> None:
        """Those whose last record gives no chunk."""
        numbers = []
        for key in keys:
            if key not in self._numbers:
                continue
            number = self._numbers.pop(key)
            self._keys[number] = None
            self._free.append(number)
            self.keywords.remove(number)
            self.metadata.drop(number)
            self._pending[key] = None
            numbers.append(number)
        self.tenants.remove(numbers)
        self.index.remove(np.array(numbers, np.int64))

    def _upsert(self, updates: Sequence[Update], records: Mapping[bytes | None, bytes | None]) -> None:
        numbers = []
        for update in updates:
            key = update.chunk.key.encode()
            number = self._number(key)
            self._hold(number, update)
            self._pending[key] = number.to_bytes(_NUMBER_BYTES) + (records[key] or b"")
            numbers.append(number)
        if numbers:
            vectors = unit(np.stack([update.vector for update in updates]))
            self.index.upsert(np.array(numbers, np.int64), vectors)
            self.tenants.upsert(numbers, [tenant_of(update.chunk.metadata) for update in updates], vectors)

    def _hold(self, number: int, update: Update) -> None:
        self.keywords.upsert(number, update.chunk.text)
        self.metadata.put(number, update.chunk.document, update.chunk.metadata)

    def _number(self, key: bytes) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._free.pop() if self._free else len(self._keys)
            self._place(key, number)
        return number

    def _place(self, key: bytes, number: int) -> None:
        if number >= len(self._keys):
            self._keys += [None] * (number + 1 - len(self._keys))
        self._numbers[key] = number
        self._keys[number] = key

    # Chunks

    def chunks(self, numbers: Sequence[int]) -> list[Chunk]:
        """The chunks of these numbers, which must be there; their texts are read from disk."""
        keys = [self._keys[number] or b"" for number in numbers]
        stored = dict(zip(keys, self._store.get_many(keys), strict=True))
        values = [self._pending.get(key) or stored[key] or b"" for key in keys]
        return [read_update(key, value[_NUMBER_BYTES:]).chunk for key, value in zip(keys, values, strict=True)]

    def keys(self, numbers: Sequence[int]) -> list[str]:
        """Of numbers that are there."""
        return [(self._keys[number] or b"").decode() for number in numbers]

    def numbers_of(self, keys: Sequence[str]) -> list[int]:
        """Of the chunks with these keys; those that are not there are passed over."""
        return [self._numbers[key] for text in keys if (key := text.encode()) in self._numbers]

    def held(self, keys: Sequence[bytes]) -> list[tuple[Chunk, Vector]]:
        """The chunks of these records that are there, with their vectors."""
        numbers = [self._numbers[key] for key in dict.fromkeys(keys) if key in self._numbers]
        vectors = self.index.vectors(np.array(numbers, np.int64))
        return list(zip(self.chunks(numbers), vectors, strict=True))

    def number(self, key: bytes) -> int | None:
        """Of a record's chunk; None: it is not there."""
        return self._numbers.get(key)

    def document(self, number: int) -> str:
        """Id of the document of a number that is taken."""
        return split_key(self._keys[number])[0]

    def numbers(self) -> Numbers:
        """Those taken, ascending."""
        return np.array([number for number, key in enumerate(self._keys) if key is not None], np.int64)

    def documents(self) -> dict[str, int]:
        """Chunks by document id."""
        return dict(Counter(split_key(key)[0] for key in self._numbers))

    # Checkpoints

    def clear(self) -> None:
        """Forget everything, on disk too: the topic is read from its beginning."""
        self._database.clear()
        self._store = self._database.store(_STORE)
        self._empty()
        self.saved_at_ms = None

    def checkpoint(self, now_ms: int) -> None:
        """What a restart begins from. Raises DiskError; then the checkpoint before it is still good."""
        generation = self._generation + 1
        graph = self._graph(generation)
        if graph is not None:
            self.index.save(graph)
        keys = list(self._pending)
        changes = [Changes.of(keys, [self._pending[key] for key in keys])] if keys else []
        self._database.write({_STORE: StoreWrite(changes)}, {_META: self._meta(generation, now_ms)})
        self._generation = generation
        self._pending = {}
        self._sweep_graphs(graph)

    def _meta(self, generation: int, now_ms: int) -> bytes:
        return orjson.dumps(
            {
                "plan": self.plan.fingerprint(),
                "positions": {str(partition): offset for partition, offset in self.positions.items()},
                "generation": generation,
                "saved_at_ms": now_ms,
            }
        )

    def _graph(self, generation: int) -> Path | None:
        return None if self._folder is None else self._folder / f"graph-{generation}"

    def _sweep_graphs(self, kept: Path | None) -> None:
        if self._folder is not None:
            for path in self._folder.glob("graph-*"):
                if path != kept:
                    path.unlink(missing_ok=True)

    def _load(self) -> None:
        saved = self._database.meta(_META)
        meta: dict[str, Any] = orjson.loads(saved) if saved is not None else {}
        if meta.get("plan") != self.plan.fingerprint():
            self._database.clear()
            self._store = self._database.store(_STORE)
            return
        self._generation = meta["generation"]
        self.saved_at_ms = meta["saved_at_ms"]
        self.positions = {int(partition): offset for partition, offset in meta["positions"].items()}
        numbers, tenants, vectors = self._load_chunks()
        self._free = [number for number, key in enumerate(self._keys) if key is None]
        graph = self._graph(self._generation)
        try:
            if graph is None:
                raise IndexDamagedError("no folder for a graph")
            self.index.load(graph, numbers, vectors)
        except IndexDamagedError:
            for start in range(0, len(numbers), _LOAD_ROWS_MAX):
                part = slice(start, start + _LOAD_ROWS_MAX)
                self.index.upsert(numbers[part], vectors[part])
        self.tenants.upsert(numbers.tolist(), tenants, vectors)

    def _load_chunks(self) -> tuple[Numbers, list[str | None], Vectors]:
        numbers: list[int] = []
        tenants: list[str | None] = []
        vectors = [np.zeros((0, self.plan.dimensions), np.float32)]
        for updates in self._stored():
            for number, update in updates:
                self._place(update.chunk.key.encode(), number)
                self._hold(number, update)
                numbers.append(number)
                tenants.append(tenant_of(update.chunk.metadata))
            vectors.append(unit(np.stack([update.vector for _, update in updates])))
        return np.array(numbers, np.int64), tenants, np.concatenate(vectors)

    def _stored(self) -> Iterator[list[tuple[int, Update]]]:
        for changes in self._store.scan(chunk_rows_max=_LOAD_ROWS_MAX):
            yield [
                (int.from_bytes(value[:_NUMBER_BYTES]), read_update(key, value[_NUMBER_BYTES:]))
                for key, value in changes.pairs()
                if value is not None
            ]


def _own_index(plan: ViewPlan) -> Callable[[], Index] | None:
    """An index for one tenant's chunks, like the view's: a graph is built beside the searches, once there are enough."""
    if plan.index.name not in {"auto", "exact", "hnsw"}:
        return None  # a store outside this process has ways of its own
    name = "exact" if plan.index.name == "exact" else "auto"
    return lambda: part_named("index", name, {"dimensions": plan.dimensions} | dict(plan.index.options))
