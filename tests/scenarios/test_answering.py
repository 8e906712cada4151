"""Documents to answers on a real Kafka while workers are killed (`kill -9`), judged by readers of librdkafka's.

No document is in the index by half and no chunk twice, each question has one answer, and what a dead worker had paid the model
or the embedder for is not paid for again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer, TopicPartition

from millstream.rag.call_cache import cache_key
from millstream.rag.document import Document, chunk_ids
from millstream.rag.document_topics import TOPICS
from millstream.rag.embedder import Embedder
from millstream.rag.messages import Query, write_document, write_query
from millstream.rag.parts import part_named
from millstream.rag.splitters.markdown import Markdown
from millstream.rag.updates import read_update
from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from tests.polling import until
from tests.scenarios.answering import Job
from tests.scenarios.counting_model import PASSAGE, QUERY, Counted, counting_model
from tests.scenarios.judge import end_of, reading
from tests.scenarios.processes import Workers

DOCUMENTS = 12
WORKERS = (0, 1)
KILLS_MIN, KILLS_MAX = 4, 20

FIXED = Document("fixed.md", text="# Parts\n\nEach case has its part.", content_type="text/markdown", version=1)
"""Questions are answered from this one alone: what is shown to the model stays the same while all others are edited."""

Record = tuple[bytes, bytes | None]


def records(job: Job, topic: str) -> list[Record]:
    """All that is committed, in the order of each partition."""
    consumer, found = reading(job.bootstrap), []
    for index in range(job.partitions):
        place = TopicPartition(f"{job.app}.{topic}", index, 0)
        end, at = end_of(consumer, place), 0
        consumer.assign([place])
        while at < end and (message := consumer.poll(5.0)) is not None:
            if message.error() is not None:  # the end was reached: what is left are control records
                break
            found.append((message.key() or b"", message.value()))
            at = (message.offset() or 0) + 1
    consumer.close()
    return found


def document(number: int, version: int) -> Document:
    """Some sections stay from one version to the next, some change, some go. The first two are new in each."""
    sections = [
        f"# Case {number}.{part}\n\nPart {part} of case {number}, {version // (part // 2 + 1)}." for part in range(6)
    ]
    text = "\n\n".join(sections[: 6 - version % 3])
    return Document(f"case-{number}.md", text=text, content_type="text/markdown", version=version)


@dataclass
class Play:
    """A run: who has been asked, and what was seen at each kill."""

    job: Job
    workers: Workers
    counted: Counted
    producer: Producer
    questions: int = 0
    passed: dict[int, int] = field(default_factory=dict)
    """What the index must have before a question is answered: some of each document."""
    rescued: Counter[int] = field(default_factory=Counter)
    """By case how often it had been asked when its worker was killed, of those whose call was told and whose answer was not committed."""
    lost: Counter[int] = field(default_factory=Counter)
    """The same, of those whose call was not told."""
    embedded: Counter[str] = field(default_factory=Counter)
    """By text how often it had been embedded at the last kill, of those that were told by then."""
    saved: int = 0
    """Texts that were told at a kill, and not in the index."""
    version: int = 0
    """Of the documents that were put last."""

    async def ask(self, count: int) -> None:
        """At once, for all partitions."""
        for number in range(self.questions, self.questions + count):
            asked = f"Case-{number}: what is its part?"
            query = Query(f"q{number}", asked, k=1, filter=f"uri == '{FIXED.uri}'", fresh_after=self.passed)
            self.producer.produce(f"{self.job.app}.queries", write_query(query), f"q{number}".encode())
        self.questions += count
        await asyncio.to_thread(self.producer.flush)

    async def put(self) -> None:
        """All documents, in their next version."""
        self.version += 1
        for one in self.documents():
            self.producer.produce(f"{self.job.app}.documents", write_document(one), one.uri.encode())
        await asyncio.to_thread(self.producer.flush)

    def documents(self) -> list[Document]:
        return [*(document(number, self.version) for number in range(DOCUMENTS)), FIXED]

    async def in_the_middle(self) -> bool:
        """Whether something of a document is paid for (and told) and its next text is waited for."""
        paid = {text for text in self.counted.embedded if text.startswith(PASSAGE) and f", {self.version}." in text}
        return bool(paid & set(await self.told_texts()) if self.job.told else paid)

    async def kill(self, number: int) -> None:
        """In the middle of answering; and the same worker again."""
        answered = set(self.counted.answered)
        self.workers.kill(number)
        asked = Counter(self.counted.asked)
        done = {cases_of(key) for key, _ in await self.read("answers")}
        told = {
            cases_of(value[4 : 4 + int.from_bytes(value[:4])]) for _, value in await self.read("paid-calls") if value
        }
        for case in (told | answered) - done:
            (self.rescued if case in told else self.lost)[case] = max(asked[case], 1)  # the other worker goes on
        await self._note_texts()
        self.workers.start(number)

    async def _note_texts(self) -> None:
        counts = Counter(self.counted.embedded)
        texts = await self.told_texts()
        held = {read_update(key, value).chunk.text for key, value in await self.read("index-updates") if value}
        self.saved += sum(text.startswith(PASSAGE) and text.removeprefix(PASSAGE) not in held for text in texts)
        self.embedded.update({text: counts[text] for text in texts if text not in self.embedded})

    async def told_texts(self) -> list[str]:
        texts = list(self.counted.embedded)
        told = {key for key, _ in await self.read("paid-embeddings")}
        return [text for text in texts if self._key(text) in told]

    def _key(self, text: str) -> bytes:
        role, prefix = ("document", PASSAGE) if text.startswith(PASSAGE) else ("query", QUERY)
        embedder: Embedder = part_named("embedder", self.job.embedder.name, self.job.embedder.options)
        return cache_key(f"{embedder.fingerprint()} {role}", text.removeprefix(prefix))

    async def read(self, topic: str) -> list[Record]:
        return await asyncio.to_thread(records, self.job, topic)

    async def all_answered(self) -> bool:
        return len(await self.read("answers")) >= self.questions


def cases_of(query: bytes) -> int:
    return int(query.decode().removeprefix("q"))


async def played(job: Job, folder: Path, counted: Counted, enough: Callable[[Play], bool], seed: int) -> Play:
    """Documents, questions and kills until it is enough; then everything is worked off."""
    chance = random.Random(seed)
    await _topics(job)
    sending = {"bootstrap.servers": job.bootstrap, "enable.idempotence": True, "partitioner": "murmur2_random"}
    with Workers("tests.scenarios.answering", folder, [job.text()]) as workers:
        play = Play(job, workers, counted, Producer(sending))
        for number in WORKERS:
            workers.start(number)
        counted.go.set()
        await play.put()
        await until(lambda: _indexed(play))
        play.passed = await asyncio.to_thread(_lasts, job, "index-updates")
        for turn in range(KILLS_MAX):
            if turn >= KILLS_MIN and enough(play):
                break
            wanted = counted.answered.total() + chance.randrange(3, 12)
            counted.go.clear()
            await play.put()
            await play.ask(15)
            await until(partial(_reached, counted, wanted))
            await until(play.in_the_middle)
            await play.kill(chance.choice(WORKERS))
            counted.go.set()
            await until(play.all_answered)
        await play.put()
        await until(lambda: _indexed(play))
        assert workers.running() == list(WORKERS), workers.logs()
        return play


async def _topics(job: Job) -> None:
    broker = KafkaBroker({"bootstrap.servers": job.bootstrap})
    await broker.start()
    pipeline = job.pipeline(App(job.app))
    await broker.create_topics([pipeline.topic(name).spec() for name in TOPICS])
    await broker.stop()


def _lasts(job: Job, topic: str) -> dict[int, int]:
    """The last offset of each partition that has any."""
    consumer = reading(job.bootstrap)
    places = [TopicPartition(f"{job.app}.{topic}", index) for index in range(job.partitions)]
    ends = {place.partition: end_of(consumer, place) for place in places}
    consumer.close()
    return {index: end - 1 for index, end in ends.items() if end}


async def _reached(counted: Counted, answers: int) -> bool:
    return counted.answered.total() >= answers


async def _indexed(play: Play) -> bool:
    last = {key: orjson.loads(value) for key, value in await play.read("documents-status") if value is not None}
    versions = {key: status["version"] for key, status in last.items() if key != FIXED.uri.encode()}
    return len(last) == DOCUMENTS + 1 and set(versions.values()) == {play.version}


async def judged(play: Play) -> None:
    """Answers and the index, but for what was paid."""
    answers = await play.read("answers")
    assert Counter(key for key, _ in answers) == {b"q%d" % number: 1 for number in range(play.questions)}
    for key, value in answers:
        answer = orjson.loads(value or b"")
        assert (answer["error"], answer["answer"]) == (None, f"Town{cases_of(key)} [1]")
    held: dict[bytes, tuple[str, int]] = {}
    for key, value in await play.read("index-updates"):
        if value is None:
            assert held.pop(key, None) is not None, f"{key!r} is removed twice"
        else:
            chunk = read_update(key, value).chunk
            assert held.get(key) != (chunk.text, chunk.version), f"{key!r} is put twice"
            held[key] = (chunk.text, int(chunk.version or 0))
    expected = {}
    for one in play.documents():
        texts = [piece.text for piece in Markdown().split(one.text or "")]
        expected |= {
            f"{one.uri}#{chunk}".encode(): text for chunk, text in zip(chunk_ids(one.uri, texts), texts, strict=True)
        }
    assert {key: text for key, (text, _) in held.items()} == expected


@pytest.mark.kafka
async def test_killed_workers_leave_nothing_by_half_and_pay_for_nothing_twice(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    async with counting_model() as counted:
        job = Job(kafka, unique("answering"), counted.url)
        play = await played(job, tmp_path, counted, lambda play: len(play.rescued) >= 3 <= play.saved, seed=7)
        await judged(play)
        assert len(play.rescued) >= 3 <= play.saved, "no kill came between a call and its commit"
        again = {
            case: (counted.asked[case], asked) for case, asked in play.rescued.items() if counted.asked[case] > asked
        }
        assert again == {}, "what was told is not asked again"
        more = {text: counted.embedded[text] for text, times in play.embedded.items() if counted.embedded[text] > times}
        assert more == {}, "nor embedded"


@pytest.mark.kafka
async def test_negative_control_what_is_not_told_is_paid_for_again(
    kafka: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """Each question has one answer all the same."""
    async with counting_model() as counted:
        job = Job(kafka, unique("answering"), counted.url, told=False)

        def again(play: Play) -> bool:
            asked = any(counted.asked[case] > asked for case, asked in play.lost.items())
            return asked and any(times > 1 for text, times in counted.embedded.items() if text.startswith(PASSAGE))

        play = await played(job, tmp_path, counted, again, seed=7)
        await judged(play)
        assert again(play)
