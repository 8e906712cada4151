"""A pipeline file as an app: its keys on top, then topics, streams and documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ...workers.app import App
from ..feed import FolderFeed
from ..setting import did_you_mean
from .gateway import gateway_of
from .readers import duration, duration_or_none, flag, mapping, one_of, placed, text, whole
from .streams import Streams
from .topics import topics_of
from .tree import Entry, Mapping, Reader, read_tree, tree_of

KEYS: Final = ("app", "guarantee", "commit_interval", "settings", "topics", "streams", "documents", "gateway")

SETTINGS: Final[dict[str, tuple[str, Reader]]] = {
    "start_from": ("start_from", one_of("earliest", "latest")),
    "advance_when_idle": ("advance_when_idle", flag),
    "max_drift": ("max_drift_ms", duration_or_none),
    "wait_for_inputs": ("wait_for_inputs_ms", duration),
    "checkpoint_interval": ("checkpoint_interval_ms", duration),
    "join_buffer_bytes_max": ("join_buffer_bytes_max", whole),
    "poll_records_max": ("poll_records_max", whole),
    "watermark_interval": ("watermark_interval_ms", duration),
    "internal_replication": ("internal_replication", whole),
    "create_topics": ("create_topics", flag),
    "standby_replicas": ("standby_replicas", whole),
}
"""Keys of `settings`, the field of AppSettings each one is, and its reader."""


def load_pipeline(file: Path) -> tuple[App, list[FolderFeed]]:
    """The app, and the folders to be watched while it runs. Raises PipelineFileError, whose text begins with file and line."""
    return built(read_tree(file))


def pipeline_of(content: str, file: str = "pipeline.yaml") -> App:
    """The app of a text."""
    return built(tree_of(content, file))[0]


def built(tree: Mapping) -> tuple[App, list[FolderFeed]]:
    tree.check_keys(KEYS, "a pipeline")
    app = _app(tree)
    declared = tree.get("topics")
    topics = topics_of(declared) if declared else {}
    streams, documents, gateway = tree.get("streams"), tree.get("documents"), tree.get("gateway")
    if gateway is not None:
        gateway_of(gateway)
    if streams is None and documents is None:
        tree.place.fail("a pipeline needs 'streams' or 'documents'")
    if streams is not None:
        Streams(app, topics).add_all(streams)
    if documents is None:
        return app, []
    from .documents import documents_of

    feed = documents_of(documents, app)
    return app, [feed] if feed else []


def _app(tree: Mapping) -> App:
    name = tree.need("app", "a pipeline")
    options: dict[str, Any] = {}
    if entry := tree.get("guarantee"):
        options["guarantee"] = one_of("exactly_once", "at_least_once")(entry)
    if entry := tree.get("commit_interval"):
        options["commit_interval"] = duration(entry)
    if entry := tree.get("settings"):
        options |= _settings(entry)
    interval = tree.get("commit_interval")
    with placed(interval.place if interval and options.get("commit_interval", 1) < 1 else name.value.place):
        return App(text(name), **options)


def _settings(entry: Entry) -> dict[str, Any]:
    given = mapping(entry, "a mapping of settings")
    for one in given:
        if one.key not in SETTINGS:
            hint = did_you_mean(one.key, SETTINGS, otherwise=f"; settings are {', '.join(SETTINGS)}")
            one.place.fail(f"{one.key!r} is not a setting{hint}")
    return {SETTINGS[one.key][0]: SETTINGS[one.key][1](one) for one in given}
