"""Answers, statuses and lists of documents as whoever asked reads them: the inverse of what `messages.py` writes.

Lenient where a newer worker may say more, strict where a wrong value would be believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from .catalogue_values import DocumentStatistics, Listed
from .document import Answer, Asked, Chunk, Hit, Tokens
from .errors import MessageError
from .fields import Fields, json_object
from .messages import Status, write_status


def read_answer(value: bytes | None) -> Answer:
    """A record of `answers` or `retrievals`. Raises MessageError for what is none."""
    body = json_object(value or b"", "answers")
    fields = Fields(body, "answers")
    strategy, cost = fields.object("strategy"), body.get("cost")
    return Answer(
        id=fields.text("id") or "",
        question=fields.text("question") or "",
        answer=fields.text("answer"),
        no_answer=fields.flag("no_answer", False),
        sources=tuple(_hit(one) for one in _objects(body.get("sources"))),
        asked=tuple(_asked(one) for one in _objects(body.get("rounds"))),
        documents_used=_whole(strategy.get("documents_used")),
        tokens=_tokens(body.get("tokens")),
        cost=float(cost) if isinstance(cost, int | float) else None,
        model=fields.text("model") or "",
        index_position=_positions(fields),
        took_ms=_whole(body.get("took_ms")),
        revision=_whole(body.get("revision")),
        error=fields.text("error"),
        missing_shards=_missing(fields.object("incomplete")),
    )


def _missing(incomplete: Mapping[str, Any]) -> dict[int, str]:
    reasons = Fields(incomplete, "answers").object("reasons")
    return {int(shard): str(reason) for shard, reason in reasons.items() if shard.isdecimal()}


def read_status(value: bytes | None) -> Status | None:
    """A record of `documents-status`; None: the document is deleted. Raises MessageError for what is none."""
    if value is None:
        return None
    return _status(json_object(value, "documents-status"))


def _status(body: Mapping[str, Any]) -> Status:
    fields = Fields(body, "documents-status")
    state = fields.required_text("state")
    if state not in {"indexed", "failed"}:
        raise MessageError(f"documents-status: expected indexed or failed, got {state!r} - at $.state")
    return Status(
        state="indexed" if state == "indexed" else "failed",
        chunks=_whole(body.get("chunks")),
        embedded=_whole(body.get("embedded")),
        reused=_whole(body.get("reused")),
        stale=fields.flag("stale", False),
        error=fields.text("error"),
        version=fields.text_or_whole("version"),
        took_ms=_whole(body.get("took_ms")),
        content_type=fields.text("content_type") or "",
        metadata=fields.object("metadata"),
        modified_at=fields.text_or_whole("modified_at"),
    )


def write_listed(listed: Listed) -> dict[str, Any]:
    """As HTTP has it: {"uri", "status", "at_ms"}."""
    return {"uri": listed.uri, "status": orjson.loads(write_status(listed.status)), "at_ms": listed.at_ms}


def read_listed(body: Any) -> Listed:
    told = body if isinstance(body, dict) else {}
    fields = Fields(told, "documents")
    return Listed(fields.required_text("uri"), _status(fields.object("status")), _whole(told.get("at_ms")))


def read_statistics(body: Mapping[str, Any]) -> DocumentStatistics:
    def optional(name: str) -> int | None:
        return found if type(found := body.get(name)) is int else None

    return DocumentStatistics(
        _whole(body.get("documents")),
        _whole(body.get("failed")),
        _whole(body.get("chunks")),
        optional("last_indexed_at_ms"),
        optional("last_modified_at"),
    )


def _positions(fields: Fields) -> dict[int, int]:
    told = fields.object("index_position")
    if not all(key.isascii() and key.isdigit() for key in told):
        raise fields.wrong("index_position", 'offsets by partition, as in {"0": 41}')
    return {int(key): _whole(offset) for key, offset in told.items()}


def _hit(source: Mapping[str, Any]) -> Hit:
    metadata = source.get("metadata")
    chunk = Chunk(
        str(source.get("chunk", "")),
        str(source.get("uri", "")),
        str(source.get("text", "")),
        metadata if isinstance(metadata, dict) else {},
        _whole(source.get("position")),
    )
    score = source.get("score")
    return Hit(chunk, float(score) if isinstance(score, int | float) else 0.0)


def _asked(told: Mapping[str, Any]) -> Asked:
    return Asked(_whole(told.get("documents")), _tokens(told.get("tokens")), told.get("refused") is True)


def _tokens(told: Any) -> Tokens:
    counts = told if isinstance(told, dict) else {}
    return Tokens(_whole(counts.get("prompt")), _whole(counts.get("completion")))


def _objects(listed: Any) -> list[Mapping[str, Any]]:
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _whole(value: Any) -> int:
    return value if type(value) is int else 0
