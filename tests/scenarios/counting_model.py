"""A language model and an embedder on 127.0.0.1 with OpenAI's shape that count who asked them: what is counted has to be paid for.

A question names its case (`Case-17`). Every seventh case waits until it is let go, and what was answered after it waits for it.
So does the second text of each document.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from millstream.rag.embedders.hashing import Hashing
from tests.rag.http_server import Reply, answering

DIMENSIONS: Final = 64
QUERY, PASSAGE = "query: ", "passage: "


@dataclass
class Counted:
    """`asked` and `answered`: how often, by case."""

    url: str = ""
    asked: Counter[int] = field(default_factory=Counter)
    answered: Counter[int] = field(default_factory=Counter)
    embedded: Counter[str] = field(default_factory=Counter)
    """How often, by text with its role's prefix."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is clear, every seventh case and each document's second text wait."""


@asynccontextmanager
async def counting_model() -> AsyncIterator[Counted]:
    counted = Counted()

    async def embeddings(texts: list[str]) -> Reply:
        if any(text.startswith(PASSAGE) and "Part 1 " in text for text in texts):
            await counted.go.wait()
        counted.embedded.update(texts)
        vectors = await Hashing(DIMENSIONS).embed(texts, "document")
        rows = [{"index": at, "embedding": vector.tolist()} for at, vector in enumerate(vectors)]
        return Reply(body={"data": rows, "model": "counted", "usage": {"prompt_tokens": len(texts), "total_tokens": 1}})

    async def reply_to(request: dict[str, Any]) -> Reply:
        if request["path"].endswith("/embeddings"):
            return await embeddings(request["body"]["input"])
        case = int(re.findall(r"Case-(\d+)", json.dumps(request["body"]))[-1])
        counted.asked[case] += 1
        if case % 7 == 0:
            await counted.go.wait()
        counted.answered[case] += 1
        message = {"role": "assistant", "content": f"Town{case} [1]"}
        usage = {"prompt_tokens": 100, "completion_tokens": 5}
        return Reply(body={"model": "counted", "choices": [{"message": message}], "usage": usage})

    async with answering(reply_to) as server:
        counted.url = server.url
        yield counted
