"""What one shard of an index says: a function of what it holds and what it is asked. Synchronous.

A shard proposes its best `pool` by vector and its best `pool` by words, words being as rare as in all shards together: whatever is
among the best of all is among the best of its shard, so what is merged from these (`shard_merge.py`) is what one index would have.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .document import Chunk
from .errors import FilterError, UndecidedError
from .filters import filter_of
from .index import Bitmap, Numbers, Vectors, none_found
from .retrieve import SIGMA_SAMPLE_CHUNKS, Retriever, Wanted
from .shard_messages import Candidate, ShardQuery, ShardReply

_SAMPLE_BYTES_MAX: Final = 400_000
"""Of vectors in one reply: a record of a megabyte is what brokers take, and base64 adds a third."""


class ShardSearch(Retriever):
    """Over the view of one partition."""

    def reply(self, shard: int, position: int, request: ShardQuery) -> ShardReply:
        """Raises FilterError for a filter that is none, or takes too long."""
        match request.ask:
            case "count":
                numbers = self.numbers(request.tenant)
                counts = self.view.keywords.counts(request.question, numbers)
                return ShardReply(shard, position, counts, len(self.view))
            case "sample":
                return ShardReply(shard, position, vectors=self._sampled(request))
            case "find":
                return self._found(shard, position, request)
        return ShardReply(shard, position, chunks=tuple(self._fetched(request)))

    def _sampled(self, request: ShardQuery) -> Vectors:
        rows_max = min(SIGMA_SAMPLE_CHUNKS, _SAMPLE_BYTES_MAX // (4 * self.view.plan.dimensions) or 1)
        return self.view.index.vectors(self._all(request.tenant)[:: request.every][:rows_max])

    def _found(self, shard: int, position: int, request: ShardQuery) -> ShardReply:
        wanted = self._wanted(request)
        try:
            allowed = self._allowed(wanted)
        except UndecidedError as error:
            return ShardReply(shard, position, held=len(self.view), undecided=str(error))
        return ShardReply(
            shard, position, held=len(self.view), candidates=tuple(self._candidates(wanted, allowed, request))
        )

    def _wanted(self, request: ShardQuery) -> Wanted:
        vector = request.vector if request.vector is not None else np.zeros(self.view.plan.dimensions, np.float32)
        if len(vector) != self.view.plan.dimensions:
            raise FilterError(
                f"the question's vector has {len(vector)} dimensions, the index {self.view.plan.dimensions}: "
                "both sides need the same embedder"
            )
        wanted = None if request.filter is None else filter_of(request.filter)
        return Wanted(request.question, vector, request.pool, wanted, request.tenant, request.without)

    def _candidates(self, wanted: Wanted, allowed: Bitmap | None, request: ShardQuery) -> list[Candidate]:
        worded = self._worded(wanted, allowed, self.view.keywords.counted(request.counts))
        near = none_found().numbers
        if self.ranking.uses_vectors:
            near = self.view.nearest(wanted.vector, self._pool(wanted), allowed, wanted.tenant).numbers
        numbers: Numbers = np.union1d(near, worded.best).astype(np.int64)
        cosines = np.zeros(len(numbers), np.float32)
        if self.ranking.uses_vectors and len(numbers):
            cosines = self.view.index.similarities(wanted.vector, numbers)
        return [
            Candidate(key, float(cosine), float(words), bool(is_near), bool(is_worded))
            for key, cosine, words, is_near, is_worded in zip(
                self.view.keys(numbers.tolist()),
                cosines,
                worded.of(numbers),
                np.isin(numbers, near),
                np.isin(numbers, worded.best),
                strict=True,
            )
        ]

    def _fetched(self, request: ShardQuery) -> list[Chunk]:
        """Those that are there and may still be found: what was found a moment ago may have gone, or changed."""
        numbers = np.array(self.view.numbers_of(request.keys), np.int64)
        try:
            allowed = self._allowed(self._wanted(request))
        except UndecidedError:
            return []
        mine = self._of_tenant(request.tenant, allowed)
        kept = numbers if mine is None else numbers[numbers < len(mine)]
        return self.view.chunks((kept if mine is None else kept[mine[kept]]).tolist())
