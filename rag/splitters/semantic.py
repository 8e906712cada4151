"""Cuts where neighbouring sentences part: where what stands before and after has little in common, by an embedder's vectors.

    similarity of a boundary   cosine between the mean of the `window` sentences before it and of those after it
    a boundary parts           where its similarity is below `part_below` of the lower of the two peaks beside it (a valley, as
                               in TextTiling: Hearst, 1997; a share of the peaks, since every embedder has its own scale)
    chunks                     sentences joined over the most similar boundary first, while they fit into `chars_max`; over one
                               that parts only up to half of it

No threshold depends on the whole text, so an edit moves boundaries near it only. The same text gives the same chunks: there is
no randomness, and similarities are compared to four digits. Every sentence is embedded (`hashing` about 20,000 a second,
`local` about 470), within the time of the parsing process. The embedder is the pipeline's unless one is named; it works in the
parsing process, which has no environment, so one that finds its key there cannot be used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..cutting import join_as_written, joint_between, sentences
from ..embedder import Embedder
from ..parts import part_named
from ..splitter import Piece

_EMBED_TEXTS_MAX: Final = 256
_CLIMB_MAX: Final = 20

Similarities = NDArray[np.float64]


class Semantic:
    """`embedder`: a name, or `{name: {option: value}}`. Raises PartError, and EmbeddingError while splitting."""

    def __init__(
        self,
        chars_max: int = 800,
        embedder: str | Mapping[str, Any] = "hashing",
        window: int = 2,
        part_below: float = 0.5,
    ) -> None:
        if chars_max < 20:
            raise ValueError(f"chars_max must be at least 20, got {chars_max}")
        if window < 1 or not 0 <= part_below <= 1:
            raise ValueError(f"window must be at least 1 and part_below 0 to 1, got {window} and {part_below}")
        named = {embedder: {}} if isinstance(embedder, str) else embedder
        if len(named) != 1:
            raise ValueError(f"embedder must be a name or one name with its options, got {embedder!r}")
        ((name, options),) = named.items()
        self._embedder: Embedder = part_named("embedder", name, options)
        self._chars_max = chars_max
        self._window = window
        self._part_below = part_below

    def fingerprint(self) -> str:
        return f"semantic/1 {self._chars_max} {self._window} {self._part_below} {self._embedder.fingerprint()}"

    def split(self, text: str) -> list[Piece]:
        found = sentences(text, self._chars_max)
        if len(found) < 2:
            return found
        similar = similarities(self._embedded([piece.text for piece in found]), self._window)
        groups = _Groups(text, found)
        parting = parts(similar, self._part_below)
        for boundary in sorted(range(len(similar)), key=lambda number: (-similar[number], number)):
            groups.join(boundary, self._chars_max // 2 if parting[boundary] else self._chars_max)
        return groups.pieces()

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        async def embed() -> list[NDArray[np.float32]]:
            starts = range(0, len(texts), _EMBED_TEXTS_MAX)
            return [await self._embedder.embed(texts[at : at + _EMBED_TEXTS_MAX], "document") for at in starts]

        return np.concatenate(asyncio.run(embed()))


def similarities(vectors: NDArray[np.float32], window: int) -> Similarities:
    """Of each boundary between two neighbours."""
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0, dtype=np.float64)])
    middle = np.arange(1, len(vectors))
    before = sums[middle] - sums[np.maximum(middle - window, 0)]
    after = sums[np.minimum(middle + window, len(vectors))] - sums[middle]
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosines: Similarities = np.einsum("ij,ij->i", before, after) / np.where(lengths == 0, 1, lengths)
    return np.round(cosines, 4)


def parts(similar: Similarities, part_below: float) -> list[bool]:
    """Whether each boundary is a valley between peaks that are higher enough."""
    values = similar.tolist()
    backwards = values[::-1]
    left = [_peak(values, at) for at in range(len(values))]
    right = [_peak(backwards, at) for at in range(len(values))][::-1]
    return [value < part_below * min(one, other) for value, one, other in zip(values, left, right, strict=True)]


def _peak(values: list[float], at: int) -> float:
    """Going back from `at` as long as it rises, and not for ever."""
    lowest = max(0, at - _CLIMB_MAX)
    while at > lowest and values[at - 1] >= values[at]:
        at -= 1
    return values[at]


class _Groups:
    """Neighbouring sentences that belong together. A group is known by its first and by its last."""

    def __init__(self, text: str, pieces: list[Piece]) -> None:
        self._text = text
        self._pieces = pieces
        self._first = list(range(len(pieces)))
        self._last = list(range(len(pieces)))
        self._chars = [len(piece.text) for piece in pieces]
        self._joints = [len(joint_between(text, before, after)) for before, after in pairwise(pieces)]
        self._is_joined = [False] * len(self._joints)

    def join(self, boundary: int, chars_max: int) -> None:
        """What stands before and after it, if it fits."""
        first, last = self._first[boundary], self._last[boundary + 1]
        chars = self._chars[first] + self._joints[boundary] + self._chars[boundary + 1]
        if chars > chars_max:
            return
        self._last[first], self._first[last] = last, first
        self._chars[first] = chars
        self._is_joined[boundary] = True

    def pieces(self) -> list[Piece]:
        groups: list[list[Piece]] = [[self._pieces[0]]]
        for piece, joined in zip(self._pieces[1:], self._is_joined, strict=True):
            if joined:
                groups[-1].append(piece)
            else:
                groups.append([piece])
        return [join_as_written(self._text, group) for group in groups]
