"""One question over an index in shards, in three rounds: how rare its words are, who has the best chunks, what is in them.

    count     every shard          ->  the words' weights over all; how many chunks there are
    (sample   every shard          ->  sigma, when their number has changed by a tenth)
    find      every shard          ->  its best by vector and by words; merged as one index would rank them (shard_merge.py)
    fetch     those with the best  ->  the chunks

The first two are what search engines call distributed term frequencies: with weights of its own each shard would rank its rare words
too high, and the same question would get another answer with another number of partitions. A shard that misses a round's deadline is left
out of the rest, and the answer says so. A `Sought` is what the rest of answering takes for a retriever (`ask.py`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from .document import Hit
from .errors import IndexUnavailableError, NotFreshError, UndecidedError
from .keywords import TermCounts
from .messages import Query
from .ranking import Ranking, made_ranking
from .retrieve import SIGMA_SAMPLE_CHUNKS, SIGMA_USUAL, Wanted, sigma_of
from .settings import RetrievalSettings
from .shard_asker import Asked, ShardAsker
from .shard_merge import Merged, merged
from .shard_messages import ShardQuery, ShardReply, keys_of

_SIGMAS_MAX: Final = 1_000
"""Tenants whose sigma is kept."""


@dataclass(slots=True)
class _Sigmas:
    """By tenant, with the number of chunks it was estimated at."""

    kept: OrderedDict[str | None, tuple[float, int]] = field(default_factory=OrderedDict)

    def of(self, tenant: str | None) -> float:
        return self.kept.get(tenant, (SIGMA_USUAL, 0))[0]

    def is_due(self, tenant: str | None, chunks: int) -> bool:
        _, at = self.kept.get(tenant, (SIGMA_USUAL, -1))
        return at < 0 or abs(chunks - at) * 10 > at

    def keep(self, tenant: str | None, sigma: float, chunks: int) -> None:
        self.kept[tenant] = sigma, chunks
        self.kept.move_to_end(tenant)
        if len(self.kept) > _SIGMAS_MAX:
            self.kept.popitem(last=False)


class ShardedIndex:
    """Of one process. Raises PartError for a ranking that cannot be."""

    def __init__(self, asker: ShardAsker, settings: RetrievalSettings, *, fresh_timeout_ms: int) -> None:
        self.asker = asker
        self.settings = settings
        self.ranking = made_ranking(settings)
        self.fresh_timeout_ms = fresh_timeout_ms
        self.sigmas = _Sigmas()

    async def sought(self, query: Query) -> Sought:
        """Raises IndexUnavailableError, and NotFreshError for a partition that there is not."""
        shards = await self.asker.shards()
        if unknown := [partition for partition in query.fresh_after if partition >= shards]:
            raise NotFreshError(f"the index has no partition {unknown[0]}; it has {shards}")
        return Sought(self, query, shards)


class Sought:
    """The index, for one question."""

    def __init__(self, index: ShardedIndex, query: Query, shards: int) -> None:
        self._index = index
        self._query = query
        self._shards = shards
        self._left = list(range(shards))
        self.missing: dict[int, str] = {}
        """Shards that are left out, and why."""
        self.positions: dict[int, int] = {}
        """Next offset by partition, of those that answered."""

    @property
    def ranking(self) -> Ranking:
        return self._index.ranking

    def sigma(self, tenant: str | None = None) -> float:
        return self._index.sigmas.of(tenant)

    async def look_up(self, wanted: Wanted) -> list[Hit]:
        """As one index would: the best k, best first. Raises IndexUnavailableError where no shard answers, NotFreshError, FilterError."""
        query = self._query
        same = ShardQuery("count", "", wanted.question, None, query.tenant, query.filter, wanted.without)
        counted = await self._all(same, fresh=True)
        counts = sum((one.counts for one in counted.values()), TermCounts())
        await self._refresh_sigma(counts.chunks)
        pool = max(self._index.settings.pool_chunks, wanted.k)
        vector = wanted.vector if self.ranking.uses_vectors else None
        found = await self._all(replace(same, ask="find", vector=vector, pool=pool, counts=counts))
        _check_decided(found)
        candidates = {shard: one.candidates for shard, one in found.items()}
        best = merged(candidates, self.ranking, self.sigma(query.tenant), pool=pool, k=wanted.k)
        return await self._hits(best, replace(same, ask="fetch"))

    async def _refresh_sigma(self, chunks: int) -> None:
        tenant = self._query.tenant
        if not self._index.sigmas.is_due(tenant, chunks):
            return
        every = max(1, chunks // SIGMA_SAMPLE_CHUNKS)
        said = await self._all(ShardQuery("sample", tenant=tenant, every=every))
        samples = [one.vectors for _, one in sorted(said.items()) if one.vectors is not None and len(one.vectors)]
        sample = np.concatenate(samples)[:SIGMA_SAMPLE_CHUNKS] if samples else np.zeros((0, 1), np.float32)
        if not self.missing:
            self._index.sigmas.keep(tenant, sigma_of(sample), chunks)

    async def _hits(self, best: list[Merged], request: ShardQuery) -> list[Hit]:
        """Chunks that went or changed since they were found are passed over."""
        wanted: dict[int, list[str]] = {}
        for one in best:
            wanted.setdefault(one.shard, []).append(one.key)
        if not wanted:
            return []
        asked = await self._index.asker.ask(
            {shard: replace(request, keys=tuple(some)) for shard, some in wanted.items()}
        )
        self._note(asked)
        chunks = {shard: keys_of(one.chunks) for shard, one in asked.replies.items()}
        return [Hit(chunk, one.score) for one in best if (chunk := chunks.get(one.shard, {}).get(one.key)) is not None]

    async def _all(self, request: ShardQuery, *, fresh: bool = False) -> Mapping[int, ShardReply]:
        """Every shard that is still in. `fresh`: as far as the question wants them, and for as long as it may wait."""
        after = self._query.fresh_after if fresh else {}
        requests = {shard: replace(request, after=after.get(shard)) for shard in self._left}
        asked = await self._index.asker.ask(requests, dict.fromkeys(after, self._index.fresh_timeout_ms))
        if stale := [shard for shard in asked.missing if shard in after]:
            raise NotFreshError(
                f"shard {stale[0]} of the index has not reached {after[stale[0]]}: {asked.missing[stale[0]]}"
            )
        self._note(asked)
        if not asked.replies:
            reasons = "; ".join(f"{shard}: {reason}" for shard, reason in sorted(self.missing.items()))
            raise IndexUnavailableError(f"none of the index's {self._shards} shards answers ({reasons})")
        return asked.replies

    def _note(self, asked: Asked) -> None:
        self.missing |= asked.missing
        self._left = [shard for shard in self._left if shard not in self.missing]
        self.positions |= {shard: one.position for shard, one in asked.replies.items()}


def _check_decided(found: Mapping[int, ShardReply]) -> None:
    """A filter that could be evaluated nowhere is wrong; where it could on some shard's chunks, the others have no match."""
    undecided = [one.undecided for one in found.values() if one.undecided]
    if undecided and not any(one.held and not one.undecided for one in found.values()):
        raise UndecidedError(undecided[0])
