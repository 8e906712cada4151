"""The repository as the shape tests see it: its files, without what is generated, downloaded or started here."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("native", "topics", "state", "workers", "rag", "ops")
BESIDE = ("tests", "benchmarks", "examples", "scripts")

_NOT_OURS = {"build", "dist", "__pycache__", "node_modules"}


def files(*folders: str, suffix: str = "") -> list[Path]:
    """Files below the folders (none given: the whole repository), sorted."""
    tops = [ROOT / folder for folder in folders] or [ROOT]
    return sorted(path for top in tops for path in _walk(top) if path.name.endswith(suffix))


def package() -> list[Path]:
    """The Python files that end up in the wheel."""
    return [ROOT / "__init__.py", *files(*LAYERS, suffix=".py")]


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    """`topics/kafka/__init__.py` is `millstream.topics.kafka`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("millstream", *(part for part in parts if part != "__init__")))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@dataclass(frozen=True, slots=True)
class Function:
    place: str
    lines: int
    """From `def` to its end, without the docstring: documentation is never what makes a function long."""


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(f"{short(path)}:{node.name}", _lines(node) - _docstring_lines(node))


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return _lines(node.body[0]) if ast.get_docstring(node) is not None else 0


def _walk(top: Path) -> Iterator[Path]:
    for folder, names, here in os.walk(top):
        names[:] = [name for name in names if name not in _NOT_OURS and not _is_generated(name)]
        yield from (Path(folder, name) for name in here if not name.endswith(".pyc"))


def _is_generated(name: str) -> bool:
    return name.endswith(".egg-info") or (name.startswith(".") and name != ".ci")
