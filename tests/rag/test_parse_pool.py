"""A document may break its parser; it may not break the worker, nor the document after it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from millstream.rag.errors import ParseError, ParseLimitError
from millstream.rag.parse_job import ParseJob, Part
from millstream.rag.parse_pool import ParsePool, ParseSettings
from millstream.rag.parser import Limits

BAD = Part("tests.rag.parsers_of_tests")
RECURSIVE = Part("recursive")


def job(content: bytes, limits: Limits | None = None, parser: Part = BAD) -> ParseJob:
    return ParseJob(content, "text/plain", parser, RECURSIVE, limits or Limits())


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", os.getcwd())  # so that the process finds the parser of these tests
    pool = ParsePool(ParseSettings(processes_max=1, timeout_ms=20_000, memory_bytes_max=256 << 20))
    yield pool
    await pool.close()


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (b"memory", ParseLimitError, "bytes of memory"),
        (b"die", ParseError, "process died (signal 9"),
        (b"raise", ParseError, "ZeroDivisionError: by zero"),
    ],
)
async def test_the_next_document_is_parsed_all_the_same(pool: ParsePool, content: bytes, error: type, reason: str):
    assert (await pool.parse(job(b"before"))).chunks == ["before"]
    with pytest.raises(error) as caught:
        await pool.parse(job(content))
    assert reason in str(caught.value)
    assert (await pool.parse(job(b"after"))).chunks == ["after"]


async def test_a_parser_that_never_ends_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    pool = ParsePool(ParseSettings(processes_max=1, timeout_ms=2_000))
    with pytest.raises(ParseLimitError, match="longer than 2000 ms"):
        await pool.parse(job(b"loop"))
    assert pool.started == 1
    await pool.close()


async def test_what_a_parser_prints_is_not_taken_for_its_reply(pool: ParsePool) -> None:
    assert (await pool.parse(job(b"print"))).chunks == ["print"]


async def test_a_parsing_process_knows_none_of_our_secrets(pool: ParsePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert "OPENAI_API_KEY" not in (await pool.parse(job(b"environment"))).chunks[0]


async def test_a_cancelled_document_takes_its_process_with_it(pool: ParsePool) -> None:
    """Its reply would be read as that of the next document."""
    task = asyncio.create_task(pool.parse(job(b"loop")))
    while pool.started == 0:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await pool.parse(job(b"after"))).chunks == ["after"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(content_bytes_max=3), "content_bytes_max"),
        (Limits(text_chars_max=3), "text_chars_max"),
        (Limits(chunks_max=1), "chunks_max"),
    ],
)
async def test_a_document_beyond_a_limit_is_told_which(pool: ParsePool, limits: Limits, reason: str) -> None:
    with pytest.raises(ParseLimitError, match=reason):
        await pool.parse(job(b"words " * 400, limits))


async def test_an_unknown_parser_is_the_document_s_error(pool: ParsePool) -> None:
    with pytest.raises(ParseError, match="did you mean 'markdown'"):
        await pool.parse(job(b"x", parser=Part("markdwn")))


async def test_processes_are_used_again(pool: ParsePool) -> None:
    for number in range(5):
        assert (await pool.parse(job(b"n%d" % number))).chunks == [f"n{number}"]
    assert pool.started == 1


async def test_a_process_is_replaced_after_its_share_of_documents() -> None:
    pool = ParsePool(ParseSettings(processes_max=1, jobs_per_process_max=2))
    for _ in range(4):
        await pool.parse(ParseJob(b"x", "text/plain", Part("text"), RECURSIVE))
    assert pool.started == 2
    await pool.close()


def test_an_event_loop_may_be_closed_as_soon_as_the_pool_is() -> None:
    """Nothing of a process is left to asyncio, whether it was idle or killed at its work."""

    async def parsed() -> list[Any]:
        pool = ParsePool(ParseSettings(processes_max=1))
        await pool.parse(job(b"A lamp.", parser=Part("text")))
        transports = [worker.process._transport for worker in pool._idle]  # type: ignore[attr-defined]
        await pool.close()
        return [transport._closed for transport in transports]

    assert asyncio.run(parsed()) == [True]
