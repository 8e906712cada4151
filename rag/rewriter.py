"""A question -> what is looked up for it. One way, one file in `rewriters/`; off by default.

What it gives is looked up beside the question, and a chunk counts by the best of its scores: so a bad query brings in no more than
chunks that fit it better than the question's own. A way that fails, or gives nothing, leaves the question alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from .llm import Completion
from .prompt import Prompt

AskModel = Callable[[Prompt], Awaitable[Completion]]
"""The pipeline's own model, its calls cached with the answer they go into."""

QUERY_CHARS_MAX = 500


class Rewriter(Protocol):
    """May be asked by several tasks at once."""

    async def rewrite(self, question: str, ask: AskModel) -> Sequence[str]:
        """Queries beside the question, best first; none where there is nothing to add. Raises ModelError."""
        ...
