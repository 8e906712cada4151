"""What travels between the topics of the document pipeline, as values: `Document`, `Chunk`, `Hit`, `Answer`.

A chunk's id is a hash of its document, its normalised text and the number of earlier chunks of that document with the same
text. A paragraph that moved keeps its id, so it is neither embedded nor sent again; two equal paragraphs have two ids. The
position of a chunk is therefore that of the version in which it first came, a hint for ordering and nothing more.

The shapes on the wire are in `messages.py`.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

Metadata = Mapping[str, Any]
"""JSON values by name: what filters are written over."""

ID_HEX: Final = 32
"""Hexadecimal digits of a chunk's id (128 bits)."""


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document. Exactly one of `content`, `text` and `ref` is given."""

    uri: str
    content: bytes | None = None
    text: str | None = None
    ref: str | None = None
    """An fsspec URL where the content is to be had."""
    content_type: str = ""
    metadata: Metadata = field(default_factory=dict)
    modified_at: str | int | None = None
    """ISO 8601 text or milliseconds since the epoch, as the producer has it."""
    version: str | int | None = None

    @property
    def modified_s(self) -> int | None:
        """Whole seconds since the epoch; None where it is not said, or cannot be read. A text without a zone is taken for UTC."""
        if isinstance(self.modified_at, int):
            return self.modified_at // 1_000
        try:
            said = datetime.fromisoformat(self.modified_at or "")
            return int((said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp())
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, as it is embedded, found and quoted."""

    id: str
    document: str
    text: str
    metadata: Metadata = field(default_factory=dict)
    position: int = 0
    """Its number within the document, from 0, when it was first indexed."""
    version: str | int | None = None
    place: Metadata = field(default_factory=dict)
    """Where in the document it stands, as far as the format says: page, slide, sheet, row, heading. For citations, not for filters."""
    parent: str = ""
    """The larger text that is shown in its place, where there is one."""

    @property
    def shown(self) -> str:
        """What a language model, and whoever asks for sources, gets to read."""
        return self.parent or self.text

    @property
    def key(self) -> str:
        """Key of its record in `index-updates`."""
        return f"{self.document}#{self.id}"


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found, and how well it fits: larger is better, comparable within one question only."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens paid for, as the model's endpoint counts them."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens, in whatever money the user counts in."""

    prompt: float
    completion: float

    def of(self, tokens: Tokens) -> float:
        return (tokens.prompt * self.prompt + tokens.completion * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of the model on the way to an answer."""

    documents: int
    tokens: Tokens
    refused: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question, or why there is none (`no_answer`: the documents do not say; `error`: it went wrong)."""

    id: str
    question: str
    answer: str | None = None
    no_answer: bool = False
    sources: tuple[Hit, ...] = ()
    asked: tuple[Asked, ...] = ()
    """The rounds, one call of the model each."""
    documents_used: int = 0
    """In the last of them."""
    tokens: Tokens = Tokens()
    cost: float | None = None
    """None: the model's price is not known."""
    model: str = ""
    index_position: Mapping[int, int] = field(default_factory=dict)
    """Next offset of `index-updates` by partition, when the documents were looked up."""
    took_ms: int = 0
    revision: int = 0
    error: str | None = None
    reranker_failure: str | None = None
    """Why the chunks are in the order in which they were found."""
    understood_as: str | None = None
    """The question that was answered, where it is another than the one asked: out of a conversation."""
    understanding_failure: str | None = None
    """Why it was not put in other words."""
    missing_shards: Mapping[int, str] = field(default_factory=dict)
    """Shards of the index that were not looked into, and why: what they hold is not in the answer."""

    @property
    def rounds(self) -> int:
        return len(self.asked)


def normalised(text: str) -> str:
    """The text as far as its identity goes: NFC, every run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def digest(*parts: bytes | str, hex_digits: int = 64) -> str:
    """SHA-256 over the parts, each led by its length, so that no two lists of parts give the same bytes."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:hex_digits]


def chunk_ids(document: str, texts: Sequence[str]) -> list[str]:
    """An id for each text: hash(document, normalised text, occurrence number)."""
    seen: Counter[str] = Counter()
    ids = []
    for text in texts:
        plain = normalised(text)
        ids.append(digest(document, plain, str(seen[plain]), hex_digits=ID_HEX))
        seen[plain] += 1
    return ids
