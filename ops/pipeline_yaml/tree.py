"""YAML as a tree that knows its lines.

PyYAML composes the nodes; nothing is constructed from them, so that no tag can make an object, and `on`, `no` or `1e3`
stay the text they were written as until a reader wants a flag or a number. Anchors, aliases and tags are refused (with them
goes the "billion laughs"), as are duplicate keys, deep nesting and large files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from ..errors import PipelineFileError
from ..setting import did_you_mean

FILE_BYTES_MAX: Final = 256 * 1024
DEPTH_MAX: Final = 16
NODES_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands."""

    file: str
    line: int

    def fail(self, text: str) -> NoReturn:
        """Raises PipelineFileError with file and line before the text."""
        raise PipelineFileError(f"{self.file}:{self.line}: {text}")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A text, as it was written; `null` where nothing or `~` stands."""

    place: Place
    text: str
    null: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and what is behind it; `place` is the key's."""

    key: str
    place: Place
    value: Tree


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys in their order, each once."""

    place: Place
    entries: tuple[Entry, ...]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def get(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)

    def need(self, key: str, what: str) -> Entry:
        """Raises PipelineFileError where the key is missing."""
        return self.get(key) or self.place.fail(f"{what} needs {key!r}")

    def check_keys(self, known: Sequence[str], what: str) -> None:
        """Raises PipelineFileError at the first key that is not known, with the closest that is."""
        for entry in self:
            if entry.key not in known:
                hint = did_you_mean(entry.key, known, otherwise=f"; keys are {', '.join(known)}")
                entry.place.fail(f"{entry.key!r} is not a key of {what}{hint}")


Tree = Leaf | Items | Mapping


def kind_of(tree: Tree) -> str:
    """In the words of an error."""
    if isinstance(tree, Leaf):
        return "nothing" if tree.null else repr(tree.text)
    return "a list" if isinstance(tree, Items) else "a mapping"


def read_tree(file: Path) -> Mapping:
    """Raises PipelineFileError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        Place(str(file), 1).fail(f"cannot be read: {error.strerror}")
    try:
        return tree_of(content.decode("utf-8"), str(file))
    except UnicodeDecodeError as error:
        Place(str(file), content[: error.start].count(b"\n") + 1).fail("is not UTF-8 text")


def tree_of(text: str, file: str = "pipeline.yaml") -> Mapping:
    """The tree of a text. Raises PipelineFileError."""
    start = Place(file, 1)
    if len(text) > FILE_BYTES_MAX:
        start.fail(f"is larger than {FILE_BYTES_MAX // 1024} KiB; a pipeline is written by hand")
    try:
        _check_events(text, file)
        composed = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        Place(file, mark.line + 1 if mark else 1).fail(f"is not YAML: {error.problem or error}")
    except yaml.YAMLError as error:
        start.fail(f"is not YAML: {' '.join(str(error).split())}")
    if composed is None:
        start.fail("is empty; a pipeline begins with 'app: <name>'")
    tree = _tree(composed, file)
    return tree if isinstance(tree, Mapping) else start.fail(f"must be a mapping of keys, got {kind_of(tree)}")


def _check_events(text: str, file: str) -> None:
    """What PyYAML would follow without limit; its parser keeps a stack of its own, so that depth costs nothing here."""
    depth = nodes = 0
    events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
    for event in events:
        place = Place(file, event.start_mark.line + 1)
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            place.fail(f"anchors and aliases (&{event.anchor}, *{event.anchor}) are not taken; write it out")
        if getattr(event, "tag", None):
            place.fail(f"tags ({event.tag}) are not taken")
        if depth > DEPTH_MAX:
            place.fail(f"is nested deeper than {DEPTH_MAX} levels")
        if nodes > NODES_MAX:
            place.fail(f"has more than {NODES_MAX} values")


def _tree(node: Any, file: str) -> Tree:
    place = Place(file, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return Leaf(place, node.value, null=node.tag == "tag:yaml.org,2002:null")
    if isinstance(node, yaml.SequenceNode):
        return Items(place, tuple(_tree(one, file) for one in node.value))
    return Mapping(place, _entries(node, file))


def _entries(node: Any, file: str) -> tuple[Entry, ...]:
    entries: dict[str, Entry] = {}
    for key, value in node.value:
        place = Place(file, key.start_mark.line + 1)
        if not isinstance(key, yaml.ScalarNode):
            place.fail("a key must be a word")
        before = entries.get(key.value)
        if before is not None:
            place.fail(f"{key.value!r} stands here twice, first on line {before.place.line}")
        entries[key.value] = Entry(key.value, place, _tree(value, file))
    return tuple(entries.values())


Reader = Callable[[Entry], Any]
"""Takes a key's value out of the tree. Raises PipelineFileError."""
