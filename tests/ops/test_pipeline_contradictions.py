"""`contradictions` of a pipeline file: the same graph as in Python, and mistakes with file and line."""

from __future__ import annotations

import pytest

from millstream import App
from millstream.ops.describe.outline import outline_of
from millstream.ops.pipeline_yaml.build import pipeline_of
from millstream.rag.contradiction import ContradictionSettings
from millstream.rag.operators.contradictions import Contradictions
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import document_pipeline
from millstream.workers.errors import PlanError
from millstream.workers.graph import Work
from tests.ops.mistakes import is_named

RIGHT = """\
app: help
documents:
  topics: {contradictions: help.quarrels}
  contradictions:
    judge: {numbers: {alike_min: 0.8}}
    neighbours_max: 3
    similarity_min: 0.7
"""
SETTINGS = ContradictionSettings(Part("numbers", {"alike_min": 0.8}), neighbours_max=3, similarity_min=0.7)


def _settings(app: App) -> ContradictionSettings:
    (step,) = [node.step for node in app.graph if isinstance(node, Work) and isinstance(node.step, Contradictions)]
    return step.settings


def test_yaml_and_python_give_the_same_graph() -> None:
    app = App("help")
    topics = {"contradictions": "help.quarrels"}
    document_pipeline(app, embedder="hashing", contradictions=SETTINGS, topics=topics)
    assert outline_of(pipeline_of(RIGHT)).as_json() == outline_of(app).as_json()
    assert _settings(pipeline_of(RIGHT)) == _settings(app) == SETTINGS


def test_a_judge_alone_is_enough() -> None:
    app = App("help")
    document_pipeline(app, embedder="hashing", contradictions="numbers")
    yaml = pipeline_of("app: help\ndocuments: {contradictions: numbers}\n")
    assert _settings(yaml) == _settings(app) == ContradictionSettings()


def test_without_it_nobody_looks() -> None:
    kinds = {node.step.kind for node in pipeline_of("app: help\ndocuments: {}\n").graph if isinstance(node, Work)}
    assert kinds == {"ingest", "answer"}


_WRONG = """
{alike_min: 0.8}     | {alike: 0.8}          | 5: 'alike' is not a key of the judge 'numbers'...
judge: {numbers:     | judge: {number:       | 5: no judge 'number'; did you mean 'numbers'?
judge: {numbers: {alike_min: 0.8}} | judge: os.path | 5: no judge 'os.path'; there are llm, numbers
neighbours_max: 3    | neighbors_max: 3      | 6: 'neighbors_max' is not a key of contradictions; did you mean 'neighbours_max'?
neighbours_max: 3    | neighbours_max: 0     | 6: 'neighbours_max': expected a whole number from 1 up, got '0'
similarity_min: 0.7  | similarity_min: far   | 7: 'similarity_min': expected a number, got 'far'
similarity_min: 0.7  | similarity_min: 2     | 4: 'contradictions': similarity_min must be a cosine, from -1 to 1, got 2
{numbers: {alike_min: 0.8}} | llm            | 2: contradictions: the judge 'llm' needs a model, and 'quote' is none...
"""


@pytest.mark.parametrize("line", _WRONG.strip().splitlines())
def test_a_mistake_is_named_with_file_and_line(line: str) -> None:
    is_named(RIGHT, line)


def test_an_index_in_shards_has_no_neighbours_to_look_at() -> None:
    with pytest.raises(PlanError, match="contradictions need the whole index in one process"):
        document_pipeline(App("help"), contradictions="numbers", sharded=True)
