"""Two chunks of different documents that say what cannot both be so: who judges, what is found, and how it stands in its topic.

    contradictions   key     ["<chunk key>", "<chunk key>"]     the pair, as JSON, the smaller key first
                     value   {"between": [{"uri", "chunk", "text", "version"}, the same of the other], "what", "judge", "score",
                             "similarity"}
                     null    it holds no longer: one of the two has changed, or is gone

`what` says in one line what contradicts, `score` from 0 to 1 how sure the judge is, `similarity` is the cosine by which the two
were found. Texts longer than `TEXT_CHARS_MAX` are cut in the record; they are judged as a judge takes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from .document import Chunk
from .fields import Fields, json_object
from .parse_job import Part
from .rewriter import AskModel

TEXT_CHARS_MAX: Final = 4_000
WHAT_CHARS_MAX: Final = 1_000
CHUNK_KEY_BYTES_MAX: Final = 8_192
"""A chunk with a longer key is passed over: two of them are the key of a record."""


@dataclass(frozen=True, slots=True)
class ContradictionSettings:
    """index-updates -> contradictions."""

    judge: Part = Part("numbers")
    neighbours_max: int = 5
    """Of other documents, so many of the chunks nearest to one that changed are judged: pairs a change."""
    similarity_min: float = 0.6
    """Chunks whose cosine is less are taken to speak of other things."""
    concurrency_max: int = 8
    """Changes worked on at once; the pairs of each are judged one after another."""
    pending_rows_max: int = 256
    """Changes that are read before those before them are done."""
    findings_max: int = 100_000
    """That hold at once. One more is not given, and counted (`contradictions_left_out`)."""
    fresh_timeout_ms: int = 300_000
    """How long a change waits for an index that is behind; then it is a dead letter, and what was found before stays."""
    cache_entries_max: int = 10_000
    """What the model said, kept by what it was asked."""

    def __post_init__(self) -> None:
        for name in ("neighbours_max", "concurrency_max", "pending_rows_max", "findings_max", "fresh_timeout_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not -1 <= self.similarity_min <= 1:
            raise ValueError(f"similarity_min must be a cosine, from -1 to 1, got {self.similarity_min}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two texts contradict each other."""

    what: str
    """In one line."""
    score: float = 1.0
    """From 0 to 1."""


class Judge(Protocol):
    """One way to judge, one file in `judges/`. May be asked by several changes at once.

    The trap: it is asked once for a pair, with the smaller key first, and whoever changed does not matter. What it says must
    depend on the two chunks alone.
    """

    def fingerprint(self) -> str:
        """Everything its verdict depends on."""
        ...

    async def judge(self, one: Chunk, other: Chunk, ask: AskModel) -> Verdict | None:
        """None: they do not contradict each other. `ask`: the pipeline's own model. Raises ModelError."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """A contradiction between two chunks; `one` has the smaller key."""

    one: Chunk
    other: Chunk
    verdict: Verdict
    judge: str
    similarity: float


def ordered_pair(one: Chunk, other: Chunk) -> tuple[Chunk, Chunk]:
    """As in a record's key."""
    return (one, other) if one.key.encode() <= other.key.encode() else (other, one)


def pair_key(one: str, other: str) -> bytes:
    """Key of the record of two chunks, by their keys in either order."""
    return orjson.dumps(sorted([one, other], key=str.encode))


def write_finding(finding: Finding) -> bytes:
    verdict = finding.verdict
    return orjson.dumps(
        {
            "between": [_side(finding.one), _side(finding.other)],
            "what": verdict.what[:WHAT_CHARS_MAX],
            "judge": finding.judge,
            "score": round(verdict.score, 4),
            "similarity": round(finding.similarity, 4),
        }
    )


def _side(chunk: Chunk) -> dict[str, Any]:
    return {
        "uri": chunk.document,
        "chunk": chunk.id,
        "text": chunk.text[:TEXT_CHARS_MAX],
        "version": chunk.version,
    }


def write_change(partition: int, offset: int) -> bytes:
    """A record of the topic between: the chunk of its key has changed, by this record of the index's topic."""
    return orjson.dumps({"partition": partition, "offset": offset})


def read_change(value: bytes | None) -> tuple[int, int]:
    """Partition and offset. Raises MessageError."""
    fields = Fields(json_object(value or b"", "contradictions-changes"), "contradictions-changes")
    partition, offset = fields.whole("partition", -1, 0, 1 << 31), fields.whole("offset", -1, 0, 1 << 62)
    if partition < 0 or offset < 0:
        raise fields.wrong("partition" if partition < 0 else "offset", "int")
    return partition, offset
