"""Speech, by an endpoint that transcribes: `POST {url}/audio/transcriptions` as OpenAI has it, and many servers that run here
(vLLM, faster-whisper-server, LocalAI, whisper.cpp behind a proxy).

The sound goes to that endpoint as it is: whoever runs it hears it. Asked for are segments (`verbose_json`), so that a chunk
knows the second it begins at; an endpoint that gives none gives text alone. The parsing process has no environment, so a key
is read from a file. Tried again, with growing pauses or as `Retry-After` says: 408, 429, 5xx, no connection.

What it does not do: tell speakers apart, cut long recordings into shorter ones (`content_bytes_max` is the limit).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from ..blocks import Blocks
from ..errors import ParseError, ParseLimitError, PartError
from ..http_retry import Attempts, retry_after_ms
from ..parser import Limits, Parsed
from ..parts import extra

_REPLY_BYTES_MAX: Final = 64 << 20
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_REASON_CHARS_MAX: Final = 300
_KINDS: Final = (
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (0, b"\xff\xf3", "mp3"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"\x1aE\xdf\xa3", "webm"),
    (4, b"ftyp", "m4a"),
    (8, b"WAVE", "wav"),
)


@dataclass(frozen=True, slots=True)
class Audio:
    """`url`: as in http://127.0.0.1:8000/v1. `key_file`: a file with the key. A chunk's place: `second`, with `second_end`.

    The metadata has `language` and `seconds`, as the endpoint says. Raises PartError where there is no url.
    """

    url: str = ""
    model: str = "whisper-1"
    key_file: str = field(default="", repr=False)
    language: str = ""
    """ISO 639-1, where it is known; else the endpoint guesses."""
    timeout_ms: int = 50_000
    """For one try. `timeout_ms` of the parsing process is for all of them."""
    attempts_max: int = 2
    pause_ms: int = 500

    def __post_init__(self) -> None:
        if self.timeout_ms < 1:
            raise ValueError(f"timeout_ms must be at least 1, got {self.timeout_ms}")
        Attempts(self.attempts_max, self.pause_ms)

    def fingerprint(self) -> str:
        return f"audio/1 {self.url} {self.model} {self.language}"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError: no sound, refused, no usable reply; ParseLimitError: no answer in time, too much text."""
        limits.check_bytes(content)
        if not self.url:
            raise PartError("parser 'audio' needs an endpoint, as in parsers: {audio/mpeg: {audio: {url: ...}}}")
        reply = self._transcribed(content, f"audio.{kind_of(content)}")
        blocks = Blocks(limits)
        segments = reply.get("segments")
        for segment in segments if isinstance(segments, list) else ():
            _add_segment(blocks, segment)
        if not blocks.chars:
            blocks.add(str(reply.get("text") or ""))
        if not blocks.chars:
            raise ParseError("no speech was heard in the recording")
        said = {"language": reply.get("language"), "seconds": reply.get("duration")}
        return blocks.parsed({name: value for name, value in said.items() if isinstance(value, str | int | float)})

    def _transcribed(self, content: bytes, name: str) -> dict[str, Any]:
        why = ""
        for pause_ms in Attempts(self.attempts_max, self.pause_ms).pauses_ms():
            status, wait_ms, body = self._posted(content, name)
            if status == 200:
                return _object(body)
            why = f"{status}: {body.decode('utf-8', 'replace')[:_REASON_CHARS_MAX]}" if status else body.decode()
            if status and status not in _RETRIED:
                raise ParseError(f"the transcription endpoint refuses the recording: {why}")
            if pause_ms is not None:
                time.sleep(min(max(pause_ms, wait_ms or 0), self.timeout_ms) / 1000)
        raise ParseLimitError(f"no transcription after {self.attempts_max} tries: {why}")

    def _posted(self, content: bytes, name: str) -> tuple[int, int | None, bytes]:
        """Status, the pause asked for, body; status 0 where no answer came."""
        httpx = extra("httpx2")
        fields = {"model": self.model, "response_format": "verbose_json", "language": self.language}
        try:
            with (
                httpx.Client(timeout=self.timeout_ms / 1000, trust_env=False) as client,
                client.stream(
                    "POST",
                    f"{self.url.rstrip('/')}/audio/transcriptions",
                    headers=self._headers(),
                    data={name: value for name, value in fields.items() if value},
                    files={"file": (name, content, "application/octet-stream")},
                ) as response,
            ):
                return response.status_code, retry_after_ms(response.headers), _limited(response)
        except httpx.HTTPError as error:
            return 0, None, f"{type(error).__name__}: {error}"[:_REASON_CHARS_MAX].encode()

    def _headers(self) -> Mapping[str, str]:
        if not self.key_file:
            return {}
        try:
            return {"authorization": f"Bearer {Path(self.key_file).read_text().strip()}"}
        except OSError as error:
            raise PartError(f"parser 'audio': the key cannot be read: {error}") from None


def kind_of(content: bytes) -> str:
    """The ending that says what the sound is, as endpoints want it. Raises ParseError."""
    for offset, mark, ending in _KINDS:
        if content[offset : offset + len(mark)] == mark:
            return ending
    raise ParseError("not a recording of a known kind (mp3, wav, m4a, ogg, flac, webm)")


def _add_segment(blocks: Blocks, segment: object) -> None:
    if not isinstance(segment, dict) or not isinstance(segment.get("text"), str):
        raise ParseError("the transcription endpoint's reply has a segment without text")
    start = segment.get("start")
    if isinstance(start, int | float) and 0 <= start < 1e9:
        blocks.mark("second", int(start))
    blocks.add(segment["text"], " ")


def _limited(response: Any) -> bytes:
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > _REPLY_BYTES_MAX:
            raise ParseLimitError(f"the transcription has more than {_REPLY_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ParseError(f"the transcription endpoint's reply is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ParseError(f"the transcription endpoint's reply is no object: {body[:100]!r}")
    return found
