"""Questions through the topic `queries`, answers from the topic `answers`: what any client of the shop would do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from ...rag.messages import Query, write_query
from ...topics.batch import Partition, Records
from ...topics.broker import Producer
from ...topics.partitioner import murmur2_partitions
from .errors import Differs
from .outputs import Outputs
from .settings import DemoSettings


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and how long it took from the question's sending."""

    text: str
    """Empty: the documents do not say."""
    sources: tuple[str, ...]
    """Documents that were shown to the model, best first."""
    model: str
    took_ms: float
    tokens: int

    @classmethod
    def of(cls, record: dict[str, Any], took_ms: float) -> Answered:
        """Raises Differs for an answer that is an error."""
        if record["error"]:
            raise Differs(f"the question {record['question']!r} was answered by an error: {record['error']}")
        return cls(
            record["answer"] or "",
            tuple(dict.fromkeys(source["uri"] for source in record["sources"])),
            record["model"] or "",
            took_ms,
            sum(record["tokens"].values()),
        )


class Asker:
    """Asks one question after another."""

    def __init__(self, settings: DemoSettings, producer: Producer, outputs: Outputs) -> None:
        self._settings = settings
        self._producer = producer
        self._outputs = outputs
        self._asked = 0
        self._read = 0
        self._answers: dict[str, dict[str, Any]] = {}

    async def ask(self, question: str) -> Answered:
        """Raises Differs when no answer comes."""
        self._asked += 1
        name = f"question-{self._asked}"
        began = time.monotonic()
        await self._send(name, write_query(Query(name, question)))
        await self._outputs.wait_until(
            lambda: name in self._known(), self._settings.step_timeout_s, f"the answer to {question!r}"
        )
        return Answered.of(self._answers[name], (time.monotonic() - began) * 1000)

    async def ask_until(self, question: str, is_so: Callable[[Answered], bool]) -> Answered:
        """Again and again until the answer is as it must be. Raises Differs with the last one when it does not become so."""
        deadline = time.monotonic() + self._settings.step_timeout_s
        while not is_so(answer := await self.ask(question)):
            if time.monotonic() > deadline:
                raise Differs(f"{question!r} is still answered {answer.text!r}, from {', '.join(answer.sources)}")
        return answer

    async def _send(self, name: str, value: bytes) -> None:
        keys = pa.array([name.encode()], pa.large_binary())
        index = int(murmur2_partitions(keys, self._settings.partitions)[0])
        partition = Partition(self._settings.topic("queries"), index)
        await (await self._producer.send(partition, Records(keys, pa.array([value], pa.large_binary()))))

    def _known(self) -> dict[str, dict[str, Any]]:
        """All answers that have come, each read once."""
        records = self._outputs.records[self._settings.topic("answers")]
        for _, value in records[self._read :]:
            answer = orjson.loads(value or b"{}")
            self._answers[answer["id"]] = answer
        self._read = len(records)
        return self._answers
