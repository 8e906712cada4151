"""Questions with what is right, one JSON object a line:

    {"question": "How long does a refund take?", "answer": "four working days", "document": "returns.md", "id": "q1"}

    answer      a text; `answers` a list of which any will do; null: no document says, and a refusal is right. Absent: not judged
    document    id of the document that holds it; `documents` a list. Absent: a chunk is right that holds an answer

Documents come from a folder (their ids are the paths below it), or one JSON object a line: {"uri", "text", "content_type", "metadata"}.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ..document import Document
from ..errors import MessageError
from ..fields import Fields, json_object

CASES_MAX: Final = 100_000
DOCUMENT_BYTES_MAX: Final = 20 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """One question."""

    id: str
    question: str
    answers: tuple[str, ...] | None = None
    """None: not judged. Empty: no document says."""
    documents: frozenset[str] = frozenset()

    @property
    def is_unanswerable(self) -> bool:
        return self.answers == ()


def read_cases(path: Path) -> list[Case]:
    """Raises MessageError naming the line, OSError."""
    return _lines(path, _case)


def read_documents(path: Path) -> list[Document]:
    """Of a folder (hidden files and folders are left out), or of a file of lines. Raises MessageError, OSError."""
    if not path.is_dir():
        return _lines(path, _document)
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    return [_file(file, path) for file in files if not _is_hidden(file.relative_to(path))]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _file(file: Path, folder: Path) -> Document:
    if file.stat().st_size > DOCUMENT_BYTES_MAX:
        raise MessageError(f"{file}: larger than {DOCUMENT_BYTES_MAX} bytes")
    kind = mimetypes.guess_type(file.name)[0] or ""
    return Document(file.relative_to(folder).as_posix(), content=file.read_bytes(), content_type=kind)


def _lines(path: Path, read: Callable[[bytes, str], T]) -> list[T]:
    found = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number > CASES_MAX:
                raise MessageError(f"{path.name}: more than {CASES_MAX} lines")
            if line.strip():
                found.append(read(line, f"{path.name}:{number}"))
    return found


def _case(line: bytes, place: str) -> Case:
    values = json_object(line, place)
    fields = Fields(values, place)
    return Case(
        fields.text("id") or place,
        fields.required_text("question").strip(),
        _answers(values, fields),
        frozenset(_one_or_many(fields, "document", "documents")),
    )


def _answers(values: dict[str, Any], fields: Fields) -> tuple[str, ...] | None:
    if "answer" not in values and "answers" not in values:
        return None
    return tuple(_one_or_many(fields, "answer", "answers"))


def _one_or_many(fields: Fields, one: str, many: str) -> Sequence[str]:
    single = fields.text(one)
    listed = fields.array(many)
    if not all(isinstance(text, str) and text.strip() for text in listed):
        raise fields.wrong(many, "a list of texts that are not blank")
    return [*([single] if single else []), *listed]


def _document(line: bytes, place: str) -> Document:
    fields = Fields(json_object(line, place), place)
    return Document(
        fields.required_text("uri"),
        text=fields.required_text("text"),
        content_type=fields.text("content_type") or "text/plain",
        metadata=fields.object("metadata"),
    )
