"""Parsers and limits in a pipeline file: what they set, and mistakes with file and line."""

from __future__ import annotations

import pytest

from millstream.ops.pipeline_yaml.build import pipeline_of
from millstream.rag.operators.ingest import Ingest
from millstream.rag.parse_job import Part
from millstream.rag.parse_pool import ParseSettings
from millstream.rag.parser import Limits
from millstream.workers.graph import Work
from tests.ops.mistakes import is_named

RIGHT = """\
app: help
documents:
  parsers: {text/csv: {csv: {delimiter: ";"}}, application/x-notes: markdown}
  limits: {pages_max: 9, timeout_ms: 7000}
  splitter: {semantic: {chars_max: 500, part_below: 0.4}}
"""


def test_parsers_and_limits_are_set() -> None:
    (settings,) = [
        node.step.settings
        for node in pipeline_of(RIGHT).graph
        if isinstance(node, Work) and isinstance(node.step, Ingest)
    ]
    assert settings.parsers == {"text/csv": Part("csv", {"delimiter": ";"}), "application/x-notes": Part("markdown")}
    assert (settings.limits, settings.parsing) == (Limits(pages_max=9), ParseSettings(timeout_ms=7_000))
    assert settings.splitter == Part("semantic", {"chars_max": 500, "part_below": 0.4})


_WRONG = """
text/csv      | csv            | 3: 'csv': expected a content type in small letters, such as text/csv
text/csv      | Text/CSV       | 3: 'Text/CSV': expected a content type in small letters, such as text/csv
delimiter     | delimitr       | 3: 'delimitr' is not a key of the parser 'csv'; did you mean 'delimiter'?
: markdown    | : markdwn      | 3: no parser 'markdwn'; did you mean 'markdown'?
pages_max     | page_max       | 4: 'page_max' is not a key of limits; did you mean 'pages_max'?
pages_max: 9  | pages_max: 0   | 4: 'pages_max': expected a whole number from 1 up, got '0'
"""


@pytest.mark.parametrize("line", _WRONG.strip().splitlines())
def test_a_mistake_is_named_with_file_and_line(line: str) -> None:
    is_named(RIGHT, line)
