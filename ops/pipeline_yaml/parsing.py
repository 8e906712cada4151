"""How documents are parsed, in a pipeline file: `parsers` by content type, and `limits`.

documents:
  parsers: {text/csv: {csv: {delimiter: ";"}}, application/x-notes: markdown}
  limits: {pages_max: 500, timeout_ms: 30000}     # fields of rag/parser.py's Limits and rag/parse_pool.py's ParseSettings
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Final

from ...rag.parse_job import Part
from ...rag.parse_pool import ParseSettings
from ...rag.parser import Limits
from ...rag.settings import IngestSettings
from .readers import mapping, whole
from .tree import Entry

PARSING_KEYS: Final = ("parsers", "limits")

_OF_PROCESS: Final = frozenset(field.name for field in fields(ParseSettings))


def parsing_of(settings: IngestSettings, given: dict[str, Entry], part: Callable[[str, Entry], Part]) -> IngestSettings:
    """The settings with what is given of `PARSING_KEYS`. Raises PipelineFileError."""
    if parsers := given.get("parsers"):
        settings = replace(settings, parsers=_parsers(parsers, part))
    if limits := given.get("limits"):
        found = _limits(limits)
        process = {name: limit for name, limit in found.items() if name in _OF_PROCESS}
        document = {name: limit for name, limit in found.items() if name not in _OF_PROCESS}
        settings = replace(
            settings, parsing=replace(settings.parsing, **process), limits=replace(settings.limits, **document)
        )
    return settings


def _parsers(entry: Entry, part: Callable[[str, Entry], Part]) -> dict[str, Part]:
    given = mapping(entry, "a mapping of content types to parsers, such as {text/csv: {csv: {header: true}}}")
    for one in given:
        kind, slash, rest = one.key.partition("/")
        if not (kind and slash and rest) or one.key != one.key.strip().lower():
            one.place.fail(f"{one.key!r}: expected a content type in small letters, such as text/csv")
    return {one.key: part("parser", one) for one in given}


def _limits(entry: Entry) -> dict[str, Any]:
    given = mapping(entry, "a mapping such as {pages_max: 500, timeout_ms: 30000}")
    given.check_keys([field.name for field in (*fields(Limits), *fields(ParseSettings))], "limits")
    return {one.key: whole(one) for one in given}
