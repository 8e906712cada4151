"""Rankings against their formulas, worked out the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.rag.index import top
from millstream.rag.keywords import Keywords
from millstream.rag.parts import part_named
from millstream.rag.ranking import Pool
from millstream.rag.terms import Terms

WORDS = ["lamp", "lamps", "train", "the", "noon", "broken", "glass", "42"]
texts = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 9), texts), min_size=1, max_size=40)


def _bm25(chunks: dict[int, str], question: str, k1: float, b: float) -> dict[int, float]:
    terms = Terms()
    held = {number: list(terms.all(text)) for number, text in chunks.items()}
    mean = sum(map(len, held.values())) / max(1, len(held))
    scores = {}
    for number, words in held.items():
        score = 0.0
        for term in set(terms.all(question)) & set(words):
            df = sum(term in others for others in held.values())
            idf = math.log(1 + (len(held) - df + 0.5) / (df + 0.5))
            tf = words.count(term)
            score += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(words) / mean))
        if set(terms.all(question)) & set(words):
            scores[number] = score
    return scores


@settings(max_examples=100)
@given(steps, texts, st.sampled_from([(1.2, 0.75), (0.0, 0.0), (2.0, 1.0)]))
def test_bm25_is_the_formula(steps: list, question: str, options: tuple[float, float]) -> None:
    """Whatever was put in, replaced and removed before."""
    keywords, chunks = Keywords(Terms()), {}
    for put, number, text in steps:
        if put:
            keywords.upsert(number, text)
            chunks[number] = text
        else:
            keywords.remove(number)
            chunks.pop(number, None)
    numbers, scores = keywords.bm25(question, *options)
    assert numbers.tolist() == sorted(numbers.tolist())
    found = dict(zip(numbers.tolist(), scores.tolist(), strict=True))
    assert _bm25(chunks, question, *options) == pytest.approx(found, abs=1e-5)
    within = np.array([number for number in chunks if number % 2], np.int64)
    numbers, scores = keywords.bm25(question, *options, within)
    of_some = {number: text for number, text in chunks.items() if number % 2}
    found = dict(zip(numbers.tolist(), scores.tolist(), strict=True))
    assert _bm25(of_some, question, *options) == pytest.approx(found, abs=1e-5)


def test_bm25_after_a_sweep() -> None:
    """Thousands of chunks replaced: postings are swept, counts and lengths with them."""
    keywords, chunks = Keywords(Terms()), {}
    for turn in range(3_000):
        chunks[turn % 7] = " ".join(WORDS[: turn % 5]) + " lamp" * (turn % 3)
        keywords.upsert(turn % 7, chunks[turn % 7])
    numbers, scores = keywords.bm25("lamp train", 1.2, 0.75)
    assert _bm25(chunks, "lamp train", 1.2, 0.75) == pytest.approx(
        dict(zip(numbers.tolist(), scores.tolist(), strict=True))
    )


def _pool(cosines: list[float], words: list[float], depth: int) -> Pool:
    numbers = np.arange(len(cosines)) * 3
    near = top(numbers, np.array(cosines, np.float32), depth).numbers
    with_words = np.array([bool(word) for word in words], np.bool_)
    worded = top(numbers[with_words], np.array(words, np.float32)[with_words], depth).numbers
    kept = np.isin(numbers, np.union1d(near, worded))
    return Pool(
        numbers[kept], np.array(cosines, np.float32)[kept], np.array(words, np.float32)[kept], near, worded, 0.1
    )


@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.integers(0, 5)), min_size=1, max_size=20), st.integers(1, 20))
def test_rank_fusion_is_the_formula(rows: list[tuple[float, int]], depth: int) -> None:
    pool = _pool([row[0] for row in rows], [float(row[1]) for row in rows], depth)
    expected = []
    for number in pool.numbers.tolist():
        places = [ranked.tolist().index(number) + 1 for ranked in (pool.near, pool.worded) if number in ranked.tolist()]
        expected.append(sum(1 / (60 + place) for place in places))
    assert expected == pytest.approx(part_named("ranking", "rrf").scores(pool).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dense", {}, [9.0, 5.0, 1.0]),
        ("coverage", {}, [9.0, 7.5, 1.25]),
        ("coverage", {"weight": 10}, [9.0, 15.0, 2.0]),
        ("bm25", {}, [0.0, 1.0, 0.1]),
        ("hybrid", {}, [0.5, 0.75, 0.05]),
        ("hybrid", {"vector_weight": 1}, [1.0, 0.5, 0.0]),
        ("hybrid", {"vector_weight": 0}, [0.0, 1.0, 0.1]),
        ("rrf", {}, [1 / 61, 1 / 62 + 1 / 61, 1 / 63 + 1 / 62]),
    ],
)
def test_what_three_chunks_are_given(name: str, options: dict, expected: list[float]) -> None:
    pool = _pool([0.9, 0.5, 0.1], [0.0, 1.0, 0.1], 3)
    assert expected == pytest.approx(part_named("ranking", name, options).scores(pool).tolist(), abs=1e-5)


def test_where_all_are_equally_near_each_counts_the_same() -> None:
    assert part_named("ranking", "hybrid").scores(_pool([0.3, 0.3], [0.0, 0.0], 2)).tolist() == [0.5, 0.5]
    empty = _pool([], [], 1)
    assert [len(part_named("ranking", name).scores(empty)) for name in ("hybrid", "rrf", "bm25")] == [0, 0, 0]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 10))
def test_the_best_are_the_largest_and_equals_go_by_number(scores: list[int], k: int) -> None:
    numbers = np.arange(len(scores))
    expected = sorted(range(len(scores)), key=lambda number: (-scores[number], number))[:k]
    assert expected == top(numbers, np.array(scores, np.float32), k).numbers.tolist()
