"""The view beside a broker: ready when caught up, read your own writes, through an unreachable broker and a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pyarrow as pa
import pytest

from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.embedders.hashing import Hashing
from millstream.rag.errors import NotFreshError
from millstream.rag.indexes.auto import Auto
from millstream.rag.parse_job import Part
from millstream.rag.settings import ViewSettings
from millstream.rag.updates import vector_bytes, write_update
from millstream.rag.view import IndexView
from millstream.state.errors import DiskError
from millstream.state.store import Database
from millstream.state.stores.memory import Fault, MemoryDatabase
from millstream.topics.batch import Partition, Records
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker

HASHING = Hashing(32)
TOPIC = "updates"
FAST = ViewSettings(poll_timeout_ms=20, retry_pause_ms=10)
LONG_MS = 20_000


class Kept(MemoryDatabase):
    """A database that a closed view leaves as it is."""

    def close(self) -> None:
        """What a restart finds."""


async def records(*texts: str, removed: Sequence[str] = ()) -> Records:
    vectors = await HASHING.embed(list(texts), "document")
    chunks = [Chunk(chunk_ids("d", [text])[0], "d", text) for text in texts]
    values: list[bytes | None] = [
        write_update(chunk, vector_bytes(vector, "f16"), HASHING.fingerprint(), "f16")
        for chunk, vector in zip(chunks, vectors, strict=True)
    ]
    keys = [chunk.key.encode() for chunk in chunks] + [f"d#{chunk_ids('d', [text])[0]}".encode() for text in removed]
    values += [None] * len(removed)
    return Records(pa.array(keys, pa.large_binary()), pa.array(values, pa.large_binary()))


async def write(broker: MemoryBroker, partition: int, written: Records) -> int:
    """The offset of the last record."""
    producer = broker.producer()
    await producer.start()
    end = await (await producer.send(Partition(TOPIC, partition), written))
    await producer.stop()
    return end - 1


@asynccontextmanager
async def viewing(
    broker: MemoryBroker,
    database: Database | None = None,
    settings: ViewSettings = FAST,
    now_ms: Callable[[], int] = lambda: 1,
) -> AsyncIterator[IndexView]:
    kept = database or Kept()
    view = IndexView(broker, TOPIC, HASHING.fingerprint(), 32, lambda: kept, settings=settings, clock_ms=now_ms)
    task = asyncio.create_task(view.run())
    try:
        yield view
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, DiskError):
            await task


@pytest.fixture
async def broker() -> MemoryBroker:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec(TOPIC, partitions=2, cleanup="compact")])
    return broker


async def test_it_is_ready_when_it_has_what_was_there_at_the_start(broker: MemoryBroker) -> None:
    await write(broker, 0, await records("one", "two"))
    await write(broker, 1, await records("three"))
    async with viewing(broker) as view:
        assert not view.is_ready
        await view.wait_ready(LONG_MS)
        assert (len(view.state), view.positions()) == (3, {0: 2, 1: 1})


async def test_an_empty_topic_is_ready_at_once(broker: MemoryBroker) -> None:
    async with viewing(broker) as view:
        await view.wait_ready(LONG_MS)
        assert len(view.state) == 0


async def test_a_topic_that_comes_later_is_waited_for() -> None:
    broker = MemoryBroker()
    async with viewing(broker) as view:
        with pytest.raises(NotFreshError, match="catching up after 50 ms"):
            await view.wait_ready(50)
        with pytest.raises(NotFreshError, match="has not been read"):
            _ = view.state
        await broker.create_topics([TopicSpec(TOPIC, partitions=1)])
        await view.wait_ready(LONG_MS)


async def test_a_question_can_wait_for_its_own_write(broker: MemoryBroker) -> None:
    async with viewing(broker) as view:
        await view.wait_ready(LONG_MS)
        waiting = asyncio.create_task(view.wait_passed({1: 1}, LONG_MS))
        await write(broker, 1, await records("one"))
        await view.wait_passed({1: 0}, LONG_MS)
        assert not waiting.done()
        await write(broker, 1, await records("two"))
        await waiting
        assert len(view.state) == 2


async def test_a_position_that_does_not_come_is_an_error(broker: MemoryBroker) -> None:
    async with viewing(broker) as view:
        await view.wait_ready(LONG_MS)
        with pytest.raises(NotFreshError, match=r"has not reached \{0: 5\} after 30 ms: it is at \{0: 0, 1: 0\}"):
            await view.wait_passed({0: 5}, 30)
        with pytest.raises(NotFreshError, match="no partition 7; it has 2"):
            await view.wait_passed({7: 5}, LONG_MS)


async def test_uncommitted_updates_are_not_seen(broker: MemoryBroker) -> None:
    producer = broker.producer(transactional_id="t")
    await producer.start()
    async with viewing(broker) as view:
        await view.wait_ready(LONG_MS)
        for ending in (producer.abort, producer.commit):
            await producer.begin()
            await (await producer.send(Partition(TOPIC, 0), await records(ending.__name__)))
            end = await write(broker, 1, await records(f"after {ending.__name__}"))
            await view.wait_passed({1: end}, LONG_MS)
            await ending()
        await view.wait_passed({0: 2}, LONG_MS)  # offsets 0 and 1: aborted, its marker; 2: committed
        assert {chunk.text for chunk in view.state.chunks(view.state.numbers().tolist())} == {
            "commit",
            "after abort",
            "after commit",
        }
    await producer.stop()


async def test_a_restart_reads_only_the_tail(broker: MemoryBroker) -> None:
    database = Kept()
    await write(broker, 0, await records("one", "two"))
    async with viewing(broker, database) as view:
        await view.wait_ready(LONG_MS)
    await write(broker, 0, await records("three", removed=["one"]))
    async with viewing(broker, database) as view:
        await view.wait_ready(LONG_MS)
        assert view.state.statistics().applied == 2
        assert {chunk.text for chunk in view.state.chunks(view.state.numbers().tolist())} == {"two", "three"}


@pytest.mark.parametrize("why", ["too old", "records deleted"])
async def test_a_checkpoint_that_may_miss_a_removal_is_not_used(broker: MemoryBroker, why: str) -> None:
    database = Kept()
    await write(broker, 0, await records("one", "two"))
    async with viewing(broker, database) as view:
        await view.wait_ready(LONG_MS)
    now_ms = 1
    if why == "too old":
        now_ms += FAST.checkpoint_age_max_ms + 1
    else:
        await write(broker, 0, await records("three", removed=["one"]))
        await broker.delete_records({Partition(TOPIC, 0): 4})
    async with viewing(broker, database, now_ms=lambda: now_ms) as view:
        await view.wait_ready(LONG_MS)
        expected = {"one", "two"} if why == "too old" else set()
        assert {chunk.text for chunk in view.state.chunks(view.state.numbers().tolist())} == expected


async def test_a_new_partition_is_read_from_its_beginning(broker: MemoryBroker) -> None:
    """Once the interval is over; what came into the others meanwhile is read once."""
    now_ms = [1]
    database = Kept()
    async with viewing(broker, database, now_ms=lambda: now_ms[0]) as view:
        await view.wait_ready(LONG_MS)
        broker.add_partitions(TOPIC, 4)
        await write(broker, 3, await records("three", "four"))
        end = await write(broker, 0, await records("one"))
        await view.wait_passed({0: end}, LONG_MS)
        assert set(view.positions()) == {0, 1}
        now_ms[0] += FAST.partitions_interval_ms
        await _until(lambda: view.positions().get(3) == 2)
        end = await write(broker, 2, await records("two", removed=["one"]))
        await view.wait_passed({2: end}, LONG_MS)
        assert (view.positions(), _texts(view)) == ({0: 1, 1: 0, 2: 2, 3: 2}, {"two", "three", "four"})
    async with viewing(broker, database) as view:
        await view.wait_ready(LONG_MS)
        assert (view.state.statistics().applied, _texts(view)) == (0, {"two", "three", "four"})


async def test_a_question_that_names_a_new_partition_has_it_looked_for(broker: MemoryBroker) -> None:
    """Whoever wrote there knows of it before we do."""
    async with viewing(broker) as view:
        await view.wait_ready(LONG_MS)
        broker.add_partitions(TOPIC, 3)
        end = await write(broker, 2, await records("one"))
        await view.wait_passed({2: end}, LONG_MS)
        assert _texts(view) == {"one"}
        with pytest.raises(NotFreshError, match="no partition 3; it has 3"):
            await view.wait_passed({3: 0}, LONG_MS)


def _texts(view: IndexView) -> set[str]:
    return {chunk.text for chunk in view.state.chunks(view.state.numbers().tolist())}


async def test_a_broker_that_goes_away_is_asked_again(broker: MemoryBroker) -> None:
    async with viewing(broker) as view:
        await view.wait_ready(LONG_MS)
        broker.faults.unreachable = True
        with pytest.raises(NotFreshError):
            await view.wait_passed({0: 0}, 50)
        broker.faults.unreachable = False
        end = await write(broker, 0, await records("one"))
        await view.wait_passed({0: end}, LONG_MS)


async def test_who_listens_is_told_when_the_index_is_thrown_away(
    broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and it is ready again only when all that is there now is in."""
    await write(broker, 0, await records("one", "two"))
    async with viewing(broker) as view:
        await view.wait_ready(LONG_MS)
        told: list[int] = []
        view.restarted.append(lambda: told.append(len(view.state)))
        view.state.positions[0] = 99  # as after an election that lost the end of the log
        broker.faults.unreachable = True
        while "trying again" not in caplog.text:
            await asyncio.sleep(0)
        broker.faults.unreachable = False
        while not told:
            await asyncio.sleep(0)
        await view.wait_ready(LONG_MS)
        assert (told, len(view.state), view.positions()[0]) == ([0], 2, 2)


async def test_a_full_disk_ends_it_and_every_question_hears_why(broker: MemoryBroker) -> None:
    database = Kept()
    async with viewing(broker, database, replace(FAST, checkpoint_records=1)) as view:
        await view.wait_ready(LONG_MS)
        database.fail_next(Fault.DISK_FULL)
        await write(broker, 0, await records("one"))
        with pytest.raises(NotFreshError, match="the index has ended: DiskError"):
            await view.wait_passed({0: 9}, LONG_MS)


async def test_a_worn_out_graph_is_rebuilt_beside(broker: MemoryBroker) -> None:
    settings = replace(FAST, index=Part("hnsw", {"rebuild_share": 0.5}), live_records_max=500)
    texts = [f"text {n}" for n in range(1_100)]
    await write(broker, 0, await records(*texts))
    async with viewing(broker, settings=settings) as view:
        await view.wait_ready(LONG_MS)
        end = await write(broker, 0, await records(*texts))
        await view.wait_passed({0: end}, LONG_MS)
        await _until(lambda: not view.state.index.wants_rebuild)
        assert len(view.state.index) == 1_100


async def test_an_index_that_grows_changes_over_beside_the_searches(broker: MemoryBroker) -> None:
    """From exact search to a graph and back, while updates go on; nothing is lost and nothing comes back."""
    settings = replace(FAST, index=Part("auto", {"exact_chunks_max": 100}))
    texts = [f"text {n}" for n in range(150)]
    await write(broker, 0, await records(*texts[:101]))
    async with viewing(broker, settings=settings) as view:
        await view.wait_ready(LONG_MS)
        index = view.state.index
        assert isinstance(index, Auto)
        await _until(lambda: not index.is_exact)
        end = await write(broker, 0, await records(*texts[101:], removed=texts[:120]))
        await view.wait_passed({0: end}, LONG_MS)
        await _until(lambda: index.is_exact)
        query = (await HASHING.embed([texts[149]], "query"))[0]
        found = index.search(query, 200).numbers.tolist()
        assert {chunk.text for chunk in view.state.chunks(found)} == set(texts[120:])


async def test_a_rebuild_of_an_index_that_was_emptied_meanwhile_is_for_nothing(broker: MemoryBroker) -> None:
    """Records were deleted while the broker was away: the view begins again, whatever a thread is still building."""
    settings = replace(FAST, index=Part("auto", {"exact_chunks_max": 100}))
    await write(broker, 0, await records(*[f"text {n}" for n in range(2_000)]))
    async with viewing(broker, settings=settings) as view:
        await view.wait_ready(LONG_MS)
        await _until(lambda: view.rebuilding is not None)
        view.state.clear()
        end = await write(broker, 0, await records("one"))
        await view.wait_passed({0: end}, LONG_MS)
        await _until(lambda: view.rebuilding is None)
        assert len(view.state.index) == 1


async def _until(is_done: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_MS / 1000):
        while not is_done():
            await asyncio.sleep(0)
