"""A prompt -> an answer. One language model (or what stands in for one), one file in `llms/`.

The contract suite is `tests/contracts/test_llms.py`. What a model says is never trusted to be well formed: an implementation
turns everything that is not an answer into a ModelError, and "the documents do not say" into `text=None`. One that can be told
not to begin with a word (`Prompt.forbid_no`) says so by an attribute `can_forbid`; without it nobody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .document import Tokens
from .prompt import Prompt


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model made of a prompt."""

    text: str | None
    """None: it says that the documents do not say."""
    cited: tuple[int, ...] = ()
    """Numbers of the passages it used, as far as it says."""
    tokens: Tokens = Tokens()
    model: str = ""
    first_token: Mapping[str, float] = field(default_factory=dict)
    """Log-probabilities of what could have stood first, where `Prompt.odds` asked for them and the model has them."""


class LLM(Protocol):
    """May be asked by several tasks at once."""

    def fingerprint(self) -> str:
        """Model and every setting the answer depends on."""
        ...

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        """`model`: as the query asks for it; None: as set. Raises ModelUnavailableError, ModelRefusedError, ModelError."""
        ...

    async def close(self) -> None: ...
