"""The `files` source: what is given for a folder that changes, while it is watched and while it is not."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import orjson
import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import TopicSpec
from millstream.topics.errors import ConfigurationError
from millstream.topics.memory import MemoryBroker
from millstream.topics.source import FileMemory, SourceBatch, pump
from millstream.topics.sources.files import Files


class Looks:
    """Events by hand: `looks` are the paths of each; after the last the source ends."""

    def __init__(self, *looks: Any) -> None:
        self._looks = looks

    async def __call__(self, folder: Path) -> AsyncIterator[Collection[Path]]:
        for look in self._looks:
            yield look() or () if callable(look) else look


async def given(folder: Path, remembered: dict[str, str], *looks: Any, **options: Any) -> list[tuple[str, Any]]:
    """Key and text (None: deleted) of each record, in order; `remembered` is brought up to date."""
    records = []
    async for batch in Files(folder, events=Looks(*looks), **options).run(remembered):
        records += [(key.decode(), _text(value)) for key, value in batch.records]
        _remember(remembered, batch)
    return records


def writing(path: Path, text: str) -> Callable[[], None]:
    def write() -> None:
        path.write_text(text)

    return write


def _text(value: bytes | None) -> Any:
    body = None if value is None else orjson.loads(value)
    return body and body.get("text", body.get("content"))


def _remember(remembered: dict[str, str], batch: SourceBatch) -> None:
    for name, value in batch.remember.items():
        if value is None:
            remembered.pop(name, None)
        else:
            remembered[name] = value


async def test_created_modified_and_deleted_while_watched(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "sub").mkdir()
    inner = tmp_path / "sub" / "b.txt"
    records = await given(
        tmp_path,
        {},
        writing(inner, "two"),
        writing(tmp_path / "a.md", "one, edited"),
        inner.unlink,
    )
    assert records == [("a.md", "one"), ("sub/b.txt", "two"), ("a.md", "one, edited"), ("sub/b.txt", None)]


async def test_what_changed_while_nobody_watched(tmp_path: Path) -> None:
    for name in ("kept.md", "edited.md", "deleted.md"):
        (tmp_path / name).write_text(name)
    remembered: dict[str, str] = {}
    assert len(await given(tmp_path, remembered)) == 3
    (tmp_path / "edited.md").write_text("edited now")
    (tmp_path / "deleted.md").unlink()
    (tmp_path / "new.md").write_text("new")
    assert sorted(await given(tmp_path, remembered), key=str) == [
        ("deleted.md", None),
        ("edited.md", "edited now"),
        ("new.md", "new"),
    ]
    assert await given(tmp_path, remembered) == []


async def test_a_touched_file_is_not_given_again(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("one")
    assert await given(tmp_path, {}, lambda: os.utime(path, ns=(1, 1)), [path]) == [("a.md", "one")]


async def test_an_edit_that_keeps_size_and_time_is_seen_by_its_event(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("one")
    os.utime(path, ns=(5, 5))

    def edit() -> list[Path]:
        path.write_text("two")
        os.utime(path, ns=(5, 5))
        return [path]

    assert await given(tmp_path, {}, edit) == [("a.md", "one"), ("a.md", "two")]


@pytest.mark.parametrize(
    "name", [".hidden.md", ".git/config", "a.md~", "a.swp", "download.part", "#a.md#", "~$report.docx", "x.tmp"]
)
async def test_what_is_no_document_is_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    assert await given(tmp_path, {}) == []


async def test_links_that_lead_out_are_left_out(tmp_path: Path) -> None:
    folder, outside = tmp_path / "docs", tmp_path / "secret"
    folder.mkdir()
    outside.mkdir()
    (outside / "key.txt").write_text("secret")
    (folder / "inside.txt").write_text("fine")
    (folder / "link.txt").symlink_to(folder / "inside.txt")
    (folder / "out.txt").symlink_to(outside / "key.txt")
    (folder / "up.txt").symlink_to("../secret/key.txt")
    (folder / "folder").symlink_to(outside)
    (folder / "circle").symlink_to("circle")
    (folder / "nowhere").symlink_to("nothing")
    os.mkfifo(folder / "pipe.txt")
    assert sorted(await given(folder, {})) == [("inside.txt", "fine"), ("link.txt", "fine")]


async def test_a_file_that_is_too_large_keeps_its_last_version(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("small")
    remembered: dict[str, str] = {}
    grown = await given(tmp_path, remembered, writing(path, "x" * 100), bytes_max=50)
    assert grown == [("a.txt", "small")]
    assert await given(tmp_path, remembered, writing(path, "small again"), bytes_max=50) == [("a.txt", "small again")]


async def test_what_a_record_says(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Grüße")
    (tmp_path / "b.pdf").write_bytes(b"%PDF\xff")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    os.utime(tmp_path / "a.md", (1_700_000_000, 1_700_000_000))
    bodies = {}
    async for batch in Files(tmp_path, events=Looks()).run({}):
        bodies |= {key.decode(): orjson.loads(value or b"") for key, value in batch.records}
    assert bodies["a.md"] == {
        "uri": "a.md",
        "text": "Grüße",
        "content_type": "text/markdown",
        "metadata": {},
        "modified_at": "2023-11-14T22:13:20+00:00",
        "version": bodies["a.md"]["version"],
    }
    assert (bodies["b.pdf"]["content"], bodies["b.pdf"]["content_type"]) == ("JVBERv8=", "application/pdf")
    assert bodies["c.txt"]["content"] == "/w=="


async def test_many_files_come_in_batches(tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / f"{number}.txt").write_text(str(number))
    sizes = [len(batch.records) async for batch in Files(tmp_path, events=Looks()).run({})]
    assert sizes == [50, 50, 20]


async def test_random_changes_end_in_what_is_there(tmp_path: Path) -> None:
    """Whatever was folded into one look, and wherever it was stopped and started again."""
    draw = random.Random(7)
    folder = tmp_path / "docs"
    folder.mkdir()
    remembered: dict[str, str] = {}
    topic: dict[str, Any] = {}

    def change() -> None:
        for _ in range(draw.randrange(4)):
            path = folder / f"{draw.randrange(6)}.txt"
            if draw.random() < 0.35:
                path.unlink(missing_ok=True)
            else:
                path.write_text(f"text {draw.randrange(1000)}")

    for _ in range(30):
        topic |= dict(await given(folder, remembered, *[change] * draw.randrange(4)))
        change()
    topic |= dict(await given(folder, remembered))
    assert {uri: text for uri, text in topic.items() if text is not None} == {
        path.name: path.read_text() for path in folder.iterdir()
    }


async def test_the_operating_system_s_events_arrive(tmp_path: Path) -> None:
    source = Files(tmp_path, rescan_interval_ms=200).run({})
    (tmp_path / "a.md").write_text("one")
    first = await anext(source)
    (tmp_path / "b.md").write_text("two")
    second = await asyncio.wait_for(anext(source), 30)
    assert [[key for key, _ in batch.records] for batch in (first, second)] == [[b"a.md"], [b"b.md"]]
    await source.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("folder", "options"), [("nowhere", {}), (".", {"bytes_max": 0})])
def test_a_wrong_option_is_named(folder: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="source files"):
        Files(folder, **options)


def test_the_memory_is_a_file(tmp_path: Path) -> None:
    memory = FileMemory(tmp_path / "sub" / "memory.json")
    assert memory.load() == {}
    memory.save({"a": "1", "b": "2"})
    memory.save({"a": None, "c": "3", "z": None})
    assert FileMemory(tmp_path / "sub" / "memory.json").load() == {"b": "2", "c": "3"}
    (tmp_path / "sub" / "memory.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="remove it to start anew"):
        FileMemory(tmp_path / "sub" / "memory.json").load()


async def test_a_folder_is_pumped_into_a_topic(tmp_path: Path) -> None:
    """And is remembered only once it is acknowledged."""
    broker = MemoryBroker()
    await broker.create_topics([TopicSpec("docs", partitions=3, cleanup="compact")])
    producer = broker.producer()
    await producer.start()
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.md").write_text(f"text {number}")
    memory = FileMemory(tmp_path / "memory.json")
    await pump(Files(folder, events=Looks()), producer, "docs", 3, memory)
    (folder / "0.md").unlink()
    await pump(Files(folder, events=Looks()), producer, "docs", 3, memory)
    await producer.stop()
    reader = broker.reader()
    await reader.start()
    reader.assign({Partition("docs", index): 0 for index in range(3)})
    found: dict[bytes | None, bytes | None] = {}
    while len(found) < 5 or found[b"0.md"] is not None:
        for fetch in await reader.poll(timeout_ms=1_000, records_max=100):
            found |= dict(zip(fetch.keys, fetch.values, strict=True))
    assert sorted(memory.load()) == ["1.md", "2.md", "3.md", "4.md"]
    await reader.stop()
