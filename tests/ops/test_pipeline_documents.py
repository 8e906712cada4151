"""The documents of a pipeline file: the same graph as in Python, and mistakes with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream import App
from millstream.ops.describe.outline import outline_of
from millstream.ops.errors import PipelineFileError
from millstream.ops.feed import FolderFeed
from millstream.ops.load import load
from millstream.ops.pipeline_yaml.build import pipeline_of
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import document_pipeline

RIGHT = """\
app: help
documents:
  sources:
    files: {folder: docs, bytes_max: 100000}
  splitter: {recursive: {chars_max: 500}}
  embedder: hashing
  index: exact
  llm: quote
  retrieve: {k: 3}
  topics: {queries: questions}
  partitions: 2
"""


def test_yaml_and_python_give_the_same_graph() -> None:
    app = App("help")
    document_pipeline(
        app,
        embedder="hashing",
        splitter=Part("recursive", {"chars_max": 500}),
        index="exact",
        llm="quote",
        k=3,
        topics={"queries": "questions"},
        partitions=2,
    )
    assert outline_of(pipeline_of(RIGHT)).as_json() == outline_of(app).as_json()


def test_nothing_needs_a_model_unless_it_is_named() -> None:
    steps = {
        box.name: dict(box.details) for box in outline_of(pipeline_of("app: help\ndocuments: {index: exact}\n")).boxes
    }
    assert steps["ingest"]["embedder"] == steps["answer"]["embedder"] == "hashing"


def test_the_folder_is_seen_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(RIGHT)
    _app, feeds = load(str(tmp_path / "p.yaml"))
    assert feeds == [FolderFeed(tmp_path / "docs", "help.documents", 100_000)]


def test_streams_and_documents_may_stand_in_one_file() -> None:
    app = pipeline_of(RIGHT + "topics: {clicks: {schema: {n: int}}}\nstreams: [{from: clicks, to: out}]\n")
    assert app.plan().shards == 2
    assert {"clicks", "questions", "help.documents"} <= set(app.plan().source_topics)


_WRONG = """
embedder: hashing    | embeder: hashing      | 6: 'embeder' is not a key of documents; did you mean 'embedder'?
embedder: hashing    | embedder: hashin      | 6: no embedder 'hashin'; did you mean 'hashing'?
embedder: hashing    | embedder: os.path     | 6: no embedder 'os.path'; there are hashing, local
chars_max            | char_max              | 5: 'char_max' is not a key of the splitter 'recursive'; did you mean 'chars_max'?
index: exact         | index: [exact]        | 7: 'index': expected a name, or {name: {option: value}} of a part of kind index, got a list
index: exact         | index: {exact: 1}     | 7: 'exact': expected a mapping of options, got '1'
index: exact         | index: {exact: {}, hnsw: {}} | 7: 'index': expected one name, got exact, hnsw
files: {             | flies: {              | 4: 'flies' is not a key of sources; did you mean 'files'?
folder: docs,        | foldr: docs,          | 4: 'foldr' is not a key of the source 'files'; did you mean 'folder'?
retrieve: {k: 3}     | retrieve: {k: three}  | 9: 'k': expected a whole number from 1 up, got 'three'
queries: questions   | querys: questions     | 10: 'querys' is not a key of the topics of documents; did you mean 'queries'?
queries: questions   | queries: "a b"        | 10: topic 'a b': a name has 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'
"""


@pytest.mark.parametrize("line", _WRONG.strip().splitlines())
def test_a_mistake_is_named_with_file_and_line(line: str) -> None:
    """A part must ship with Millstream: a pipeline file imports no module of its choice."""
    right, wrong, expected = (part.strip() for part in line.split(" | "))
    assert right in RIGHT
    with pytest.raises(PipelineFileError) as raised:
        pipeline_of(RIGHT.replace(right, wrong, 1))
    assert str(raised.value) == f"pipeline.yaml:{expected}"
