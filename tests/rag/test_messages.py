"""The wire shapes of `rag/messages.py` and `rag/updates.py`: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.rag.document import Answer, Asked, Chunk, Document, Hit, Tokens, chunk_ids
from millstream.rag.errors import MessageError
from millstream.rag.messages import (
    Query,
    Status,
    query_id,
    read_document,
    read_query,
    write_answer,
    write_document,
    write_query,
    write_status,
)
from millstream.rag.updates import read_update, split_key, vector_bytes, vector_of, write_update

ID = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, b"{}", "needs a key"),
        (b"", b"{}", "needs a key"),
        (b"x" * 5000, b"{}", "at most 4096"),
        (b"\xff", b"{}", "not UTF-8"),
        (b"a", b"not json", "not JSON"),
        (b"a", b"[]", "expected object, got array - at $"),
        (b"a", b"{}", "exactly one of"),
        (b"a", b'{"text": "x", "content": "eA=="}', "exactly one of"),
        (b"a", b'{"text": 3}', "expected string, got 3 - at $.text"),
        (b"a", b'{"content": "%%%"}', "not base64"),
        (b"a", b'{"text": "x", "metadata": []}', "expected object, got [] - at $.metadata"),
        (b"a", b'{"text": "x", "metadata": {"a": "%s"}}' % (b"x" * 20_000), "at most 16384 - at $.metadata"),
        (b"a", b'{"text": "x", "version": true}', "expected string or int, got True - at $.version"),
    ],
)
def test_a_document_of_another_shape_is_refused(key: bytes | None, value: bytes, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_document(key, value)
    assert reason in str(caught.value)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(
    uri=texts.filter(bool),
    content=st.binary(max_size=100),
    metadata=st.dictionaries(texts, st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts)),
    version=st.one_of(st.none(), texts, st.integers(0, 2**40)),
)
def test_a_document_comes_back_as_written(uri: str, content: bytes, metadata: dict, version: str | int | None) -> None:
    document = Document(uri, content=content, content_type="text/plain", metadata=metadata, version=version)
    assert document == read_document(uri.encode(), write_document(document))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the value is null"),
        (b"?", "not JSON"),
        (b"{}", "text that is not blank, got None - at $.question"),
        (b'{"question": "  "}', "text that is not blank"),
        (b'{"question": "x", "k": 0}', "int from 1 to 100, got 0 - at $.k"),
        (b'{"question": "x", "k": 1.5}', "int from 1 to 100"),
        (b'{"question": "x", "filter": {}}', "expected string or an object of strings, got {} - at $.filter"),
        (b'{"question": "x", "filter": {"jmespath": 3}}', "expected string or an object of strings"),
        (b'{"question": "x", "strategy": "best"}', "one of fixed, adaptive, retrieve, got 'best'"),
        (b'{"question": "x", "mode": "sitting"}', "one of once, standing, got 'sitting'"),
        (b'{"question": "x", "fresh_after": {"a": 1}}', "offsets by partition"),
        (b'{"question": "x", "fresh_after": {"0": -1}}', "offsets by partition"),
    ],
)
def test_a_query_of_another_shape_is_refused(value: bytes | None, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_query(b"q", value)
    assert reason in str(caught.value)


def test_a_query_comes_back_as_written() -> None:
    for filtered in ("year > 2000", {"jmespath": "year > `2000`", "glob": "*.md"}):
        query = Query("q1", "Who?", 3, filtered, "retrieve", "m", {0: 4, 2: 9}, False, "t")
        assert query == read_query(b"q1", write_query(query))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [(b"k", b"{}", "k"), (None, b'{"id": "v"}', "v"), (None, b"junk", ""), (None, None, ""), (None, b'{"id": 3}', "")],
)
def test_an_answer_to_a_broken_query_still_finds_its_asker(key: bytes | None, value: bytes | None, expected: str):
    assert expected == query_id(key, value)


def test_an_answer_has_the_published_shape() -> None:
    hit = Hit(Chunk(ID, "a.md", "text", {"lang": "en"}, 4, place={"page": 2, "lang": "of the place"}), 0.25)
    asked = (Asked(3, Tokens(10, 2), False),)
    answer = Answer("q", "Who?", "Ada [1].", False, (hit,), asked, 3, Tokens(10, 2), None, "quote", {1: 7, 0: 2}, 12)
    assert json.loads(write_answer(answer)) == {
        "id": "q",
        "question": "Who?",
        "answer": "Ada [1].",
        "no_answer": False,
        "sources": [
            {
                "uri": "a.md",
                "chunk": ID,
                "text": "text",
                "score": 0.25,
                "metadata": {"page": 2, "lang": "en"},
                "position": 4,
            }
        ],
        "strategy": {"rounds": 1, "documents_used": 3},
        "rounds": [{"documents": 3, "tokens": {"prompt": 10, "completion": 2}, "refused": False}],
        "tokens": {"prompt": 10, "completion": 2},
        "cost": None,
        "model": "quote",
        "index_position": {"0": 2, "1": 7},
        "took_ms": 12,
        "revision": 0,
        "error": None,
    }


def test_a_status_has_the_published_shape() -> None:
    assert json.loads(
        write_status(Status("failed", 3, 0, 0, True, "broken PDF", "v2", 5, "text/csv", {"a": 1}, 7))
    ) == {
        "state": "failed",
        "chunks": 3,
        "embedded": 0,
        "reused": 0,
        "stale": True,
        "error": "broken PDF",
        "version": "v2",
        "took_ms": 5,
        "content_type": "text/csv",
        "metadata": {"a": 1},
        "modified_at": 7,
    }


def test_an_update_is_laid_out_as_the_page_says() -> None:
    """Four bytes of length, the header, the vector: what a reader in another language sees."""
    chunk = Chunk(ID, "a#b.md", "Grüße", {"x": 1}, 2, "v1", {"page": 7})
    value = write_update(chunk, np.array([0.5, -1.0], "<f2").tobytes(), "model", "f16")
    (length,) = struct.unpack("<I", value[:4])
    assert json.loads(value[4 : 4 + length]) == {
        "document": "a#b.md",
        "chunk": ID,
        "text": "Grüße",
        "metadata": {"x": 1},
        "position": 2,
        "place": {"page": 7},
        "parent": None,
        "embedding_model": "model",
        "dimensions": 2,
        "dtype": "f16",
        "version": "v1",
    }
    assert value[4 + length :] == bytes.fromhex("003800bc")


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=64), texts, st.sampled_from(["f16", "f32"]))
def test_an_update_comes_back_as_written(numbers: list[float], text: str, dtype: str) -> None:
    vector = np.array(numbers, np.float32)
    chunk = Chunk(ID, "doc", text, place={"heading": text}, parent=text)
    update = read_update(chunk.key.encode(), write_update(chunk, vector_bytes(vector, dtype), "m", dtype))  # type: ignore[arg-type]
    assert (chunk, "m") == (update.chunk, update.model)
    assert vector.tolist() == update.vector.tolist() == vector_of(vector_bytes(vector, dtype), dtype).tolist()  # type: ignore[arg-type]


def _value(**changes: object) -> bytes:
    header = {
        "document": "d",
        "chunk": ID,
        "text": "t",
        "embedding_model": "m",
        "dimensions": 2,
        "dtype": "f16",
    } | changes
    data = json.dumps(header).encode()
    return struct.pack("<I", len(data)) + data + bytes(4)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, _value(), "expected the key"),
        (b"no-mark", _value(), "expected the key"),
        (b"d#XYZ", _value(), "expected the key"),
        (f"e#{ID}".encode(), _value(), "another chunk"),
        (f"d#{ID}".encode(), b"\x01", "too few for a header"),
        (f"d#{ID}".encode(), b"\xff\xff\xff\xff{}", "does not fit"),
        (f"d#{ID}".encode(), _value(dimensions=3), "expected 3 x 2"),
        (f"d#{ID}".encode(), _value(dimensions=None), "at $.dimensions"),
        (f"d#{ID}".encode(), _value(dtype="f8"), "one of f16, f32"),
        (f"d#{ID}".encode(), _value(text=None), "at $.text"),
        (f"d#{ID}".encode(), _value()[:-4] + struct.pack("<ee", float("nan"), 0), "NaN"),
    ],
)
def test_an_update_of_another_shape_is_refused(key: bytes | None, value: bytes, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_update(key, value)
    assert reason in str(caught.value)


def test_the_document_id_may_hold_the_mark() -> None:
    assert ("a#b", ID) == split_key(f"a#b#{ID}".encode())


@pytest.mark.parametrize(
    ("texts_before", "texts_after", "kept"),
    [
        (["a", "b", "c"], ["c", "a", "b"], 3),  # moved
        (["a  b"], ["a\n b "], 1),  # white space
        (["a", "a"], ["a"], 1),  # one of two equal ones
        (["a"], ["a."], 0),
        (["Ame\u0301lie"], ["Amélie"], 1),  # NFC
    ],
)
def test_a_chunk_keeps_its_id_while_its_text_is_the_same(texts_before: list, texts_after: list, kept: int) -> None:
    before, after = chunk_ids("d", texts_before), chunk_ids("d", texts_after)
    assert kept == len(set(before) & set(after))
    assert len(set(before)) == len(texts_before)


def test_equal_texts_of_two_documents_are_two_chunks() -> None:
    assert chunk_ids("d", ["a"]) != chunk_ids("e", ["a"])
