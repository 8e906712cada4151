"""A prompt -> an answer. One language model (or what stands in for one), one file in `llms/`.

The contract suite is `tests/contracts/test_llms.py`. What a model says is never trusted to be well formed: an implementation
turns everything that is not an answer into a ModelError, and "the documents do not say" into `text=None`. One that can be told
not to begin with a word (`Prompt.forbid_no`) says so by an attribute `can_forbid`; without it nobody asks. One whose `first_token` holds
that word as if it were not forbidden says so by `tells_forbidden_odds`: one call gives the answer and the odds. One that never says that
the documents do not say has an attribute `can_refuse` that is False: asking it with few documents first would end there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from .document import Tokens
from .errors import ModelError
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


Said = Callable[[str], None]
"""Is told the pieces of an answer as they come, in the event loop; it must not wait."""


@runtime_checkable
class StreamingLLM(LLM, Protocol):
    """A model that can be heard while it speaks. Every one that ships can."""

    def stream(self, prompt: Prompt, model: str | None = None) -> AsyncIterator[str | Completion]:
        """Pieces of the answer's text, none of them empty, then the very `Completion` that `complete` would give.

        The trap: what was said so far may be a refusal in the making, or half of a JSON reply. A piece is given only when it is
        certain to be the answer's (`answer_pieces.py`), so no answer is no piece, and the pieces joined are the completion's text. A
        stream that breaks off raises ModelUnavailableError and is not tried again once a piece was given; else as `complete`. Who
        stops before the end closes it (`contextlib.aclosing`), and the endpoint is let go of.
        """
        ...


async def streamed(llm: LLM, prompt: Prompt, model: str | None, said: Said) -> Completion:
    """Asks, and tells the pieces meanwhile; a model that cannot be heard tells its answer in one piece. Raises as `complete`."""
    if not isinstance(llm, StreamingLLM):
        completion = await llm.complete(prompt, model)
        if completion.text:
            said(completion.text)
        return completion
    async with aclosing(_generator(llm.stream(prompt, model))) as pieces:
        async for piece in pieces:
            if isinstance(piece, Completion):
                return piece
            said(piece)
    raise ModelError(f"{type(llm).__name__}: the stream ended without a completion")


async def _generator(stream: AsyncIterator[str | Completion]) -> AsyncGenerator[str | Completion]:
    """As what can be closed, whatever the model made of it."""
    try:
        async for piece in stream:
            yield piece
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
