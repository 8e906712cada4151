"""What a model has said so far -> what of it can be shown already: the answer's own words, piece by piece.

    JSON      the inside of "answer": "...", its escapes resolved; everything else is form
    words     as they come

Held back: white space at both ends, and whatever may still turn out to be the sentence for no answer, or only a citation; a refusal
shows nothing. So the pieces joined are the text of the `Completion` that follows. Where a model says something odd (a second
"answer", a refusal behind an answer begun) they may not be: the completion is what counts.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from .prompt import Prompt, may_be_no_answer

_BEGINS: Final = re.compile(r'"answer"\s*:\s*(?:"|(?=[^\s"]))')
_WHOLE: Final = re.compile(
    r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?![dD][89abAB])[0-9a-fA-F]{4}|u[dD][89abAB]..\\u....))*'
)
"""The characters of a JSON string as far as they are whole: no half escape, no half pair."""


class AnswerPieces:
    """Of one reply to `prompt`."""

    def __init__(self, prompt: Prompt) -> None:
        self._no_answer = prompt.no_answer
        self._said = ""
        self._begin: int | None = None
        self._decoded = 0
        self._text = ""
        self.shown = ""

    def add(self, said: str) -> str:
        """What can be shown now that this has been said too; "" for nothing."""
        self._said += said
        self._text += self._new(said)
        text = self._text.strip()
        if not text.startswith(self.shown) or may_be_no_answer(text, self._no_answer):
            return ""
        return self._show(text)

    def rest(self, text: str | None) -> str:
        """What of the whole answer has not been shown."""
        return self._show(text) if text is not None and text.startswith(self.shown) else ""

    def _show(self, text: str) -> str:
        piece, self.shown = text[len(self.shown) :], text
        return piece

    def _new(self, said: str) -> str:
        begun = self._said.lstrip()[:1]
        if begun not in {"{", "`"}:
            return said if begun else ""
        if self._begin is None:
            begins = _BEGINS.search(self._said)
            if begins is None:
                return ""
            self._begin = self._decoded = begins.end()
            if self._said[self._begin - 1] != '"':
                self._decoded = -1  # null, a number: nothing to be shown in pieces
        return self._string() if self._decoded >= 0 else ""

    def _string(self) -> str:
        found = _WHOLE.match(self._said, self._decoded)
        whole = found.group() if found else ""
        try:
            text = orjson.loads(f'"{whole}"')
        except orjson.JSONDecodeError:
            return ""
        self._decoded += len(whole)
        return str(text)
