"""One part, one file, named as in YAML: there is no registry to edit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.shape.tree import LAYERS, files, parse, short

# Folders of parts, and what a part's name may end in beside the file's name: `codecs/json.py` defines JsonCodec or Json.
KINDS = {
    "operators": ("", "operator", "step"),
    "windows": ("", "window", "windows"),
    "reducers": ("", "reducer"),
    "codecs": ("", "codec"),
    "parsers": ("", "parser"),
    "splitters": ("", "splitter"),
    "embedders": ("", "embedder"),
    "rerankers": ("", "reranker"),
    "llms": ("", "llm"),
    "indexes": ("", "index"),
    "rankings": ("", "ranking"),
    "sources": ("", "source"),
    "sinks": ("", "sink"),
}

_PARTS = [
    path
    for path in files(*LAYERS, suffix=".py")
    if path.parent.name in KINDS and path.parent.parent.name in LAYERS and not path.name.startswith("_")
]


def _flat(name: str) -> str:
    return name.replace("_", "").lower()


def _public(tree: ast.Module) -> list[str]:
    """Classes and functions defined here under a public name."""
    defined = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return [node.name for node in tree.body if isinstance(node, defined) and not node.name.startswith("_")]


@pytest.mark.parametrize("path", _PARTS, ids=short)
def test_a_file_of_parts_defines_a_part_named_as_the_file(path: Path) -> None:
    """Under a public name, so that `codec: json` in YAML leads a reader to `codecs/json.py` and to nothing else."""
    named = {_flat(path.stem) + ending for ending in KINDS[path.parent.name]}
    parts = [name for name in _public(parse(path)) if _flat(name) in named]
    assert parts != [], f"{short(path)} defines {_public(parse(path))}, and none is called as the file: {sorted(named)}"
