"""Speech by an endpoint that transcribes: what is asked, what is made of the reply, and what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millstream.rag.errors import ParseError, ParseLimitError, PartError
from millstream.rag.parse_job import ParseJob, Part
from millstream.rag.parse_pool import ParsePool
from millstream.rag.parser import Limits, Parsed
from millstream.rag.parts import part_named
from millstream.rag.places import places
from tests.rag.transcriber import HEARD, recording, transcribing

SOUND = recording()


def heard(url: str, **options: object) -> Parsed:
    return part_named("parser", "audio", {"url": url, "pause_ms": 0} | options).parse(SOUND, "audio/wav", Limits())


def test_a_chunk_knows_its_second() -> None:
    with transcribing() as server:
        found = heard(server.url)
    pieces = part_named("splitter", "recursive", {"chars_max": 20}).split(found.text)
    assert [piece.text for piece in pieces] == ["Hello there.", "How are you?"]
    assert places(found.marks, pieces) == [{"second": 0}, {"second": 2}]
    assert found.metadata == {"language": "english", "seconds": 6.0}


def test_what_is_asked(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    with transcribing() as server:
        heard(server.url, model="large", language="de", key_file=str(tmp_path / "key"))
    assert server.asked == [
        {
            "key": "Bearer secret",
            "model": "large",
            "language": "de",
            "response_format": "verbose_json",
            "file": ("audio.wav", SOUND),
        }
    ]


def test_text_alone_is_enough() -> None:
    with transcribing((200, {"text": "Just text."}, {})) as server:
        assert heard(server.url) == Parsed("Just text.", {}, ())


def test_it_asks_again_where_that_may_help() -> None:
    with transcribing((503, {}, {}), (429, {}, {"retry-after": "0"})) as server:
        assert heard(server.url, attempts_max=3).text == HEARD["text"]
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        ((401, {"error": {"message": "bad key"}}, {}), ParseError, "refuses the recording: 401.*bad key"),
        ((500, {}, {}), ParseLimitError, "no transcription after 1 tries: 500"),
        ((200, b"no json", {}), ParseError, "not JSON"),
        ((200, [], {}), ParseError, "no object"),
        ((200, {"text": " "}, {}), ParseError, "no speech"),
        ((200, {"segments": [{"start": 1}]}, {}), ParseError, "a segment without text"),
        ((200, {"segments": [{"text": "x" * 11_000_000}]}, {}), ParseLimitError, "text_chars_max"),
        ((200, HEARD, {"content-length": "9999"}), ParseLimitError, "no transcription after 1 tries"),
    ],
)
def test_what_goes_wrong_is_told(reply: tuple[int, Any, dict[str, str]], error: type, reason: str) -> None:
    with transcribing(reply) as server, pytest.raises(error, match=reason):
        heard(server.url, attempts_max=1, timeout_ms=1_000)


def test_an_endpoint_that_is_not_there() -> None:
    with pytest.raises(ParseLimitError, match="ConnectError"):
        heard("http://127.0.0.1:9/v1")


def test_what_is_no_recording_is_not_sent() -> None:
    with transcribing() as server, pytest.raises(ParseError, match="not a recording"):
        part_named("parser", "audio", {"url": server.url}).parse(b"just text", "", Limits())
    assert server.asked == []


def test_an_endpoint_must_be_named() -> None:
    with pytest.raises(PartError, match="needs an endpoint"):
        heard("")
    with pytest.raises(PartError, match="the key cannot be read"):
        heard("http://127.0.0.1:9/v1", key_file="no such file")


def test_a_key_s_file_is_in_no_repr() -> None:
    assert "secret" not in repr(part_named("parser", "audio", {"key_file": "secret"}))


async def test_it_works_in_a_parsing_process() -> None:
    pool = ParsePool()
    with transcribing() as server:
        part = Part("audio", {"url": server.url})
        pieces = await pool.parse(ParseJob(SOUND, "audio/wav", part, Part("recursive")))
    assert (pieces.chunks, pieces.places) == (["Hello there. How are you?"], [{"second": 0, "second_end": 2}])
    await pool.close()
