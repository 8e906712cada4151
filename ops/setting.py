"""How one setting is declared and read: its default, its help, and the function that takes text and gives the value."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from ..topics.duration import duration_ms
from ..topics.errors import ConfigurationError

CLOSE: Final = 0.5
"""How alike two words must be (difflib's ratio): "om" is half "on"."""

Read = Callable[[object], Any]
"""Gives the value; raises ValueError with what was expected."""


def setting(default: Any, read: Read, help_text: str, *, secret: bool = False) -> Any:
    """A field of a settings dataclass. Secrets stay out of its repr."""
    metadata: Mapping[str, Any] = {"read": read, "help": help_text, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


def text(value: object) -> str:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("a text that is not empty")
    return str(value)


def servers(value: object) -> str:
    """`host:port`, several with commas, or a list of them."""
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple):
        raise ValueError("'host:port', or several with commas")
    parts = [str(part).strip() for part in listed]
    for part in parts:
        host, colon, port = part.rpartition(":")
        if not (colon and host and port.isdecimal() and int(port) < 65536):
            raise ValueError(f"'host:port', or several with commas ({part!r} is none)")
    return ",".join(parts)


def path(value: object) -> Path:
    return Path(text(value))


def flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(str(value).lower())
    if known is None:
        raise ValueError("true or false")
    return known


def whole(low: int, high: int | None = None) -> Read:
    """A whole number within bounds, both inclusive."""
    bounds = f"a whole number from {low}" + (f" to {high}" if high is not None else " up")

    def read(value: object) -> int:
        usable = (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, str) and value.strip().lstrip("-").isdecimal()
        )
        number = int(str(value)) if usable else low - 1
        if number < low or (high is not None and number > high):
            raise ValueError(bounds)
        return number

    return read


def milliseconds(value: object) -> int:
    """A duration that is not negative."""
    digits = isinstance(value, str) and value.strip().isdecimal()
    try:
        result = duration_ms(int(str(value)) if digits else value)  # type: ignore[arg-type]
    except ConfigurationError:
        raise ValueError("a duration such as '500ms' or '10s'") from None
    if result < 0:
        raise ValueError("a duration that is not negative")
    return result


def one_of(*options: str) -> Read:
    def read(value: object) -> str:
        if value not in options:
            raise ValueError(f"one of {', '.join(options)}")
        return str(value)

    return read


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """`; did you mean 'x'?`, or what to say where nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=CLOSE)
    return f"; did you mean {close[0]!r}?" if close else otherwise
