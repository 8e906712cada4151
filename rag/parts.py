"""Finds a part by its kind and its file's name: `part_named("splitter", "recursive", {"chars_max": 500})`.

There is no registry: `rag/splitters/recursive.py` defines the class `Recursive` (or `RecursiveSplitter`), whose keyword
arguments are its options in YAML. A name with a dot is a module of yours, looked up in the same way:
`part_named("splitter", "ours.splitters.legal")`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any, Final

from .errors import PartError

FOLDERS: Final[Mapping[str, str]] = {
    "parser": "parsers",
    "splitter": "splitters",
    "embedder": "embedders",
    "reranker": "rerankers",
    "rewriter": "rewriters",
    "llm": "llms",
    "index": "indexes",
    "ranking": "rankings",
    "judge": "judges",
}


def part_names(kind: str) -> list[str]:
    """The names of the parts that ship with Millstream."""
    package = importlib.import_module(f"{__package__}.{_folder(kind)}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def part_named(kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """A new part. Raises PartError naming the part or the option, with the closest right word."""
    made = part_class(kind, name)
    known = inspect.signature(made).parameters
    for option in options or {}:
        if option not in known:
            raise PartError(f"{kind} {name!r}: no option {option!r}{_closest(option, list(known))}")
    try:
        return made(**(options or {}))
    except (TypeError, ValueError) as error:
        raise PartError(f"{kind} {name!r}: {error}") from error


def part_class(kind: str, name: str) -> Any:
    """The class that a part's file defines under the file's name."""
    module = _module(kind, name)
    flat = name.rpartition(".")[2].replace("_", "").lower()
    for found in vars(module).values():
        if inspect.isclass(found) and found.__module__ == module.__name__ and _names(found, kind, flat):
            return found
    raise PartError(f"{kind} {name!r}: {module.__name__} defines no class {flat.capitalize()!r}")


def _names(found: type, kind: str, flat: str) -> bool:
    return found.__name__.lower() in {flat, flat + kind}


def _module(kind: str, name: str) -> Any:
    if "." in name:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise PartError(f"{kind} {name!r}: {error}") from error
    names = part_names(kind)
    if name not in names:
        raise PartError(f"no {kind} {name!r}{_closest(name, names)}")
    return importlib.import_module(f"{__package__}.{_folder(kind)}.{name}")


def _folder(kind: str) -> str:
    if kind not in FOLDERS:
        raise PartError(f"no kind of part {kind!r}{_closest(kind, list(FOLDERS))}")
    return FOLDERS[kind]


def _closest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(words) or 'none'}"


def extra(module: str, package_extra: str = "rag") -> Any:
    """An optional package's module. Raises PartError saying how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PartError(
            f"{module} is not installed ({error}); run: pip install 'millstream[{package_extra}]'"
        ) from error
