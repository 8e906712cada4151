"""What a backup says of itself: `manifest.json`, written last, so that a folder without one is no backup.

    {"format": 1, "app": "shop", "version": "0.1.0", "taken_ms": 1764057600000,
     "topics":  [{"name": "shop-w-changelog", "partitions": 4}, ...],          changelogs and repartition topics
     "inputs":  [{"name": "clicks", "partitions": 4}, ...],                    topics the app reads; they are not in here
     "offsets": [{"topic": "clicks", "partition": 0, "offset": 4711, "metadata": "..."}, ...],
     "stores":  {"w": {...}},                                                  the fingerprint
     "files":   [{"path": "shop-w-changelog/0-0.arrow", "topic": "shop-w-changelog", "partition": 0,
                  "records": 1000, "bytes": 52000, "sha256": "..."}, ...]}

A manifest comes from outside and is believed nothing: its paths stay in its folder, its topics are internal ones of its app,
its numbers are numbers. What it names is read only as far as it says, and must have the SHA-256 it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from ...topics.batch import Partition
from ...topics.broker import Committed
from ...workers.errors import WorkersError
from ...workers.fingerprint import StoreFingerprint
from ...workers.naming import checked
from ..errors import BackupError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
MANIFEST_BYTES_MAX: Final = 64 << 20
FILE_BYTES_MAX: Final = 1 << 30
"""Of one file; we write a sixteenth of it (`files.PART_BYTES_MAX`), but for single records that are larger."""
PARTITIONS_MAX: Final = 10_000

_PATH: Final = re.compile(r"(?P<topic>[A-Za-z0-9._-]{1,249})/(?P<partition>\d{1,5})-(?P<part>\d{1,9})\.arrow")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TopicEntry:
    """A topic and how many partitions it had."""

    name: str
    partitions: int

    @property
    def is_changelog(self) -> bool:
        return self.name.endswith("-changelog")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Records of one partition, in order; several files of one partition by `path`."""

    path: str
    topic: str
    partition: int
    records: int
    bytes: int
    sha256: str

    @property
    def of(self) -> Partition:
        return Partition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class Manifest:
    """See the drawing."""

    app: str
    version: str
    taken_ms: int
    topics: tuple[TopicEntry, ...]
    inputs: tuple[TopicEntry, ...]
    offsets: Mapping[Partition, Committed]
    stores: Mapping[str, StoreFingerprint]
    files: tuple[FileEntry, ...]

    @property
    def records(self) -> int:
        return sum(file.records for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def to_bytes(self) -> bytes:
        told = {
            "format": FORMAT,
            "app": self.app,
            "version": self.version,
            "taken_ms": self.taken_ms,
            "topics": [asdict(one) for one in self.topics],
            "inputs": [asdict(one) for one in self.inputs],
            "offsets": [
                {"topic": at.topic, "partition": at.index, "offset": one.offset, "metadata": one.metadata}
                for at, one in sorted(self.offsets.items())
            ],
            "stores": {name: json.loads(one.to_bytes()) for name, one in self.stores.items()},
            "files": [asdict(one) for one in self.files],
        }
        return (json.dumps(told, indent=1) + "\n").encode()


def manifest_of(value: bytes, place: str) -> Manifest:
    """Raises BackupError naming the place and what cannot be."""
    try:
        found = json.loads(value)
    except ValueError as error:
        raise BackupError(f"{place}: {MANIFEST} is no JSON ({error}); take another backup") from error
    try:
        if found["format"] != FORMAT:
            raise BackupError(
                f"{place}: format {found['format']!r}, this version reads {FORMAT}; use the one that wrote it"
            )
        return _checked_whole(_manifest(found))
    except (KeyError, TypeError, ValueError, AttributeError, WorkersError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BackupError(f"{place}: {MANIFEST} was not written by millstream backup: {told}") from error


def _manifest(found: Mapping[str, Any]) -> Manifest:
    return Manifest(
        app=checked(_text(found["app"]), "app"),
        version=_text(found["version"]),
        taken_ms=_number(found["taken_ms"]),
        topics=tuple(_topic(one) for one in found["topics"]),
        inputs=tuple(_topic(one) for one in found["inputs"]),
        offsets={
            Partition(_text(one["topic"]), _number(one["partition"])): Committed(
                _number(one["offset"]), _text(one["metadata"])
            )
            for one in found["offsets"]
        },
        stores={
            checked(name, "store"): StoreFingerprint.from_bytes(json.dumps(one).encode())
            for name, one in found["stores"].items()
        },
        files=tuple(_file(one) for one in found["files"]),
    )


def _topic(found: Mapping[str, Any]) -> TopicEntry:
    return TopicEntry(_text(found["name"]), _number(found["partitions"], PARTITIONS_MAX))


def _file(found: Mapping[str, Any]) -> FileEntry:
    sha256 = _text(found["sha256"])
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256[:80]!r} is no SHA-256")
    return FileEntry(
        _text(found["path"]),
        _text(found["topic"]),
        _number(found["partition"]),
        _number(found["records"]),
        _number(found["bytes"], FILE_BYTES_MAX),
        sha256,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: object, most: int = 2**63 - 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{value!r} is no number from 0 to {most}")
    return value


# -- what belongs together


def _checked_whole(manifest: Manifest) -> Manifest:
    topics = _by(manifest.topics, lambda one: one.name)
    _by(manifest.files, lambda one: one.path)
    for one in manifest.topics:
        if not _is_internal(manifest.app, one.name):
            raise ValueError(f"{one.name!r} is no changelog and no repartition topic of app {manifest.app!r}")
    for file in manifest.files:
        path = _PATH.fullmatch(file.path)
        topic = topics.get(file.topic)
        if path is None or topic is None or (path["topic"], int(path["partition"])) != (file.topic, file.partition):
            raise ValueError(f"path {file.path!r} is not one of topic {file.topic!r}, partition {file.partition}")
        if file.partition >= topic.partitions:
            raise ValueError(f"topic {file.topic!r} has {topic.partitions} partitions, not one {file.partition}")
    known = _by((*manifest.topics, *manifest.inputs), lambda one: one.name)
    for at in manifest.offsets:
        if at.topic not in known or at.index >= known[at.topic].partitions:
            raise ValueError(f"an offset of {at}, which is not among its topics")
    return manifest


def _is_internal(app: str, topic: str) -> bool:
    return (
        topic.startswith(f"{app}-")
        and topic.endswith(("-changelog", "-repartition"))
        and bool(re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic))
    )


def _by(entries: Iterable[T], name: Callable[[T], str]) -> dict[str, T]:
    found: dict[str, T] = {}
    for entry in entries:
        if found.setdefault(name(entry), entry) is not entry:
            raise ValueError(f"{name(entry)!r} is there twice")
    return found
