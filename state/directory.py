"""The data directory of one application in one process.

    <directory>/
        LOCK                          held (flock) while a process works here; says its pid
        millstream.json               {"format": 1, "app": "shop"}
        <sub-topology>/<partition>/   one task's database
        <sub-topology>/<partition>.corrupt-<n>   moved aside; the task was restored from its changelog

Whoever opens it takes the lock, so two processes never write one store. The lock is the kernel's: it goes with the
process, however that ends. It does not hold on network file systems that lie about flock.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from .errors import FormatError, LockedError, StateError
from .on_disk import on_disk
from .store import Database

FORMAT = 1

_TASK = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/[0-9]+")


class StateDirectory:
    """See `Databases`. `open_database` makes a task's database in a folder (`RocksDatabase` with its shared caches).

    Raises LockedError, FormatError, DiskError.
    """

    def __init__(self, path: Path, app: str, open_database: Callable[[Path], Database]) -> None:
        self.path = path
        self._open_database = open_database
        with on_disk(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
        try:
            with on_disk(path):
                _check_format(path / "millstream.json", app)
        except StateError:
            self._lock.close()
            raise

    def open(self, task: str) -> Database:
        folder = self._folder(task)
        with on_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return self._open_database(folder)

    def tasks(self) -> list[str]:
        with on_disk(self.path):
            found = (str(folder.relative_to(self.path)) for folder in self.path.glob("*/*") if folder.is_dir())
            return sorted(task for task in found if _TASK.fullmatch(task))

    def set_aside(self, task: str) -> str:
        folder = self._folder(task)
        with on_disk(folder):
            number = 1
            while (place := folder.with_name(f"{folder.name}.corrupt-{number}")).exists():
                number += 1
            folder.rename(place)
        return str(place)

    def delete(self, task: str) -> None:
        """In one step as seen by who comes after a crash: the folder is renamed first."""
        folder = self._folder(task)
        doomed = folder.with_name(f"{folder.name}.deleted")
        with on_disk(folder):
            if doomed.exists():
                shutil.rmtree(doomed)
            if folder.exists():
                folder.rename(doomed)
                shutil.rmtree(doomed)

    def close(self) -> None:
        self._lock.close()

    def _folder(self, task: str) -> Path:
        if not _TASK.fullmatch(task):
            raise ValueError(f"task {task!r}: expected <sub-topology>/<partition>, as in 'shop-0/3'")
        return self.path / task


def _locked(path: Path) -> IO[str]:
    """The open lock file; closing it gives the lock back."""
    file = (path / "LOCK").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise LockedError(f"{path}: in use by process {holder}; stop it, or give this one another directory") from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _check_format(file: Path, app: str) -> None:
    if not file.exists():
        part = file.with_suffix(".tmp")
        part.write_text(json.dumps({"format": FORMAT, "app": app}) + "\n")
        part.rename(file)
        return
    try:
        found = json.loads(file.read_text())
        kind, owner = found["format"], found["app"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{file}: not a description of ours ({error}); delete the directory to start anew") from error
    if owner != app:
        raise FormatError(f"{file}: holds the state of app {owner!r}, not of {app!r}; give each its own directory")
    if kind != FORMAT:
        raise FormatError(
            f"{file}: format {kind}, this version reads {FORMAT}; run the version that wrote it, or delete the directory: "
            "state is restored from the changelog topics"
        )
