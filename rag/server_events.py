"""Server-sent events, from bytes cut anywhere to the data of each event (WHATWG HTML, 9.2.6). Knows no socket.

Lines end in CR, LF or both; an event ends with an empty line; `data` lines are joined by LF; comments and all other fields are
passed over, since model endpoints say everything in their data. An event that its empty line never came for is none.
"""

from __future__ import annotations

import codecs
import re

from .errors import ModelError

EVENT_CHARS_MAX = 1 << 20

_LINE = re.compile(r"\r\n|\n|\r(?!$)")
"""A CR that stands last may be half of a CR LF."""


class ServerEvents:
    """`feed` it what comes; it gives the data of the events that are whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[str]:
        """Raises ModelError for an event without an end."""
        *lines, self._rest = _LINE.split(self._rest + self._decoder.decode(chunk))
        found = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + len(self._rest) > EVENT_CHARS_MAX:
            raise ModelError(f"the endpoint sends an event of more than {EVENT_CHARS_MAX} characters")
        return found

    def _line(self, line: str) -> str | None:
        if not line:
            data, self._data, self._size = self._data, [], 0
            return "\n".join(data) if data else None
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
            self._size += len(value)
        return None
