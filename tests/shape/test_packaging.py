"""What is installed: the wheel holds the package and nothing beside it; the lock holds what pyproject.toml asks for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.shape.tree import BESIDE, LAYERS, ROOT

_BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
_ROOT_FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "py.typed", "__init__.py")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in a folder whose name is no identifier, as a clone's may be."""
    checkout = tmp_path_factory.mktemp("checkout") / "clone-1"
    checkout.mkdir()
    for name in _ROOT_FILES:
        shutil.copy(ROOT / name, checkout)
    for folder in (*LAYERS, *BESIDE):
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> zipfile.ZipFile:
    out = checkout.parent / "out"
    out.mkdir()
    subprocess.run([sys.executable, "-c", _BUILD, str(out)], cwd=checkout, check=True, capture_output=True, timeout=120)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_is_the_package(wheel: zipfile.ZipFile, checkout: Path) -> None:
    """Every file of the layers, data files too, at its place below `millstream/`; no test, no benchmark, no example but the demo's."""
    held = sorted(name for name in wheel.namelist() if ".dist-info/" not in name)
    layers = [path for layer in LAYERS for path in (checkout / layer).rglob("*") if path.is_file()]
    shown = [path for path in (checkout / "examples/shop").rglob("*") if path.is_file()]
    ours = ["__init__.py", "py.typed", *(path.relative_to(checkout).as_posix() for path in (*layers, *shown))]
    assert held == sorted(f"millstream/{name}" for name in ours)


def test_the_wheel_can_be_imported(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Unpacked on its own, with the checkout out of reach."""
    wheel.extractall(tmp_path)
    script = "import millstream, millstream.topics, millstream.ops; print(millstream.__file__)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(tmp_path / "millstream" / "__init__.py")


def _locked() -> dict[str, list[str]]:
    """Name to its versions: some packages have one version for an older Python and one for a newer."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text()):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


def _asked() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    return [
        Requirement(line)
        for line in (*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"])
    ]


def test_the_lock_holds_what_is_asked_for() -> None:
    """`make lock` was run since a dependency was added or raised."""
    locked = _locked()
    missing = [
        f"{asked} (locked: {locked.get(canonicalize_name(asked.name), 'not at all')})"
        for asked in _asked()
        if not any(asked.specifier.contains(version) for version in locked.get(canonicalize_name(asked.name), []))
    ]
    assert missing == [], "run `make lock`"


def test_the_lock_is_checked_by_hash_and_names_no_host() -> None:
    entries = re.split(r"(?m)^(?=[\w.-]+==)", (ROOT / "requirements.lock").read_text())[1:]
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry or "://" in entry] == []
