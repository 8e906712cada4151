"""Takes texts, numbers, durations and lists out of the tree, or says at which line something else stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Mapping as AbstractMapping
from contextlib import contextmanager
from typing import Any, Final

from ...topics.duration import duration_ms
from ...topics.errors import TopicsError
from ...workers.errors import WorkersError
from ..setting import did_you_mean
from .tree import Entry, Items, Leaf, Mapping, Place, Reader, Tree, kind_of

_FLAGS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def mapping(entry: Entry, what: str) -> Mapping:
    if not isinstance(entry.value, Mapping):
        entry.value.place.fail(f"{entry.key!r}: expected {what}, got {kind_of(entry.value)}")
    return entry.value


def leaf_text(tree: Tree, name: str) -> str:
    if not isinstance(tree, Leaf) or tree.null or not tree.text:
        tree.place.fail(f"{name!r}: expected a text, got {kind_of(tree)}")
    return tree.text


def text(entry: Entry) -> str:
    return leaf_text(entry.value, entry.key)


def whole(entry: Entry) -> int:
    """A whole number from 1 up."""
    written = text(entry)
    if not written.isdecimal() or int(written) < 1:
        entry.value.place.fail(f"{entry.key!r}: expected a whole number from 1 up, got {written!r}")
    return int(written)


def flag(entry: Entry) -> bool:
    known = _FLAGS.get(text(entry).lower())
    return (
        known
        if known is not None
        else entry.value.place.fail(f"{entry.key!r}: expected true or false, got {text(entry)!r}")
    )


def duration(entry: Entry) -> int:
    """Milliseconds of `10s`; a bare number is milliseconds, as in Python."""
    written = text(entry)
    with placed(entry.value.place):
        return duration_ms(int(written) if written.lstrip("-").isdecimal() else written, name=repr(entry.key))


def duration_or_none(entry: Entry) -> int | None:
    """`none` or an empty value: for ever."""
    if isinstance(entry.value, Leaf) and (entry.value.null or entry.value.text == "none"):
        return None
    return duration(entry)


def names(entry: Entry) -> tuple[str, ...]:
    """One name, or a list of them."""
    if isinstance(entry.value, Items):
        found = tuple(leaf_text(one, entry.key) for one in entry.value.items)
        return found or entry.value.place.fail(f"{entry.key!r}: expected at least one name, got an empty list")
    if isinstance(entry.value, Leaf):
        return (text(entry),)
    return entry.value.place.fail(f"{entry.key!r}: expected a name or a list of names, got a mapping")


def texts_by_name(entry: Entry) -> dict[str, str]:
    return {one.key: text(one) for one in mapping(entry, "a mapping of names to texts")}


def one_of(*options: str) -> Reader:
    def read(entry: Entry) -> str:
        written = text(entry)
        if written not in options:
            hint = did_you_mean(written, options)
            entry.value.place.fail(f"{entry.key!r}: expected one of {', '.join(options)}, got {written!r}{hint}")
        return written

    return read


def value(tree: Tree) -> Any:
    """Whatever stands there as plain Python: texts, numbers, flags, lists and mappings (options of parts)."""
    if isinstance(tree, Mapping):
        return {entry.key: value(entry.value) for entry in tree}
    if isinstance(tree, Items):
        return [value(one) for one in tree.items]
    if tree.null:
        return None
    for read in (int, float):
        try:
            return read(tree.text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(tree.text, tree.text)


def read_entries(given: Mapping, readers: AbstractMapping[str, Reader], what: str) -> dict[str, Any]:
    """Each key by its reader. Raises PipelineFileError at a key that has none."""
    given.check_keys(list(readers), what)
    return {entry.key: readers[entry.key](entry) for entry in given}


@contextmanager
def placed(place: Place, rewrite: Callable[[str], str] = str) -> Iterator[None]:
    """Errors of the layers below get file and line before them."""
    try:
        yield
    except (TopicsError, WorkersError) as error:
        place.fail(rewrite(str(error)))
