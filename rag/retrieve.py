"""A question -> the chunks that fit, by meaning and by words together.

    the best 50 by vector and the best 50 by words                     index.py (or a remote one), keywords.py
    one score for each of them, the best k                             ranking.py, as the ranking has it: `coverage` by default

    s1 = cos / sigma + 2.5 * cov

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

from .document import Hit
from .filters import Matcher
from .index import Bitmap, Index, Numbers, Vector, Vectors, top
from .keywords import Keywords
from .ranking import Pool, Ranking, made_ranking
from .remote_index import RemoteIndex
from .settings import RetrievalSettings
from .view_state import ViewState

SIGMA_USUAL: Final = 0.105
_SIGMA_USUAL_PAIRS: Final = 200
"""How many pairs the usual value counts for."""
SIGMA_SAMPLE_CHUNKS: Final = 256
_SIGMA_MIN: Final = 0.01
_SIGMAS_MAX: Final = 1_000
"""Tenants whose sigma is kept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for."""

    question: str
    vector: Vector
    """Not looked at by a ranking that uses no vectors."""
    k: int
    filter: Matcher | None = None
    tenant: str | None = None
    without: frozenset[str] = frozenset()
    """Ids of documents that are passed over."""


@dataclass(frozen=True, slots=True, eq=False)
class _Worded:
    """Chunks that hold words of the question, and may be found."""

    numbers: Numbers
    scores: Vector
    best: Numbers

    def of(self, numbers: Numbers) -> Vector:
        """Scores of these numbers, ascending; 0 for those that hold no word."""
        found = np.zeros(len(numbers), np.float32)
        places = np.searchsorted(self.numbers, numbers)
        there = places < len(self.numbers)
        there[there] = self.numbers[places[there]] == numbers[there]
        found[there] = self.scores[places[there]]
        return found


class Retriever:
    """Over one view. Raises PartError for a ranking that cannot be."""

    def __init__(self, view: ViewState, settings: RetrievalSettings) -> None:
        self.view = view
        self.ranking: Ranking = made_ranking(settings)
        self._settings = settings
        self._sigmas: OrderedDict[str | None, tuple[float, int]] = OrderedDict()
        """By tenant, with the number of chunks it was estimated at."""

    async def look_up(self, wanted: Wanted) -> list[Hit]:
        """As `retrieve`, and waits where the vectors are elsewhere; chunks that went or changed meanwhile are passed over."""
        index = self.view.index
        if not isinstance(index, RemoteIndex) or not self.ranking.uses_vectors:
            return self.retrieve(wanted)
        await self._refresh_sigma(index, wanted.tenant)
        allowed = self._allowed(wanted)
        worded = self._worded(wanted, allowed)
        mine = self._of_tenant(wanted.tenant, allowed)
        found = await index.find(wanted.vector, self._pool(wanted), mine, worded.best)
        numbers = np.array(sorted(found.cosines), np.int64)
        cosines = np.array([found.cosines[number] for number in numbers.tolist()], np.float32)
        worded = _Worded(worded.numbers, worded.scores, worded.best[np.isin(worded.best, numbers)])
        return self._hits(wanted, numbers, cosines, worded, found.near)

    def retrieve(self, wanted: Wanted) -> list[Hit]:
        """The best k, best first, ties by number. Empty where nothing is indexed or the filter leaves nothing.

        About a millisecond where the vectors are in this process.
        """
        allowed = self._allowed(wanted)
        worded = self._worded(wanted, allowed)
        if not self.ranking.uses_vectors:
            numbers = np.sort(worded.best)
            return self._hits(wanted, numbers, np.zeros(len(numbers), np.float32), worded, numbers[:0])
        near = self.view.nearest(wanted.vector, self._pool(wanted), allowed, wanted.tenant).numbers
        numbers = np.union1d(near, worded.best).astype(np.int64)
        if not len(numbers):
            return []
        return self._hits(wanted, numbers, self.view.index.similarities(wanted.vector, numbers), worded, near)

    def _hits(self, wanted: Wanted, numbers: Numbers, cosines: Vector, worded: _Worded, near: Numbers) -> list[Hit]:
        pool = Pool(numbers, cosines, worded.of(numbers), near, worded.best, self.sigma(wanted.tenant))
        best = top(numbers, self.ranking.scores(pool), wanted.k)
        chunks = self.view.chunks(best.numbers.tolist())
        return [Hit(chunk, float(score)) for chunk, score in zip(chunks, best.similarities, strict=True)]

    def sigma(self, tenant: str | None = None) -> float:
        """Of this tenant's chunks (None: of all). Estimated anew when their number has changed by a tenth.

        Of a remote index: as it was when it was last looked up.
        """
        index = self.view.index
        if self._is_sigma_due(tenant) and not isinstance(index, RemoteIndex):
            self._keep_sigma(tenant, estimated_sigma(index, self._all(tenant)))
        return self._sigmas.get(tenant, (SIGMA_USUAL, 0))[0]

    async def _refresh_sigma(self, index: RemoteIndex, tenant: str | None) -> None:
        if self._is_sigma_due(tenant):
            self._keep_sigma(tenant, sigma_of(await index.fetch(_sample(self._all(tenant)))))

    def _is_sigma_due(self, tenant: str | None) -> bool:
        _, at = self._sigmas.get(tenant, (SIGMA_USUAL, -1))
        return at < 0 or abs(self._count(tenant) - at) * 10 > at

    def _keep_sigma(self, tenant: str | None, sigma: float) -> None:
        self._sigmas[tenant] = sigma, self._count(tenant)
        self._sigmas.move_to_end(tenant)
        if len(self._sigmas) > _SIGMAS_MAX:
            self._sigmas.popitem(last=False)

    def _count(self, tenant: str | None) -> int:
        return len(self.view) if tenant is None else len(self.view.tenants.members(tenant))

    def _all(self, tenant: str | None) -> Numbers:
        numbers = self.numbers(tenant)
        return self.view.numbers() if numbers is None else numbers

    def numbers(self, tenant: str | None) -> Numbers | None:
        """Of this tenant's chunks; None: no tenant, which are all."""
        return None if tenant is None else self.view.tenants.members(tenant).numbers()

    def _of_tenant(self, tenant: str | None, allowed: Bitmap | None) -> Bitmap | None:
        """What is allowed and this tenant's, as one bitmap: a remote index knows of no tenants."""
        numbers = self.numbers(tenant)
        if numbers is None:
            return allowed
        if allowed is not None:
            numbers = numbers[numbers < len(allowed)]
            numbers = numbers[allowed[numbers]]
        bitmap = np.zeros(int(numbers.max(initial=-1)) + 1, np.bool_)
        bitmap[numbers] = True
        return bitmap

    def _pool(self, wanted: Wanted) -> int:
        return max(self._settings.pool_chunks, wanted.k)

    def _allowed(self, wanted: Wanted) -> Bitmap | None:
        chosen, tenant, without = wanted.filter, wanted.tenant, wanted.without
        if chosen is None and not without:
            return None  # whose chunks are looked at is not the filter's business

        def test(names: Mapping[str, Any]) -> bool:
            of_tenant = tenant is None or names.get("tenant") == tenant
            return of_tenant and names.get("uri") not in without and (chosen is None or chosen.matches(names))

        return self.view.metadata.bitmap(f"{tenant!r} {chosen!r} {sorted(without)!r}", test)

    def _worded(self, wanted: Wanted, allowed: Bitmap | None, keywords: Keywords | None = None) -> _Worded:
        words = keywords or self.view.keywords
        numbers, scores = self.ranking.words(words, wanted.question, self.numbers(wanted.tenant))
        if allowed is not None:
            kept = numbers < len(allowed)
            kept[kept] = allowed[numbers[kept]]
            numbers, scores = numbers[kept], scores[kept]
        return _Worded(numbers, scores, top(numbers, scores, self._pool(wanted)).numbers)


def _sample(numbers: Numbers) -> Numbers:
    """Evenly over all."""
    return numbers[:: max(1, len(numbers) // SIGMA_SAMPLE_CHUNKS)][:SIGMA_SAMPLE_CHUNKS]


def estimated_sigma(index: Index, numbers: Numbers) -> float:
    """Standard deviation of the cosine between pairs out of an even sample, drawn towards the usual value."""
    return sigma_of(index.vectors(_sample(numbers)))


def sigma_of(sample: Vectors) -> float:
    """Of these unit rows; the usual value where there are too few."""
    if len(sample) < 2:
        return SIGMA_USUAL
    cosines = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    pairs = len(cosines)
    variance = (pairs * float(np.var(cosines)) + _SIGMA_USUAL_PAIRS * SIGMA_USUAL**2) / (pairs + _SIGMA_USUAL_PAIRS)
    return max(_SIGMA_MIN, math.sqrt(variance))
