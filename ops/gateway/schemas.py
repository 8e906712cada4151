"""The shapes that routes share, for OpenAPI: those of `rag/messages.py`."""

from __future__ import annotations

from typing import Final

from ...rag.messages import K_MAX, QUESTION_CHARS_MAX, STRATEGIES
from .route import FLAG, NUMBER, OBJECT, TEXT, WHOLE, Schema, fields, listed, named, optional

_TOKENS: Final = fields(prompt=WHOLE, completion=WHOLE)

SCHEMAS: Final[dict[str, Schema]] = {
    "Question": fields(
        ("question",),
        question={**TEXT, "maxLength": QUESTION_CHARS_MAX},
        id=TEXT,
        k=optional({**WHOLE, "minimum": 1, "maximum": K_MAX}),
        filter=optional({"anyOf": [TEXT, OBJECT]}),
        strategy=optional({**TEXT, "enum": list(STRATEGIES)}),
        model=optional(TEXT),
        fresh={**FLAG, "description": "Only from an index that has everything put before."},
        fresh_after={**OBJECT, "description": "Offsets of index-updates by partition that the index must have passed."},
        return_sources=FLAG,
        tenant=optional(TEXT),
        stream={
            **optional(TEXT),
            "description": "The conversation: a follow-up is understood by what was said in it before.",
        },
    ),
    "Source": fields(uri=TEXT, chunk=TEXT, text=TEXT, score=NUMBER, metadata=OBJECT, position=WHOLE),
    "Answer": fields(
        ("id", "question", "answer", "no_answer", "sources"),
        id=TEXT,
        question=TEXT,
        answer=optional(TEXT),
        no_answer=FLAG,
        sources=listed(named("Source")),
        strategy=OBJECT,
        rounds=listed(OBJECT),
        tokens=_TOKENS,
        cost=optional(NUMBER),
        model=TEXT,
        index_position=OBJECT,
        took_ms=WHOLE,
        revision=WHOLE,
        error=optional(TEXT),
    ),
    "Document": fields(
        uri=TEXT,
        text=TEXT,
        content={**TEXT, "description": "base64"},
        ref=TEXT,
        content_type=TEXT,
        metadata=OBJECT,
        modified_at=optional({"type": ["string", "integer"]}),
        version=optional({"type": ["string", "integer"]}),
    ),
    "Status": fields(
        state={**TEXT, "enum": ["indexed", "failed"]},
        chunks=WHOLE,
        embedded=WHOLE,
        reused=WHOLE,
        stale=FLAG,
        error=optional(TEXT),
        version=optional({"type": ["string", "integer"]}),
        took_ms=WHOLE,
        content_type=TEXT,
        metadata=OBJECT,
        modified_at=optional({"type": ["string", "integer"]}),
    ),
    "Listed": fields(("uri", "status"), uri=TEXT, status=named("Status"), at_ms=WHOLE),
    "Error": fields(
        ("error",),
        error=fields(
            ("message", "type"),
            message=TEXT,
            type=TEXT,
            param=optional(TEXT),
            code=optional(TEXT),
            query=optional(TEXT),
        ),
    ),
}
