"""Candidates of the shards -> the order that one index over everything would give. Synchronous; waits for nothing, knows no topics.

    the best `pool` of all by vector, the best `pool` of all by words     ties by the chunk's key
    one score for each of them, by the ranking; the best k                the same functions as one index uses

Exact where the shards' indexes are: the words' weights are made from counts summed over the shards, and sigma from a sample of all. One
index orders equals by its own numbers, which no two indexes share; here the key decides, so the order is the same after a move, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .index import top
from .ranking import Pool, Ranking
from .shard_messages import Candidate


@dataclass(frozen=True, slots=True)
class Merged:
    """One of the best: where it is, and its score."""

    shard: int
    key: str
    score: float


def merged(
    candidates: Mapping[int, Sequence[Candidate]], ranking: Ranking, sigma: float, *, pool: int, k: int
) -> list[Merged]:
    """By shard what each proposes -> the best k, best first."""
    rows = sorted(((one, shard) for shard, some in candidates.items() for one in some), key=lambda row: row[0].key)
    if not rows:
        return []
    numbers = np.arange(len(rows))
    cosines = np.array([one.cosine for one, _ in rows], np.float32)
    words = np.array([one.words for one, _ in rows], np.float32)
    is_near = np.array([one.near for one, _ in rows], np.bool_)
    is_worded = np.array([one.worded for one, _ in rows], np.bool_)
    near = top(numbers[is_near], cosines[is_near], pool).numbers
    worded = top(numbers[is_worded], words[is_worded], pool).numbers
    kept = np.union1d(near, worded).astype(np.int64)
    scores = ranking.scores(Pool(kept, cosines[kept], words[kept], near, worded, sigma))
    best = top(kept, scores, k)
    return [
        Merged(rows[number][1], rows[number][0].key, float(score))
        for number, score in zip(best.numbers.tolist(), best.similarities, strict=True)
    ]
