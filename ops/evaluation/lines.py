"""Every outcome as a JSON object a line, to look at what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from ...rag.evaluation.run import Judged


def as_lines(found: Sequence[tuple[str, Sequence[Judged]]]) -> bytes:
    return b"".join(orjson.dumps(_line(name, one)) + b"\n" for name, outcomes in found for one in outcomes)


def _line(name: str, one: Judged) -> dict[str, object]:
    return {
        "configuration": name,
        "id": one.case.id,
        "question": one.case.question,
        "expected": one.case.answers,
        "answer": one.answer.answer,
        "right": one.right,
        "exact_match": one.exact,
        "f1": one.f1,
        "reciprocal_rank": one.reciprocal_rank,
        "sources": [hit.chunk.document for hit in one.answer.sources],
        "documents": [asked.documents for asked in one.answer.asked],
        "tokens": {"prompt": one.answer.tokens.prompt, "completion": one.answer.tokens.completion},
        "took_ms": round(one.took_ms, 1),
        "error": one.answer.error,
    }
