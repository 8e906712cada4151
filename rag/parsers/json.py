"""JSON and JSON lines: every value on a line with the names that lead to it (`price.eur: 40`), record by record.

A record is an element of the outermost list, of a list of objects directly under the outermost object, or a line of JSON lines;
what is left of the outermost object is one more. What it does not do: repeat names that JSON allows twice (the last wins).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from ..blocks import Blocks
from ..errors import ParseError, ParseLimitError
from ..parser import Limits, Parsed
from .text import decoded

_PATH_CHARS_MAX: Final = 300


class Json:
    """A chunk's place: `path`, where its record stands (`$.items[3]`)."""

    def fingerprint(self) -> str:
        return "json/1"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError for what is not JSON; ParseLimitError: nested deeper than `depth_max`, too much text."""
        text = decoded(content, content_type, limits).strip()
        blocks = Blocks(limits)
        for path, record in _records(_loaded(text, limits)):
            blocks.mark("path", path[:_PATH_CHARS_MAX])
            joint = "\n\n"
            for line in _lines(record, limits):
                blocks.add(line, joint)
                joint = "\n"
        return blocks.parsed({})


def _loaded(text: str, limits: Limits) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error) or "recursion" in str(error).lower():  # whichever version of orjson it is
            raise ParseLimitError(f"JSON values are nested deeper than {limits.depth_max} (depth_max)") from None
        lines = _json_lines(text)
        if lines is None:
            raise ParseError(f"not JSON: {error}") from None
        return lines


def _json_lines(text: str) -> list[Any] | None:
    """One value a line, more than one; None where that is not so."""
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        return [orjson.loads(line) for line in lines] if len(lines) > 1 else None
    except orjson.JSONDecodeError:
        return None


def _records(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        yield from ((f"$[{number}]", one) for number, one in enumerate(value))
        return
    if not isinstance(value, dict):
        yield "$", value
        return
    lists = {
        name: one for name, one in value.items() if isinstance(one, list) and any(isinstance(x, dict) for x in one)
    }
    yield "$", {name: one for name, one in value.items() if name not in lists}
    for name, elements in lists.items():
        yield from ((f"$.{name}[{number}]", one) for number, one in enumerate(elements))


def _lines(record: Any, limits: Limits) -> Iterator[str]:
    """Values in their order, each after its names. A stack and no recursion: depth is a limit, not a crash."""
    stack: list[tuple[str, Any, int]] = [("", record, 2)]
    while stack:
        name, value, depth = stack.pop()
        limits.check_depth(depth, "JSON values")
        if isinstance(value, dict):
            inner = [(f"{name}.{key}"[-_PATH_CHARS_MAX:].lstrip("."), one, depth + 1) for key, one in value.items()]
            stack += reversed(inner)
        elif isinstance(value, list):
            stack += [(name, one, depth + 1) for one in reversed(value)]
        elif value is not None and value != "":
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            yield f"{name}: {text}" if name else text
