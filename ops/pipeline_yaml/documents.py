"""The `documents` of a pipeline file: from a folder to answers. Parts are named as their files in rag/.

documents:
  sources: {files: {folder: docs}}
  splitter: {recursive: {chars_max: 800}}     # or only a name
  embedder: hashing
  index: exact
  llm: quote
  retrieve: {k: 5}
  topics: {queries: shop.queries}             # others keep their default, <app>.<name>
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from dataclasses import dataclass, field
from typing import Any, Final

from ...rag.errors import PartError
from ...rag.parts import part_class, part_names
from ...topics.topic import topic
from ...workers.app import App
from ..setting import did_you_mean
from .readers import mapping, placed, text, value, whole
from .tree import Entry, Leaf, Mapping

PARTS: Final = ("parser", "splitter", "embedder", "index", "llm")
KEYS: Final = ("sources", *PARTS, "retrieve", "topics")
TOPICS: Final = ("documents", "index_updates", "documents_status", "queries", "answers", "retrievals", "dead_letters")

DEFAULTS: Final = {"splitter": "recursive", "embedder": "hashing", "index": "exact", "llm": "quote"}
"""Parts that need no model, no key and no network."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part by name, with its options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentsSettings:
    """What a pipeline file says of documents, checked."""

    app: str
    parts: dict[str, Part]
    """By kind: parser (only where named), splitter, embedder, index, llm."""
    topics: dict[str, str]
    folder: str | None = None
    """Watched by the `files` source."""
    source_options: dict[str, Any] = field(default_factory=dict)
    k: int = 5


def documents_of(entry: Entry, app: App) -> DocumentsSettings:
    """Checks the section and adds its pipeline to the app. Raises PipelineFileError."""
    settings = documents_settings(entry, app.name)
    if importlib.util.find_spec("millstream.rag.pipeline") is None:
        entry.place.fail("documents cannot be run by this version of Millstream")
    with placed(entry.place):
        importlib.import_module("millstream.rag.pipeline").document_pipeline(app, settings)
    return settings


def documents_settings(entry: Entry, app: str) -> DocumentsSettings:
    """The section, checked. Raises PipelineFileError."""
    given = mapping(entry, "a mapping such as {sources: {files: {folder: docs}}, embedder: hashing}")
    given.check_keys(KEYS, "documents")
    named = {kind: _part(kind, one) for kind in PARTS if (one := given.get(kind)) is not None}
    sources, retrieve, topics = given.get("sources"), given.get("retrieve"), given.get("topics")
    folder, options = _files(sources) if sources else (None, {})
    return DocumentsSettings(
        app=app,
        parts={**{kind: Part(name) for kind, name in DEFAULTS.items()}, **named},
        topics={**{name: f"{app}.{name.replace('_', '-')}" for name in TOPICS}, **(_topics(topics) if topics else {})},
        folder=folder,
        source_options=options,
        k=_k(retrieve) if retrieve else 5,
    )


def _part(kind: str, entry: Entry) -> Part:
    """`embedder: hashing`, or `embedder: {hashing: {dimensions: 256}}`."""
    if isinstance(entry.value, Leaf):
        return Part(_part_name(kind, text(entry), entry))
    given = mapping(entry, f"a name, or {{name: {{option: value}}}} of a part of kind {kind}")
    if len(given.entries) != 1:
        entry.place.fail(f"{kind!r}: expected one name, got {', '.join(one.key for one in given) or 'none'}")
    one = given.entries[0]
    name = _part_name(kind, one.key, one)
    options = (
        Mapping(one.place, ())
        if isinstance(one.value, Leaf) and one.value.null
        else mapping(one, "a mapping of options")
    )
    try:
        known = list(inspect.signature(part_class(kind, name)).parameters)
    except PartError as error:
        one.place.fail(str(error))
    options.check_keys(known, f"the {kind} {name!r}")
    return Part(name, {option.key: value(option.value) for option in options})


def _part_name(kind: str, name: str, entry: Entry) -> str:
    """Only parts that ship: a pipeline file must not be able to import a module of its choice."""
    known = part_names(kind)
    if name not in known:
        entry.place.fail(f"no {kind} {name!r}" + did_you_mean(name, known, otherwise=f"; there are {', '.join(known)}"))
    return name


def _files(entry: Entry) -> tuple[str, dict[str, Any]]:
    sources = mapping(entry, "a mapping such as {files: {folder: docs}}")
    sources.check_keys(("files",), "sources")
    files = sources.need("files", "'sources'")
    given = mapping(files, "a mapping such as {folder: docs}")
    given.check_keys(("folder", "bytes_max"), "the source 'files'")
    options = {one.key: whole(one) for one in given if one.key == "bytes_max"}
    return text(given.need("folder", "the source 'files'")), options


def _k(entry: Entry) -> int:
    given = mapping(entry, "a mapping such as {k: 5}")
    given.check_keys(("k",), "retrieve")
    return whole(given.need("k", "'retrieve'"))


def _topics(entry: Entry) -> dict[str, str]:
    given = mapping(entry, "a mapping of the pipeline's topics to names of yours")
    given.check_keys(TOPICS, "the topics of documents")
    for one in given:
        with placed(one.value.place):
            topic(text(one))
    return {one.key: text(one) for one in given}
