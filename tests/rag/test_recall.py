"""How many of the true neighbours a graph finds: when it is new, and when half of it was replaced one by one. 100,000 x 384 is measured
by `python -m benchmarks.recall`."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.recall import RECALL_MIN, Corpus, Vectors, loaded, recall, replace_half
from millstream.rag.index import Index
from millstream.rag.parts import part_named

COUNT = 20_000
DIMENSIONS = 64


def corpus() -> Corpus:
    return Corpus(Vectors(DIMENSIONS, topics=200), COUNT)


def test_recall_when_new_and_when_half_was_replaced() -> None:
    held = corpus()
    index: Index = part_named("index", "hnsw", {"dimensions": DIMENSIONS})
    loaded(index, held)
    assert recall(index, held) >= RECALL_MIN
    replace_half(index, held)
    assert recall(index, held) >= RECALL_MIN
    assert len(index) == COUNT


def test_the_measure_sees_a_bad_graph() -> None:
    """Half of the vectors are missing: about half of the neighbours are, too."""
    held = corpus()
    index: Index = part_named("index", "exact", {"dimensions": DIMENSIONS})
    loaded(index, held)
    assert recall(index, held) == pytest.approx(1, abs=0.001)
    index.remove(np.arange(0, COUNT, 2))
    assert recall(index, held) < 0.7
