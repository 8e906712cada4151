"""Where a backup lies: a folder at any fsspec URL (a path, `file://`, `s3://`, `gs://`, `memory://`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ..errors import BackupError
from .manifest import MANIFEST, MANIFEST_BYTES_MAX, FileEntry, Manifest, manifest_of

_CHUNK_BYTES: Final = 4 << 20


class Place:
    """Raises BackupError for whatever goes wrong there, naming the URL (without what may be a password in it)."""

    def __init__(self, url: str) -> None:
        self.shown = re.sub(r"(?<=://)[^/@]*@", "", url)
        try:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]
        except ImportError as error:
            raise BackupError("backups need the extra `backup`: pip install 'millstream[backup]'") from error
        with self._told("opened"):
            fs, root = url_to_fs(url)
        self._fs: Any = fs
        self._root: str = root.rstrip("/")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except BackupError:
            raise
        except ImportError as error:
            raise BackupError(f"{self.shown}: {error}") from error
        except Exception as error:
            # Every file system has errors of its own; none of them is a fault of this process.
            raise BackupError(f"{self.shown} cannot be {what}: {type(error).__name__}: {error}") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def has_manifest(self) -> bool:
        with self._told("read"):
            return bool(self._fs.exists(self._path(MANIFEST)))

    def write(self, name: str, content: bytes) -> None:
        """Seen whole or not at all, where the file system can do that."""
        path = self._path(name)
        with self._told("written"):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self._fs.transaction, self._fs.open(path, "wb") as file:
                file.write(content)

    def write_manifest(self, manifest: Manifest) -> None:
        self.write(MANIFEST, manifest.to_bytes())

    def manifest(self) -> Manifest:
        with self._told("read"):
            if not self._fs.exists(self._path(MANIFEST)):
                raise BackupError(f"{self.shown}: no {MANIFEST}, so this is no backup, or one that was broken off")
        return manifest_of(self._read(MANIFEST, MANIFEST_BYTES_MAX), self.shown)

    def _read(self, name: str, bytes_max: int) -> bytes:
        with self._told("read"), self._fs.open(self._path(name), "rb") as file:
            content: bytes = file.read(bytes_max + 1)
        if len(content) > bytes_max:
            raise BackupError(f"{self.shown}: {name} has more than {bytes_max} bytes")
        return content

    def read(self, entry: FileEntry) -> bytes:
        """Its content, which is what the manifest says."""
        content = self._read(entry.path, entry.bytes)
        self._compare(entry, len(content), hashlib.sha256(content).hexdigest())
        return content

    def verify(self, entry: FileEntry) -> None:
        """As `read`, keeping nothing."""
        digest, size = hashlib.sha256(), 0
        with self._told("read"), self._fs.open(self._path(entry.path), "rb") as file:
            while size <= entry.bytes and (chunk := file.read(_CHUNK_BYTES)):
                digest.update(chunk)
                size += len(chunk)
        self._compare(entry, size, digest.hexdigest())

    def _compare(self, entry: FileEntry, size: int, sha256: str) -> None:
        if (size, sha256) != (entry.bytes, entry.sha256):
            raise BackupError(
                f"{self.shown}: {entry.path} is not what was backed up ({entry.bytes} bytes, SHA-256 {entry.sha256[:12]}...; "
                f"found {size} bytes, {sha256[:12]}...); take another backup"
            )
