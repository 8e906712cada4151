"""Watches a folder and gives each file in it as a document: created, modified, deleted.

    key     path relative to the folder, with '/'
    value   {"uri", "text" or "content" (base64), "content_type", "metadata": {}, "modified_at", "version"}; null: deleted

At the start the folder is compared with what was there before, so that deletions while nobody watched are seen. Then every
event leads to the same comparison: events only say when to look (and which files to read although size and time are as
before), so one that is lost or folded into another loses nothing. A look every `rescan_interval_ms` catches the rest.

Left out: hidden files and folders, editors' and downloads' temporary files, everything that is no regular file, links that
lead out of the folder, files larger than `bytes_max`, names that are not UTF-8. A file is read in full before it is given, and
given again when it changed meanwhile. What it does not do: find out that a file was renamed (it is deleted and created; its
chunks' vectors come from the cache).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mimetypes
import os
import stat
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson

from ..errors import ConfigurationError
from ..source import SourceBatch

_LOG: Final = logging.getLogger(__name__)

Events = Callable[[Path], AsyncIterator[Collection[Path]]]
"""For a folder the paths something happened to, batch by batch; an empty batch only says that it is time to look."""

_TYPES: Final[Mapping[str, str]] = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".txt": "text/plain",
    ".rst": "text/plain",
    ".log": "text/plain",
    ".pdf": "application/pdf",
}
_TEMPORARY: Final = (".tmp", ".temp", ".swp", ".swx", ".part", ".partial", ".crdownload", ".bak", "~")
_BATCH_RECORDS_MAX: Final = 50
_BATCH_BYTES_MAX: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as a look at the folder sees it: has it changed?"""

    path: Path
    stamp: str
    """Time of modification in nanoseconds and size."""


class Files:
    """`folder`: must be there. `bytes_max`: of a file; its record is a third larger, and the broker's limit is 1 MiB by default.

    `events`: None takes those of the operating system. Raises ConfigurationError.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        bytes_max: int = 700_000,
        rescan_interval_ms: int = 30_000,
        events: Events | None = None,
    ) -> None:
        self._folder = Path(folder).resolve()
        if not self._folder.is_dir():
            raise ConfigurationError(f"source files: there is no folder {str(folder)!r}")
        if bytes_max < 1 or rescan_interval_ms < 1:
            raise ConfigurationError("source files: bytes_max and rescan_interval_ms must be at least 1")
        self._bytes_max = bytes_max
        self._events = events or _system_events(rescan_interval_ms)

    async def run(self, remembered: Mapping[str, str]) -> AsyncIterator[SourceBatch]:
        """What changed since `remembered` (path -> stamp and hash), then what changes."""
        known = dict(remembered)
        events = self._events(self._folder)
        touched: Collection[Path] = ()
        while True:
            async for batch in self._changes(known, touched):
                for name, value in batch.remember.items():
                    known.pop(name, None) if value is None else known.update({name: value})
                yield batch
            try:
                touched = await anext(events)
            except StopAsyncIteration:
                return

    async def _changes(self, known: Mapping[str, str], touched: Collection[Path]) -> AsyncIterator[SourceBatch]:
        """One comparison, in batches. Files are read in a thread."""
        seen = await asyncio.to_thread(lambda: dict(_look(self._folder)))
        gone = [uri for uri in known if uri not in seen]
        if gone:
            yield SourceBatch([(uri.encode(), None) for uri in gone], dict.fromkeys(gone))
        named = {path.as_posix() for path in touched}
        work = [uri for uri, one in seen.items() if _is_due(known.get(uri), one.stamp) or one.path.as_posix() in named]
        records: list[tuple[bytes, bytes | None]] = []
        remember: dict[str, str | None] = {}
        for uri in work:
            record, memory = await asyncio.to_thread(self._read, uri, seen[uri], known.get(uri))
            remember[uri] = memory
            if record is not None:
                records.append((uri.encode(), record))
            if len(records) >= _BATCH_RECORDS_MAX or sum(len(value or b"") for _, value in records) > _BATCH_BYTES_MAX:
                yield SourceBatch(records, remember)
                records, remember = [], {}
        if records or any(known.get(uri) != memory for uri, memory in remember.items()):
            yield SourceBatch(records, remember)

    def _read(self, uri: str, seen: Seen, known: str | None) -> tuple[bytes | None, str | None]:
        """The record (None: nothing new), and what to remember of the file (None: look again next time)."""
        try:
            content, modified = _content(seen.path, self._folder, self._bytes_max + 1)
        except (OSError, RuntimeError) as error:  # it went away between the look and now, or is not ours to read
            _LOG.warning("source files: %s cannot be read: %s", uri, error)
            return None, known
        if len(content) > self._bytes_max:
            _LOG.warning("source files: %s is left out: more than %d bytes (bytes_max)", uri, self._bytes_max)
            return None, f"{seen.stamp} {_hash_of(known)}"
        version = hashlib.sha256(content).hexdigest()[:16]
        memory = f"{seen.stamp} {version}"
        return (None if version == _hash_of(known) else _record(uri, content, modified, version)), memory


def _hash_of(known: str | None) -> str:
    return known.rpartition(" ")[2] if known else ""


def _is_due(known: str | None, stamp: str) -> bool:
    return known is None or known.rpartition(" ")[0] != stamp


def _record(uri: str, content: bytes, modified: datetime, version: str) -> bytes:
    kind = _TYPES.get(Path(uri).suffix.lower()) or mimetypes.guess_type(uri)[0] or "application/octet-stream"
    return orjson.dumps(
        {
            "uri": uri,
            **_body(kind, content),
            "content_type": kind,
            "metadata": {},
            "modified_at": modified.isoformat(),
            "version": version,
        }
    )


def _body(kind: str, content: bytes) -> dict[str, str]:
    """Text as text, so that people can read the topic; everything else in base64."""
    if kind.startswith("text/"):
        try:
            return {"text": content.decode()}
        except UnicodeDecodeError:
            pass
    return {"content": b64encode(content).decode()}


def _look(folder: Path) -> Iterator[tuple[str, Seen]]:
    """Every file that is to be given, by its relative path."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            seen = None if _is_temporary(name) else _seen(path, folder)
            uri = path.relative_to(folder).as_posix()
            if seen is not None and _is_utf8(uri):
                yield uri, seen


def _is_temporary(name: str) -> bool:
    return name.startswith((".", "~$", "#")) or name.lower().endswith(_TEMPORARY)


def _is_utf8(uri: str) -> bool:
    try:
        uri.encode()
    except UnicodeEncodeError:
        _LOG.warning("source files: %r is left out: the name is not UTF-8", uri)
        return False
    return True


def _seen(path: Path, folder: Path) -> Seen | None:
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(folder):
            return None
        status = path.stat()
    except (OSError, RuntimeError):  # gone between the listing and the look, or a link in a circle
        return None
    return Seen(path, f"{status.st_mtime_ns} {status.st_size}") if stat.S_ISREG(status.st_mode) else None


def _content(path: Path, folder: Path, bytes_max: int) -> tuple[bytes, datetime]:
    """Opened first and looked at then, so that nobody swaps a link in between. Raises OSError."""
    target = path.resolve(strict=True)
    if not target.is_relative_to(folder):
        raise PermissionError(f"it leads out of the folder, to {target}")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(target, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError("it is no regular file")
        return file.read(bytes_max), datetime.fromtimestamp(status.st_mtime, UTC)


def _system_events(rescan_interval_ms: int) -> Events:
    async def events(folder: Path) -> AsyncIterator[Collection[Path]]:
        try:
            import watchfiles
        except ImportError as error:
            raise ConfigurationError(f"source files: {error}; run: pip install 'millstream[rag]'") from error
        watching = watchfiles.awatch(
            folder,
            watch_filter=None,
            debounce=400,
            rust_timeout=rescan_interval_ms,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        async for changes in watching:
            yield [Path(path) for _, path in changes]

    return events
