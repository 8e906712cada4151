"""Reads the fields of one JSON message strictly: the type must be right, and an error names the field and the value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson

from .errors import MessageError

T = TypeVar("T")

_NAMES: Mapping[object, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "string",
    list: "array",
    dict: "object",
}


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object these bytes are. Raises MessageError naming `what`."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MessageError(f"{what}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise MessageError(f"{what}: expected object, got {_NAMES.get(type(value), 'value')} - at $")
    return value


class Fields:
    """One message's fields. Unknown ones are left alone, so that producers may be newer than we are."""

    def __init__(self, values: Mapping[str, Any], what: str) -> None:
        self._values = values
        self._what = what

    def wrong(self, name: str, expected: str) -> MessageError:
        value = self._values.get(name)
        got = repr(value)
        return MessageError(
            f"{self._what}: expected {expected}, got {got[:57] + '...' if len(got) > 60 else got} - at $.{name}"
        )

    def required_text(self, name: str) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "text that is not blank")
        return value

    def text(self, name: str) -> str | None:
        return self._optional(name, str, "string")

    def flag(self, name: str, default: bool) -> bool:
        value = self._optional(name, bool, "bool")
        return default if value is None else value

    def whole(self, name: str, default: int, smallest: int, largest: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
            raise self.wrong(name, f"int from {smallest} to {largest}")
        return value

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, "number")
        return float(value)

    def text_or_whole(self, name: str) -> str | int | None:
        value = self._values.get(name)
        if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            return value
        raise self.wrong(name, "string or int")

    def text_or_texts(self, name: str) -> str | dict[str, str] | None:
        """A string, or an object of strings that is not empty."""
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, dict) or not value or not all(isinstance(text, str) for text in value.values()):
            raise self.wrong(name, "string or an object of strings")
        return value

    def object(self, name: str) -> dict[str, Any]:
        return self._optional(name, dict, "object") or {}

    def array(self, name: str) -> list[Any]:
        return self._optional(name, list, "array") or []

    def one_of(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self._values.get(name)
        if value is None:
            return default
        if value not in allowed:
            raise self.wrong(name, "one of " + ", ".join(allowed))
        return str(value)

    def _optional(self, name: str, kind: type[T], expected: str) -> T | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(name, expected)
        return value
