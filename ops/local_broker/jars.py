"""Kafka's jars: pinned by SHA-256, downloaded once, kept in the user's cache, mended when damaged.

`kafka_jars.json` lists every jar by Maven coordinate, so nothing is resolved at run time and no other version can
slip in. Each start hashes all of them (45 MB): a jar that was cut short or changed is fetched again, and one
that comes from the network with another hash is refused. jgo does the download; it only warns about checksums,
hence our own pins. Its `EnvironmentBuilder` is not used: that one fetches an index of Java runtimes first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DirectoryUnusable, JarRefused, JarsUnavailable

KAFKA_VERSION = "4.3.1"
DOWNLOADS_MAX = 4
ATTEMPTS_MAX = 2
READ_TIMEOUT_S = 60

Fetch = Callable[["Jar", Path, Callable[[int], None]], Path]
"""Downloads a jar somewhere below a scratch folder, telling the bytes as they come, and returns the file."""


@dataclass(frozen=True)
class Jar:
    """One pinned jar: `coordinate` is group:artifact:version."""

    coordinate: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The file name, as Maven gives it."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    @property
    def maven_path(self) -> Path:
        """Where a local Maven repository keeps the jar."""
        group, artifact, version = self.coordinate.split(":")
        return Path(*group.split("."), artifact, version, self.name)

    def is_at(self, path: Path) -> bool:
        """Whether the file there is this very jar."""
        try:
            return path.stat().st_size == self.bytes and _sha256(path) == self.sha256
        except OSError:
            return False


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """`MILLSTREAM_CACHE`, else the folder `millstream` in XDG_CACHE_HOME or ~/.cache."""
    env = os.environ if environ is None else environ
    if ours := env.get("MILLSTREAM_CACHE"):
        return Path(ours)
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache", "millstream")


def pinned_jars() -> list[Jar]:
    """Every jar of Kafka and of its logging, from the list beside this file."""
    return [Jar(**pin) for pin in json.loads(Path(__file__).with_name("kafka_jars.json").read_text())]


@contextlib.contextmanager
def cache_lock(cache: Path, name: str) -> Iterator[None]:
    """Holds a lock that other processes of this user honour, for filling one part of the cache."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        handle = (cache / f"{name}.lock").open("w")
    except OSError as error:
        raise DirectoryUnusable(
            f"cannot write to the cache {cache}: {error.strerror}. Next: set MILLSTREAM_CACHE to a folder you own."
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def kafka_jars(
    cache: Path | None = None, *, pins: Sequence[Jar] | None = None, fetch: Fetch | None = None
) -> list[Path]:
    """The verified jars, for a class path.

    Raises `JarsUnavailable` where a jar is neither in the cache, nor in the local Maven repository, nor to be
    downloaded, and `JarRefused` where a download has another hash than the pinned one.
    """
    cache = cache or cache_directory()
    jars = pinned_jars() if pins is None else pins
    folder = cache / f"kafka-{KAFKA_VERSION}"
    with cache_lock(cache, "jars"):
        folder.mkdir(exist_ok=True)
        wanted = [jar for jar in jars if not jar.is_at(folder / jar.name)]
        for archive in cache.glob("classes-*.archive") if wanted else ():
            archive.unlink()  # the JVM would never take it again: it knows the jars by their dates
        missing = [jar for jar in wanted if not _take_from_maven(jar, folder)]
        if missing:
            _download(missing, folder, fetch or _fetch_with_jgo)
    return [folder / jar.name for jar in jars]


def _take_from_maven(jar: Jar, folder: Path) -> bool:
    source = Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository") / jar.maven_path
    if not jar.is_at(source):
        return False
    _install(source, folder / jar.name)
    return True


def _install(source: Path, target: Path) -> None:
    """Copies by way of a rename, so that a jar under its final name is always whole."""
    part = target.with_suffix(".part")
    shutil.copyfile(source, part)
    part.replace(target)


def _download(jars: Sequence[Jar], folder: Path, fetch: Fetch) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("Apache Kafka " + KAFKA_VERSION), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as scratch,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ThreadPoolExecutor(DOWNLOADS_MAX) as pool,
    ):
        bar = progress.add_task("", total=sum(jar.bytes for jar in jars))

        def one(jar: Jar) -> None:
            _fetch_verified(jar, folder, Path(scratch), fetch, lambda count: progress.advance(bar, count))

        for _ in pool.map(one, jars):
            pass


def _fetch_verified(jar: Jar, folder: Path, scratch: Path, fetch: Fetch, advance: Callable[[int], None]) -> None:
    got = ""
    for attempt in range(ATTEMPTS_MAX):
        try:
            arrived = fetch(jar, scratch / f"{jar.name}-{attempt}", advance)
        except Exception as error:
            raise JarsUnavailable(
                f"{jar.name} is not in the cache {folder} and could not be downloaded ({_first_line(error)}). "
                "Next: connect this machine to the network for one start (behind a proxy with a certificate of its own, "
                "set REQUESTS_CA_BUNDLE), or copy the folder from a machine where it worked and set MILLSTREAM_CACHE "
                "to its parent."
            ) from error
        if jar.is_at(arrived):
            _install(arrived, folder / jar.name)
            return
        got = f"{arrived.stat().st_size} bytes, SHA-256 {_sha256(arrived)}"
    raise JarRefused(
        f"{jar.name}: expected {jar.bytes} bytes, SHA-256 {jar.sha256}; {ATTEMPTS_MAX} downloads gave {got}. "
        "It was not installed. Next: check the mirror or proxy this machine downloads Maven artifacts from."
    )


def _fetch_with_jgo(jar: Jar, scratch: Path, advance: Callable[[int], None]) -> Path:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise JarsUnavailable("the package jgo is missing; `pip install 'millstream[broker]'` brings it") from error

    @contextlib.contextmanager
    def tell(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    context: Any = MavenContext(
        resolver=PythonResolver(progress_callback=tell), repo_cache=scratch, local_repos=[], timeout=READ_TIMEOUT_S
    )
    group, artifact, version = jar.coordinate.split(":")
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:400]
