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
from millstream.rag.adaptive import AdaptiveSettings, Evidence
from millstream.rag.conversation import ConversationSettings
from millstream.rag.operators.answer import Answer
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentSettings, document_pipeline
from millstream.rag.settings import ShardSettings
from millstream.workers.graph import Work
from tests.ops.mistakes import is_named

RIGHT = """\
app: help
documents:
  sources:
    files: {folder: docs, bytes_max: 100000}
  splitter: {recursive: {chars_max: 500}}
  embedder: hashing
  index: exact
  reranker: {llm: {chunk_chars_max: 500}}
  llm: quote
  retrieve: {k: 3, ranking: {hybrid: {vector_weight: 0.7}}}
  answer: {strategy: adaptive, documents_max: 9, posterior: true, evidence: {best: 1, gap: 0.5, intercept: -9}}
  topics: {queries: questions}
  sharded: {deadline_ms: 700}
  partitions: 2
"""


def test_yaml_and_python_give_the_same_graph() -> None:
    app = App("help")
    document_pipeline(
        app,
        embedder="hashing",
        splitter=Part("recursive", {"chars_max": 500}),
        index="exact",
        reranker=Part("llm", {"chunk_chars_max": 500}),
        llm="quote",
        strategy="adaptive",
        adaptive=AdaptiveSettings(documents_max=9, posterior=True, evidence=Evidence(1, 0.5, -9)),
        k=3,
        ranking=Part("hybrid", {"vector_weight": 0.7}),
        sharded=ShardSettings(deadline_ms=700),
        topics={"queries": "questions"},
        partitions=2,
    )
    assert outline_of(pipeline_of(RIGHT)).as_json() == outline_of(app).as_json()


def test_models_beside_each_other_are_named_as_in_python() -> None:
    app = App("help")
    document_pipeline(
        app, embedder="hashing", models={"large": Part("hashing", {"dimensions": 512})}, answer_model="large"
    )
    given = """
app: help
documents:
  embedder: hashing
  models: {large: {hashing: {dimensions: 512}}}
  answer_model: large
"""
    assert outline_of(pipeline_of(given)).as_json() == outline_of(app).as_json()


def test_a_model_that_is_not_there_is_told_with_its_place() -> None:
    with pytest.raises(PipelineFileError, match="answer_model: no model 'larg'; there are large"):
        pipeline_of("app: help\ndocuments:\n  models: {large: hashing}\n  answer_model: larg\n")


def test_rewriter_conversation_and_failures_are_set_by_name() -> None:
    text = """
app: help
documents:
  rewriter: {llm: {queries_max: 2}}
  answer: {conversation: {turns_max: 4, age_max_ms: 600000}, reranker_failure: fail, standing_retries_max: 3}
"""
    (step,) = [
        node.step for node in pipeline_of(text).graph if isinstance(node, Work) and isinstance(node.step, Answer)
    ]
    found = step.settings
    assert found.rewriter == Part("llm", {"queries_max": 2})
    assert found.conversation == ConversationSettings(turns_max=4, age_max_ms=600_000)
    assert (found.retrieval.reranker_failure, found.standing_retries_max) == ("fail", 3)


def test_nothing_needs_a_model_unless_it_is_named() -> None:
    steps = {
        box.name: dict(box.details) for box in outline_of(pipeline_of("app: help\ndocuments: {index: exact}\n")).boxes
    }
    assert steps["ingest"]["embedder"] == steps["answer"]["embedder"] == "hashing"


def test_how_it_answers_is_set_by_name() -> None:
    (step,) = [
        node.step for node in pipeline_of(RIGHT).graph if isinstance(node, Work) and isinstance(node.step, Answer)
    ]
    rule = AdaptiveSettings(documents_max=9, posterior=True, evidence=Evidence(1, 0.5, -9))
    assert (step.settings.strategy, step.settings.adaptive, step.settings.retrieval.k) == ("adaptive", rule, 3)
    assert (
        step.settings
        == DocumentSettings.of(
            "help",
            embedder="hashing",
            index="exact",
            reranker=Part("llm", {"chunk_chars_max": 500}),
            strategy="adaptive",
            adaptive=rule,
            k=3,
            sharded=ShardSettings(deadline_ms=700),
            ranking=Part("hybrid", {"vector_weight": 0.7}),
        ).answer
    )


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
embedder: hashing    | embedder: os.path     | 6: no embedder 'os.path'; there are...
chars_max            | char_max              | 5: 'char_max' is not a key of the splitter 'recursive'; did you mean 'chars_max'?
index: exact         | index: [exact]        | 7: 'index': expected a name, or {name: {option: value}} of a part of kind index, got a list
index: exact         | index: {exact: 1}     | 7: 'exact': expected a mapping of options, got '1'
index: exact         | index: {exact: {}, hnsw: {}} | 7: 'index': expected one name, got exact, hnsw
files: {             | flies: {              | 4: 'flies' is not a key of sources; did you mean 'files'?
folder: docs,        | foldr: docs,          | 4: 'foldr' is not a key of the source 'files'; did you mean 'folder'?
retrieve: {k: 3,     | retrieve: {k: three,  | 10: 'k': expected a whole number from 1 up, got 'three'
hybrid:              | hybird:               | 10: no ranking 'hybird'; did you mean 'hybrid'?
vector_weight        | weight                | 10: 'weight' is not a key of the ranking 'hybrid'...
k: 3, ranking        | k: 3, rank            | 10: 'rank' is not a key of retrieve; did you mean 'ranking'?
reranker: {llm:      | reranker: {lm:        | 8: no reranker 'lm'; did you mean 'llm'?
chunk_chars_max      | chunk_chars           | 8: 'chunk_chars' is not a key of the reranker 'llm'; did you mean 'chunk_chars_max'?
strategy: adaptive   | strategy: best        | 11: 'strategy': expected one of fixed, adaptive, retrieve, got 'best'
documents_max: 9     | documents_max: some   | 11: 'documents_max': expected a number, got 'some'
documents_max: 9     | documents_maxx: 9     | 11: 'documents_maxx' is not a key of answer; did you mean 'documents_max'?
documents_max: 9     | k: 9                  | 11: 'k' is not a key of answer...
best: 1              | bets: 1               | 11: 'evidence': Evidence.__init__() got an unexpected keyword argument 'bets'
deadline_ms: 700     | deadlin_ms: 700       | 13: 'deadlin_ms' is not a key of sharded; did you mean 'deadline_ms'?
deadline_ms: 700     | deadline_ms: 0        | 13: 'deadline_ms': expected a whole number from 1 up, got '0'
{deadline_ms: 700}   | maybe                 | 13: 'sharded': expected true or false, got 'maybe'
queries: questions   | querys: questions     | 12: 'querys' is not a key of the topics of documents; did you mean 'queries'?
queries: questions   | queries: "a b"        | 12: topic 'a b': a name has 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'
"""


@pytest.mark.parametrize("line", _WRONG.strip().splitlines())
def test_a_mistake_is_named_with_file_and_line(line: str) -> None:
    """A part must ship with Millstream: a pipeline file imports no module of its choice."""
    is_named(RIGHT, line)
