"""Mistakes in a pipeline file, one a line of a table: `what is right | what is written instead | line: what is said of it`."""

from __future__ import annotations

import pytest

from millstream.ops.errors import PipelineFileError
from millstream.ops.pipeline_yaml.build import pipeline_of


def is_named(text: str, line: str) -> None:
    """What is said is file and line and what the table has (its beginning, where that ends in "..."); `text` itself is right."""
    right, wrong, expected = (part.strip() for part in line.split(" | "))
    assert right in text
    with pytest.raises(PipelineFileError) as raised:
        pipeline_of(text.replace(right, wrong, 1))
    said = str(raised.value).removeprefix("pipeline.yaml:")
    beginning = expected.removesuffix("...")
    assert (said[: len(beginning)] if beginning != expected else said) == beginning
