"""Keyword coverage: how much of a question's weight a chunk holds.

    terms = unique stemmed non-stopwords of the question
    idf(t) = ln(1 + (N - df + .5) / (df + .5)), unseen terms with df = 0
    cov    = sum of idf(terms in the chunk) / sum of idf(terms)               # 0 .. 1

It ignores how often a term occurs and how long the chunk is, so a paraphrase gets little keyword weight; beside vectors that
ranks better than BM25 or rank fusion, on two corpora and with no labels (rag.md). An inverted index of our own, in memory: a
list of postings a term, new ones at its end; a chunk that goes leaves its postings behind as dead, and they are swept when they
are half of all. tantivy computes the same on disk (a `should` of constant scores), at 7 ms a commit, which a view that applies
updates in batches of a few cannot pay.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .index import Numbers
from .terms import Terms

_SWEEP_DEAD_MIN: Final = 1_000
_UNKNOWN: Final = -1


class Keywords:
    """Chunks by the view's number. Memory: 4 bytes a term of a chunk."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._postings: dict[str, array[int]] = {}
        self._entry: dict[int, int] = {}
        """Entry of a number: entries only ever grow, so that an old posting never speaks for a new chunk."""
        self._number = np.zeros(256, np.int64)
        """Number of an entry, or -1 once it is dead."""
        self._entries = 0

    def __len__(self) -> int:
        return len(self._entry)

    @property
    def terms(self) -> Terms:
        return self._terms

    def upsert(self, number: int, text: str) -> None:
        self.remove(number)
        if self._entries == len(self._number):
            self._number = np.concatenate([self._number, np.zeros_like(self._number)])
        entry = self._entries
        self._entries += 1
        self._number[entry] = number
        self._entry[number] = entry
        for term in set(self._terms.all(text)):
            self._postings.setdefault(term, array("I")).append(entry)

    def remove(self, number: int) -> None:
        """A number that is not there is passed over."""
        entry = self._entry.pop(number, None)
        if entry is None:
            return
        self._number[entry] = _UNKNOWN
        if self._entries - len(self._entry) > max(_SWEEP_DEAD_MIN, len(self._entry)):
            self._sweep()

    def coverage(self, question: str, within: Numbers | None = None) -> tuple[Numbers, NDArray[np.float32]]:
        """The numbers that hold at least one term, in ascending order, and how much of the question they cover.

        `within`: as if there were no others; rarity, too, is that among them.
        """
        hits = self._hits(self._terms.unique(question), within)
        weights = [self._idf(len(found), len(self) if within is None else len(within)) for found in hits]
        if not any(len(found) for found in hits):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        return _summed(hits, weights)

    def idf(self, term: str, within: Numbers | None = None) -> float:
        """How rare a (stemmed) term is among the chunks, or among those `within`."""
        (found,) = self._hits([term], within)
        return self._idf(len(found), len(self) if within is None else len(within))

    @staticmethod
    def _idf(df: int, count: int) -> float:
        return float(np.log1p((count - df + 0.5) / (df + 0.5)))

    def _hits(self, terms: Sequence[str], within: Numbers | None) -> list[Numbers]:
        hits = [self._alive(term) for term in terms]
        if within is None:
            return hits
        inside = np.zeros(1 + max((int(found.max()) for found in (*hits, within) if len(found)), default=0), np.bool_)
        inside[within] = True
        return [found[inside[found]] for found in hits]

    def _alive(self, term: str) -> Numbers:
        postings = self._postings.get(term)
        if postings is None:
            return np.zeros(0, np.int64)
        numbers: Numbers = self._number[np.frombuffer(postings, np.uint32)]
        alive: Numbers = numbers[numbers != _UNKNOWN]
        return alive

    def _sweep(self) -> None:
        """Entries anew, without the dead ones."""
        alive = np.flatnonzero(self._number[: self._entries] != _UNKNOWN)
        renamed = np.full(self._entries, _UNKNOWN, np.int64)
        renamed[alive] = np.arange(len(alive))
        self._number = np.concatenate([self._number[alive], np.zeros(256, np.int64)])
        self._entries = len(alive)
        self._entry = {int(number): entry for entry, number in enumerate(self._number[: self._entries])}
        for term, postings in list(self._postings.items()):
            kept = renamed[np.frombuffer(postings, np.uint32)]
            kept = kept[kept != _UNKNOWN]
            if len(kept):
                self._postings[term] = array("I", kept.astype(np.uint32).tobytes())
            else:
                del self._postings[term]


def _summed(hits: Sequence[Numbers], weights: Sequence[float]) -> tuple[Numbers, NDArray[np.float32]]:
    end = 1 + max(int(found.max()) for found in hits if len(found))
    sums = np.zeros(end, np.float32)
    for found, weight in zip(hits, weights, strict=True):
        sums[found] += np.float32(weight)
    numbers = np.flatnonzero(sums)
    return numbers, sums[numbers] / np.float32(sum(weights))
