"""Answers while they are made, for who wants to read along: pieces on a topic of their own, marked as drafts.

    <app>.answer-drafts (one partition, `delete`)    key: the query's id    value: {"id", "at", "text"}

    the model says pieces -> Drafts (a worker) -> the topic -> DraftReader (a gateway) -> whoever asked with "drafts": true

A draft is told at most once, outside of every transaction, and nothing waits for it: `at` is how many characters of this answer came
before, so that a reader sees what is missing, or begun anew by another worker. What counts is the record in `answers`, which is
committed as ever, and may say something else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import orjson

from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch, Partition, Records
from ..topics.broker import Broker, Producer, TopicSpec
from ..topics.ensure import ensure_topic
from ..topics.errors import TopicsError
from .errors import MessageError
from .fields import Fields, json_object
from .following import kept_up
from .llm import Said

_LOG: Final = logging.getLogger(__name__)
RETENTION_MS: Final = 600_000
"""Of the topic, where it is made."""
GATHERED_MS: Final = 20
"""Pieces that come within so long are told together."""
PENDING_CHARS_MAX: Final = 1 << 20
"""Of pieces that are not told yet; more are dropped, and their answers are read whole."""
RETRY_PAUSE_MS: Final = 5_000
"""After a worker could not tell them: for good, where it has no right to."""
_POLL_MS: Final = 500
_POLL_RECORDS_MAX: Final = 1_000
_PIECES_MAX: Final = 1_000
"""Of one answer that its reader has not taken yet; more are dropped."""
_PAUSE_MS: Final = 1_000
"""After the broker could not be reached, and while the topic is not there yet."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A piece of an answer; `at`: characters before it."""

    query_id: str
    at: int
    text: str


def write_draft(draft: Draft) -> bytes:
    return orjson.dumps({"id": draft.query_id, "at": draft.at, "text": draft.text})


def read_draft(value: bytes | None) -> Draft:
    """Raises MessageError."""
    fields = Fields(json_object(value or b"null", "answer-drafts"), "answer-drafts")
    return Draft(fields.required_text("id"), fields.whole("at", 0, 0, 1 << 31), fields.text("text") or "")


class Drafts:
    """Of a worker: `run` it as a task. In the event loop."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._partition = Partition(topic, 0)
        self._waiting: list[Draft] = []
        self._chars = 0
        self._there = asyncio.Event()
        self._warned = False

    def of(self, query_id: str) -> Said:
        """Hears one answer."""
        said_chars = 0

        def said(piece: str) -> None:
            nonlocal said_chars
            self._add(Draft(query_id, said_chars, piece))
            said_chars += len(piece)

        return said

    def _add(self, draft: Draft) -> None:
        if self._chars + len(draft.text) <= PENDING_CHARS_MAX:
            self._waiting.append(draft)
            self._chars += len(draft.text)
            self._there.set()

    async def run(self) -> None:
        """Until cancelled. What cannot be told is dropped."""
        while True:
            try:
                await self._tell()
            except TopicsError as error:
                if not self._warned:
                    _LOG.warning("answers cannot be read while they are made: %s; trying again", error)
                self._warned = True
                await asyncio.sleep(RETRY_PAUSE_MS / 1000)
                self._taken()

    async def _tell(self) -> None:
        producer = self._broker.producer()
        try:
            await producer.start()
            kept = {"retention.ms": str(RETENTION_MS)}
            await ensure_topic(self._broker, TopicSpec(self._partition.topic, 1, config=kept))
            while True:
                await self._there.wait()
                await asyncio.sleep(GATHERED_MS / 1000)
                await self._send(producer, _joined(self._taken()))
                self._warned = False
        finally:
            await producer.drop()

    async def _send(self, producer: Producer, drafts: Sequence[Draft]) -> None:
        keys, values = [one.query_id.encode() for one in drafts], [write_draft(one) for one in drafts]
        await (await producer.send(self._partition, Records(large_binary(keys), large_binary(values))))

    def _taken(self) -> list[Draft]:
        taken, self._waiting, self._chars = self._waiting, [], 0
        self._there.clear()
        return taken


def _joined(drafts: Sequence[Draft]) -> list[Draft]:
    """Pieces that follow each other are one."""
    whole: dict[str, list[Draft]] = {}
    for draft in drafts:
        before = whole.setdefault(draft.query_id, [])
        if before and before[-1].at + len(before[-1].text) == draft.at:
            before[-1] = Draft(draft.query_id, before[-1].at, before[-1].text + draft.text)
        else:
            before.append(draft)
    return [one for some in whole.values() for one in some]


class DraftReader:
    """Of a gateway: `run` it as a task, and `listening` to an answer. In the event loop."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._partition = Partition(topic, 0)
        self._heard: dict[str, tuple[asyncio.Queue[str], list[int]]] = {}
        self._ready = asyncio.Event()

    async def wait_ready(self, timeout_ms: int) -> None:
        """Until what is told from now on is heard; or until then, where nobody makes the topic: answers come whole then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                await self._ready.wait()

    @contextmanager
    def listening(self, query_id: str) -> Iterator[asyncio.Queue[str]]:
        """The pieces of its answer as they come, from the first on; what follows a gap is not given."""
        queue: asyncio.Queue[str] = asyncio.Queue(_PIECES_MAX)
        self._heard[query_id] = (queue, [0])
        try:
            yield queue
        finally:
            del self._heard[query_id]

    async def run(self) -> None:
        await kept_up("answers are not read while they are made", self._follow, _PAUSE_MS, TopicsError)

    async def _follow(self) -> None:
        if self._partition.topic not in await self._broker.describe_topics([self._partition.topic]):
            return
        reader = self._broker.reader(isolation="read_uncommitted")
        try:
            await reader.start()
            reader.assign(await reader.end_offsets([self._partition]))
            self._ready.set()
            while True:
                for fetch in await reader.poll(timeout_ms=_POLL_MS, records_max=_POLL_RECORDS_MAX):
                    self._take(fetch)
        finally:
            self._ready.clear()
            await reader.stop()

    def _take(self, fetch: Fetch) -> None:
        for key, value in zip(fetch.keys, fetch.values, strict=True):
            known = self._heard.get((key or b"").decode("utf-8", "replace"))
            if known is None:
                continue
            queue, reached = known
            try:
                draft = read_draft(value)
            except MessageError as error:
                _LOG.warning("drafts: %s", error)
                continue
            if draft.at == reached[0] and draft.text and not queue.full():
                queue.put_nowait(draft.text)
                reached[0] += len(draft.text)
