"""A configuration in one line of text, as changes to settings: `strategy=adaptive posterior=true reranker=none`.

Words are parted as a shell does it; values are YAML, so a part with options is `'reranker={http: {url: http://127.0.0.1:8080/rerank}}'`.
"""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from ..answer_options import changed
from ..errors import PartError
from ..settings import AnswerSettings


def configured(settings: AnswerSettings, text: str) -> AnswerSettings:
    """Raises PartError naming the word that is wrong."""
    for name, value in _pairs(text):
        try:
            settings = changed(settings, name, value)
        except ValueError as error:
            raise PartError(f"configuration {text!r}: {name}: {error}") from error
    return settings


def _pairs(text: str) -> list[tuple[str, Any]]:
    try:
        words = [word.partition("=") for word in shlex.split(text)]
        return [(name, yaml.safe_load(value)) for name, _, value in words]
    except (ValueError, yaml.YAMLError) as error:
        raise PartError(f"configuration {text!r}: {error}") from error
