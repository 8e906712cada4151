"""Keyword coverage against the formula worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.rag.errors import PartError
from millstream.rag.keywords import Keywords
from millstream.rag.terms import Terms

WORDS = ["lamp", "lamps", "train", "the", "noon", "broken", "glass", "42"]
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


def _truth(chunks: dict[int, str], question: str, terms: Terms) -> dict[int, float]:
    held = {number: set(terms.all(text)) for number, text in chunks.items()}
    asked = set(terms.all(question))
    df = {term: sum(term in words for words in held.values()) for term in asked}
    idf = {term: math.log(1 + (len(chunks) - df[term] + 0.5) / (df[term] + 0.5)) for term in asked}
    total = sum(idf.values())
    return {number: sum(idf[t] for t in asked & words) / total for number, words in held.items() if asked & words}


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 9), texts), min_size=1, max_size=40),
    texts,
)
def test_coverage_is_the_formula(steps: list, question: str) -> None:
    """Whatever was put in, replaced and removed before."""
    terms = Terms()
    keywords, chunks = Keywords(terms), {}
    for put, number, text in steps:
        if put:
            keywords.upsert(number, text)
            chunks[number] = text
        else:
            keywords.remove(number)
            chunks.pop(number, None)
    numbers, covered = keywords.coverage(question)
    assert _truth(chunks, question, terms) == pytest.approx(
        dict(zip(numbers.tolist(), covered.tolist(), strict=True)), abs=1e-5
    )


def test_dead_postings_are_swept() -> None:
    """A corpus replaced over and over takes no more memory than one."""
    keywords = Keywords(Terms())
    for turn in range(30):
        for number in range(200):
            keywords.upsert(number, f"word{turn} same")
    assert len(keywords) == 200
    assert sum(map(len, keywords._postings.values())) <= 2 * (1_000 + 2 * 200)
    numbers, covered = keywords.coverage("same word29")
    assert numbers.tolist() == list(range(200))
    assert covered.tolist() == pytest.approx([1.0] * 200)


def test_stems_and_stop_words() -> None:
    assert Terms().unique("The shipped lamps, and the lamp's SHIPPING") == ["ship", "lamp", "s"]


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(PartError, match="no stemmer for 'klingon'; there are"):
        Terms("klingon")
