"""No model: words and their character trigrams, hashed into `dimensions` buckets with a sign (the "hashing trick").

Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009; trigrams as in fastText, so that "shipped" is
near "shipping". For tests that must be exact, and for running everything offline; it knows no synonyms.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..embedder import Role, Vectors, unit

_WORD = re.compile(r"\w+")
_TRIGRAM_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Hashing:
    """The same texts give the same vectors on every machine."""

    is_free: ClassVar[bool] = True
    dimensions: int = 256

    def __post_init__(self) -> None:
        if self.dimensions < 2:
            raise ValueError(f"dimensions must be at least 2, got {self.dimensions}")

    def fingerprint(self) -> str:
        return f"hashing/1 {self.dimensions}"

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for feature, weight in _features(text).items():
                code = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
                vectors[row, (code >> 1) % self.dimensions] += weight if code & 1 else -weight
        return unit(vectors)

    async def close(self) -> None:
        """Nothing to let go of."""


def _features(text: str) -> Counter[str]:
    features: Counter[str] = Counter()
    for word, count in Counter(_WORD.findall(text.lower())).items():
        weight = 1 + np.log(count)
        features[word] += weight
        for trigram in _trigrams(word):
            features[trigram] += weight * _TRIGRAM_WEIGHT
    return features


def _trigrams(word: str) -> Iterator[str]:
    marked = f"<{word}>"
    return (marked[start : start + 3] for start in range(len(marked) - 2)) if len(word) > 2 else iter(())
