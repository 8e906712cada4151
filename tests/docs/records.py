"""The records that `docs/rag.md` shows: each is read as a worker reads it, and written again it says what it said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson

from millstream.rag.messages import read_document, read_query, write_answer, write_document, write_query, write_status
from millstream.rag.read_back import read_answer, read_status
from millstream.rag.updates import read_update, vector_bytes, write_update

Body = Mapping[str, Any]


def _document(value: bytes) -> bytes:
    return write_document(read_document(b"key", value))


def _status(value: bytes) -> bytes:
    status = read_status(value)
    assert status is not None
    return write_status(status)


def _query(value: bytes) -> bytes:
    return write_query(read_query(None, value))


def _answer(value: bytes) -> bytes:
    """`rounds`, one by one, are left out in the page: there are as many as `strategy` says."""
    told = json.loads(value)
    rounds = [{"documents": 1, "tokens": told["tokens"], "refused": False}] * told["strategy"]["rounds"]
    return write_answer(read_answer(orjson.dumps({**told, "rounds": rounds})))


def _update(header: bytes) -> bytes:
    """The header of a record, with a vector behind it."""
    told = json.loads(header)
    vector = vector_bytes(np.zeros(told["dimensions"], np.float32), told["dtype"])
    update = read_update(
        f"{told['document']}#{told['chunk']}".encode(), len(header).to_bytes(4, "little") + header + vector
    )
    value = write_update(update.chunk, vector, update.model, told["dtype"])
    return value[4 : 4 + int.from_bytes(value[:4], "little")]


AGAIN: dict[str, Callable[[bytes], bytes]] = {
    "documents": _document,
    "documents-status": _status,
    "index-updates": _update,
    "queries": _query,
    "answers": _answer,
}


def differences(record: str, text: str) -> Body:
    """What the record says beside what is written of what was read: a field that is no field, or a value of another form."""
    said = json.loads(text)
    written = json.loads(AGAIN[record](orjson.dumps(said)))
    return {name: value for name, value in said.items() if name not in written or written[name] != value}
