"""A question -> the chunks that fit, by meaning and by words together.

    cov = sum of idf(the question's terms in the chunk) / sum of idf(its terms)              # keywords.py, 0 .. 1
    s1  = cos / sigma + 2.5 * cov               over the best 50 by cos and the best 50 by cov

sigma is the standard deviation of the cosine between stored chunks: it makes one weight fit every embedder, so one rule serves
all corpora with no labels. Measured R@1 on XQuAD / an FAQ set: vectors alone .885 / .557, BM25 .939 / .404, reciprocal rank
fusion .949 / .529, s1 .947 / .553. From a few chunks sigma cannot be known; it leans on a usual value until there are enough.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .document import Hit
from .filters import Matcher
from .index import Bitmap, Index, Numbers, Vector, top
from .settings import RetrievalSettings
from .view_state import ViewState

_SIGMA_USUAL: Final = 0.105
_SIGMA_USUAL_PAIRS: Final = 200
"""How many pairs the usual value counts for."""
_SIGMA_SAMPLE: Final = 256
_SIGMA_MIN: Final = 0.01
_SIGMAS_MAX: Final = 1_000
"""Tenants whose sigma is kept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for."""

    question: str
    vector: Vector
    k: int
    filter: Matcher | None = None
    tenant: str | None = None
    without: frozenset[str] = frozenset()
    """Ids of documents that are passed over."""


class Retriever:
    """Over one view. Synchronous: a look-up takes about a millisecond."""

    def __init__(self, view: ViewState, settings: RetrievalSettings) -> None:
        self.view = view
        self._settings = settings
        self._sigmas: OrderedDict[str | None, tuple[float, int]] = OrderedDict()
        """By tenant, with the number of chunks it was estimated at."""

    def retrieve(self, wanted: Wanted) -> list[Hit]:
        """The best k, best first, ties by number. Empty where nothing is indexed or the filter leaves nothing."""
        allowed = self._allowed(wanted)
        numbers, cosines, covered = self._pool(wanted, allowed)
        if not len(numbers):
            return []
        scores = cosines / self.sigma(wanted.tenant) + self._settings.coverage_weight * covered
        best = top(numbers, scores.astype(np.float32), wanted.k)
        chunks = self.view.chunks(best.numbers.tolist())
        return [Hit(chunk, float(score)) for chunk, score in zip(chunks, best.similarities, strict=True)]

    def sigma(self, tenant: str | None = None) -> float:
        """Of this tenant's chunks (None: of all). Estimated anew when their number has changed by a tenth."""
        count = len(self.view) if tenant is None else len(self.view.tenants.members(tenant))
        sigma, at = self._sigmas.pop(tenant, (_SIGMA_USUAL, -1))
        if at < 0 or abs(count - at) * 10 > at:
            numbers = self.numbers(tenant)
            sigma, at = estimated_sigma(self.view.index, self.view.numbers() if numbers is None else numbers), count
        self._sigmas[tenant] = sigma, at
        if len(self._sigmas) > _SIGMAS_MAX:
            self._sigmas.popitem(last=False)
        return sigma

    def numbers(self, tenant: str | None) -> Numbers | None:
        """Of this tenant's chunks; None: no tenant, which are all."""
        return None if tenant is None else self.view.tenants.members(tenant).numbers()

    def _allowed(self, wanted: Wanted) -> Bitmap | None:
        chosen, tenant, without = wanted.filter, wanted.tenant, wanted.without
        if chosen is None and not without:
            return None  # whose chunks are looked at is not the filter's business

        def test(names: Mapping[str, Any]) -> bool:
            of_tenant = tenant is None or names.get("tenant") == tenant
            return of_tenant and names.get("uri") not in without and (chosen is None or chosen.matches(names))

        return self.view.metadata.bitmap(f"{tenant!r} {chosen!r} {sorted(without)!r}", test)

    def _pool(self, wanted: Wanted, allowed: Bitmap | None) -> tuple[Numbers, Vector, NDArray[np.float32]]:
        pool = max(self._settings.pool_chunks, wanted.k)
        near = self.view.nearest(wanted.vector, pool, allowed, wanted.tenant).numbers
        with_words, coverage = self.view.keywords.coverage(wanted.question, self.numbers(wanted.tenant))
        if allowed is not None:
            kept = with_words < len(allowed)
            kept[kept] = allowed[with_words[kept]]
            with_words, coverage = with_words[kept], coverage[kept]
        numbers = np.union1d(near, top(with_words, coverage, pool).numbers).astype(np.int64)
        if not len(numbers):
            return numbers, np.zeros(0, np.float32), np.zeros(0, np.float32)
        covered = np.zeros(len(numbers), np.float32)
        places = np.searchsorted(with_words, numbers)
        there = places < len(with_words)
        there[there] = with_words[places[there]] == numbers[there]
        covered[there] = coverage[places[there]]
        return numbers, self.view.index.similarities(wanted.vector, numbers), covered


def estimated_sigma(index: Index, numbers: Numbers) -> float:
    """Standard deviation of the cosine between pairs out of an even sample, drawn towards the usual value."""
    sample = numbers[:: max(1, len(numbers) // _SIGMA_SAMPLE)][:_SIGMA_SAMPLE]
    if len(sample) < 2:
        return _SIGMA_USUAL
    vectors = index.vectors(sample)
    cosines = (vectors @ vectors.T)[np.triu_indices(len(sample), 1)]
    pairs = len(cosines)
    variance = (pairs * float(np.var(cosines)) + _SIGMA_USUAL_PAIRS * _SIGMA_USUAL**2) / (pairs + _SIGMA_USUAL_PAIRS)
    return max(_SIGMA_MIN, math.sqrt(variance))
