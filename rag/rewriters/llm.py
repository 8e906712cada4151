"""Asks the pipeline's language model for search queries: other words, and the parts of a question that asks for several things
(Ma et al., "Query Rewriting for Retrieval-Augmented LLMs", 2023).

One line of the reply is one query; what stands before it as a mark or a number is left out, as are copies of the question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ..document import normalised
from ..prompt import Prompt
from ..rewriter import QUERY_CHARS_MAX, AskModel

_MARK: Final = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])?\s*")


class Llm:
    """`queries_max`: of the reply so many lines count."""

    def __init__(self, queries_max: int = 3) -> None:
        if not 1 <= queries_max <= 10:
            raise ValueError("queries_max must be from 1 to 10")
        self._queries_max = queries_max

    async def rewrite(self, question: str, ask: AskModel) -> Sequence[str]:
        said = (await ask(Prompt(question, (), "rewrite"))).text or ""
        lines = [_MARK.sub("", line).strip(" \"'")[:QUERY_CHARS_MAX] for line in said.splitlines()]
        asked = normalised(question).casefold()
        queries = [line for line in lines if line and normalised(line).casefold() != asked]
        return list(dict.fromkeys(queries))[: self._queries_max]
