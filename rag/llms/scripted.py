"""A model that knows its answers beforehand and keeps a real one's promises: for tests of everything around a model.

It gives the answer of a question only where a passage holds it, says the sentence it was told to say where none does, counts
tokens over the very prompt, has log-probabilities of its first token when they are asked for, and obeys a forbidden word (then
it makes something up where it knows nothing, as models do). It refuses falsely, or fails, where it is told to.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Final

from ..document import Tokens
from ..errors import ModelUnavailableError
from ..llm import Completion
from ..prompt import Prompt, is_no_answer

_INVENTED: Final = "Forty-two."


class Scripted:
    """Answers by question. `needs`: a question is refused while fewer passages than this are shown.

    `says_no`: how it words a refusal; "": exactly as the prompt says. `odds_no`: the probability that its first token is a
    refusal's, by question; else .95 where it refuses and .05 where it answers, with that beginning forbidden or not.
    `tells_forbidden_odds`: and says that it does so. `fails`: so many calls fail before the first answer.
    """

    can_forbid: Final = True

    def __init__(
        self,
        answers: Mapping[str, str] | None = None,
        needs: Mapping[str, int] | None = None,
        odds_no: Mapping[str, float] | None = None,
        says_no: str = "",
        fails: int = 0,
        *,
        tells_forbidden_odds: bool = False,
    ) -> None:
        self.tells_forbidden_odds = tells_forbidden_odds
        self._answers = dict(answers or {})
        self._needs = dict(needs or {})
        self._odds_no = dict(odds_no or {})
        self._says_no = says_no
        self._fails = fails
        self.prompts: list[Prompt] = []
        """What it was asked, in order."""
        self.models: list[str | None] = []

    def fingerprint(self) -> str:
        return f"scripted/1 {sorted(self._answers.items())} {sorted(self._needs.items())} {self._says_no}"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        self.prompts.append(prompt)
        self.models.append(model)
        if self._fails:
            self._fails -= 1
            raise ModelUnavailableError("the script says that this call fails")
        said, numbers = self._said(prompt)
        refused = is_no_answer(said, prompt.no_answer)
        sent = " ".join(message["content"] for message in prompt.messages(as_json=False))
        tokens = Tokens(len(sent.split()), len(said.split()))
        odds = self._first_token(prompt) if prompt.odds else {}
        return Completion(None if refused else said, numbers, tokens, model or "scripted", odds)

    async def stream(self, prompt: Prompt, model: str | None = None) -> AsyncGenerator[str | Completion]:
        """Word by word."""
        completion = await self.complete(prompt, model)
        for piece in re.findall(r"\s*\S+", completion.text or ""):
            yield piece
        yield completion

    async def close(self) -> None:
        """Nothing to let go of."""

    def _said(self, prompt: Prompt) -> tuple[str, tuple[int, ...]]:
        answer = self._answers.get(prompt.question)
        holds = [one.number for one in prompt.passages if answer is not None and answer in one.text]
        knows = bool(holds) and len(prompt.passages) >= self._needs.get(prompt.question, 1)
        if holds and answer is not None and (knows or prompt.forbid_no):
            return f"{answer} [{holds[0]}]", (holds[0],)
        return (_INVENTED if prompt.forbid_no else self._says_no or prompt.no_answer), ()

    def _first_token(self, prompt: Prompt) -> dict[str, float]:
        freely, _ = self._said(replace(prompt, forbid_no=False))
        refused = is_no_answer(freely, prompt.no_answer)
        share = self._odds_no.get(prompt.question, 0.95 if refused else 0.05)
        word = prompt.no_answer.split()[0]
        return {word: math.log(share), "The": math.log(1 - share)}
