"""A machine of random steps against an oracle that looks at everything: the view is what the compacted topic says."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.filter import Filter
from millstream.rag.index import Index, Rebuild
from millstream.rag.operators.reembed import Reembed, ReembedSettings
from millstream.rag.parse_job import Part
from millstream.rag.retrieve import Retriever, Wanted
from millstream.rag.settings import RetrievalSettings
from millstream.rag.updates import read_update, vector_bytes, write_update
from millstream.rag.view_state import ViewPlan, ViewState
from millstream.state.stores.memory import Fault, MemoryDatabase, SimulatedCrashError
from tests.rag.running import Running

OLD, NEW = Hashing(16), Hashing(32)
WORDS = ["lamp", "train", "clock", "map", "rope", "bell"]
TEXTS = [f"The {a} and the {b}, number {n}." for n, a in enumerate(WORDS) for b in WORDS[:n]]
VECTORS = {model: asyncio.run(model.embed(TEXTS, "document")) for model in (OLD, NEW)}
INDEXES = [
    Part("exact"),
    Part("hnsw"),
    Part("auto", {"exact_chunks_max": 6}),
    Part("auto", {"exact_chunks_max": 6, "dtype": "f32"}),
]
TENANTS = ["acme", "blue", None]
PARTITIONS = 2

Log = list[tuple[bytes, bytes | None]]


def record(document: str, number: int, tenant: str | None, model: Hashing) -> tuple[bytes, bytes]:
    metadata = {"n": number} | ({} if tenant is None else {"tenant": tenant})
    chunk = Chunk(chunk_ids(document, [TEXTS[number]])[0], document, TEXTS[number], metadata)
    vector = vector_bytes(VECTORS[model][number], "f16")
    return chunk.key.encode(), write_update(chunk, vector, model.fingerprint(), "f16")


class ViewMachine(RuleBasedStateMachine):
    """Documents come, change and go; the process is stopped and killed; indexes are rebuilt and change over; the topic is compacted."""

    @initialize(index=st.sampled_from(INDEXES))
    def begin(self, index: Part) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.plan = ViewPlan("updates", "id-1", OLD.fingerprint(), 16, index)
        self.database = MemoryDatabase()
        self.log: list[Log] = [[] for _ in range(PARTITIONS)]
        self.compacted = [0] * PARTITIONS
        """Offsets below these are read no more as they were: only the last of each key is there."""
        self.rebuild: tuple[Index, Rebuild] | None = None
        self.view = self._view()

    def _view(self) -> ViewState:
        return ViewState(self.plan, self.database, self.folder, tenant_indexes_max=1, own_chunks_min=5)

    def _write(self, document: str, records: Log) -> None:
        partition = len(document) % PARTITIONS
        self.log[partition] += records
        self.view.apply(partition, len(self.log[partition]), records)

    # What producers do

    @rule(
        document=st.sampled_from(["a", "bb", "c", "dd"]),
        numbers=st.sets(st.integers(0, len(TEXTS) - 1), max_size=8),
        tenant=st.sampled_from(TENANTS),
    )
    def put(self, document: str, numbers: set[int], tenant: str | None) -> None:
        """A version of a document: its chunks, and tombstones for those it had."""
        new = dict(record(document, number, tenant, OLD) for number in sorted(numbers))
        held = [key for key in self._alive() if key.decode().partition("#")[0] == document]
        self._write(document, [*new.items(), *((key, None) for key in held if key not in new)])

    @rule(
        document=st.sampled_from(["a", "bb"]),
        number=st.integers(0, 5),
        what=st.sampled_from(["junk", "other model", "gone"]),
    )
    def spoil(self, document: str, number: int, what: str) -> None:
        """A record that gives no chunk takes its key's chunk away."""
        key, _ = record(document, number, None, OLD)
        values = {"junk": b"junk", "gone": None, "other model": record(document, number, None, NEW)[1]}
        self._write(document, [(key, values[what])])

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def compact(self, partition: int) -> None:
        """Earlier records of a key go; offsets stay, as gaps."""
        last = {key: at for at, (key, _) in enumerate(self.log[partition])}
        gap = (b"gap", None)
        self.log[partition] = [one if last[one[0]] == at else gap for at, one in enumerate(self.log[partition])]

    # What happens to the process

    @rule(fault=st.sampled_from([None, Fault.CRASH_BEFORE, Fault.CRASH_AFTER]))
    def checkpoint(self, fault: Fault | None) -> None:
        if fault is not None:
            self.database.fail_next(fault)
        try:
            self.view.checkpoint(1)
        except SimulatedCrashError:
            self.restart(lost_graph=False)

    @rule(lost_graph=st.booleans())
    def restart(self, lost_graph: bool) -> None:
        """Killed: what was not in a checkpoint is read again; a graph that is lost is built again."""
        for path in self.folder.glob("graph-*") if lost_graph else ():
            path.unlink()
        self.view, self.rebuild = self._view(), None
        for partition, records in enumerate(self.log):
            self.view.apply(partition, len(records), records[self.view.positions.get(partition, 0) :])

    @rule()
    def begin_rebuild(self) -> None:
        wanting = [index for index in self.view.indexes() if index.wants_rebuild] or list(self.view.indexes())
        if self.rebuild is None:
            self.rebuild = wanting[0], wanting[0].begin_rebuild()

    @rule()
    def finish_rebuild(self) -> None:
        if self.rebuild is None:
            return
        index, work = self.rebuild
        self.rebuild = None
        if any(index is one for one in self.view.indexes()):
            work.run()
            while not index.finish_rebuild(work):
                work.run()

    # What is promised

    def _alive(self) -> dict[bytes, bytes]:
        last = {key: value for records in self.log for key, value in records}
        model = OLD.fingerprint()
        readable = {key: value for key, value in last.items() if value not in {None, b"junk"}}
        return {key: value for key, value in readable.items() if value and read_update(key, value).model == model}

    @invariant()
    def it_finds_what_a_look_at_everything_finds(self) -> None:
        alive = {key: read_update(key, value) for key, value in self._alive().items()}
        assert len(self.view) == len(alive) == len(self.view.index) == len(self.view.keywords)
        query = VECTORS[OLD][7]
        for tenant in (None, "acme", "blue"):
            mine = [one for one in alive.values() if tenant in {None, one.chunk.metadata.get("tenant")}]
            best = sorted((float(one.vector @ query) for one in mine), reverse=True)[:4]
            found = self.view.nearest(query, 4, None, tenant)
            np.testing.assert_allclose(found.similarities, best, atol=0.01)
            wanted = Wanted(TEXTS[7], query, 50, Filter("n < 9"), tenant)
            hits = Retriever(self.view, RetrievalSettings()).retrieve(wanted)
            expected = {one.chunk.key: one.chunk for one in mine if one.chunk.metadata["n"] < 9}
            assert {hit.chunk.key: hit.chunk for hit in hits} == expected

    def teardown(self) -> None:
        """The topic of another model holds the same chunks."""
        if not hasattr(self, "view"):
            return
        step = Running(Reembed(ReembedSettings(Part("hashing", {"dimensions": 32}))))
        asyncio.run(step.process([one for records in self.log for one in records if one[0] != b"gap"]))
        step.commit()
        second = ViewState(ViewPlan("second", "", NEW.fingerprint(), 32), MemoryDatabase())
        second.apply(0, 1, step.outputs.get(0, []))
        readable = self._readable()
        assert {key: chunk.text for key, chunk in _chunks(second).items()} == readable
        shutil.rmtree(self.folder)

    def _readable(self) -> dict[str, str]:
        last = {key: value for records in self.log for key, value in records}
        return {
            key.decode(): read_update(key, value).chunk.text
            for key, value in last.items()
            if value is not None and value != b"junk"
        }


def _chunks(view: ViewState) -> dict[str, Any]:
    return {chunk.key: chunk for chunk in view.chunks(view.numbers().tolist())}


ViewMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestView = ViewMachine.TestCase
