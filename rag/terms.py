"""Words as the keyword side sees them: lower case, no stop words, stemmed (Snowball; Porter, "An algorithm for suffix stripping", 1980).

Only the languages Snowball knows are stemmed; in any other, and for words of digits, the word is its own stem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from .errors import PartError
from .parts import extra

_WORD = re.compile(r"\w+")
_WORD_CHARS_MAX: Final = 64

STOP_WORDS: Final = frozenset(
    "a about all also am an and any are as at be because been but by can could did do does for from had has have he her him his "
    "how i if in into is it its me my no not of on or our out she should so some such than that the their them then there these "
    "they this those to us was we were what when where which who whom whose why will with would you your".split()
)
"""English only: in other languages the weight by rarity (idf) does most of what a list would."""


class Terms:
    """Turns text into terms. One object may serve many threads."""

    def __init__(self, language: str = "english") -> None:
        stemmers = extra("snowballstemmer")
        if language not in stemmers.algorithms():
            raise PartError(f"no stemmer for {language!r}; there are {', '.join(stemmers.algorithms())}")
        self.language = language
        self._stemmer: Any = stemmers.stemmer(language)
        self._stop = STOP_WORDS if language == "english" else frozenset[str]()
        self._stem = lru_cache(maxsize=50_000)(self._stemmer.stemWord)

    def all(self, text: str) -> Iterator[str]:
        """Every term of the text in its order."""
        for word in _WORD.findall(text.lower()):
            if word not in self._stop:
                yield self._stem(word[:_WORD_CHARS_MAX])

    def unique(self, text: str) -> list[str]:
        """Each term once, in the order of first appearance."""
        return list(dict.fromkeys(self.all(text)))
