"""A hostile document costs itself a reason, within the limits of the parsing processes; the next one is read all the same."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from millstream.rag.errors import ParseError
from millstream.rag.parse_job import ParseJob, Part
from millstream.rag.parse_pool import ParsePool, ParseSettings
from millstream.rag.parts import part_names
from tests.rag.hostile import HOSTILE, Hostile

SPLITTER = Part("recursive")
NOT_FILES = {"audio"}
"""Read elsewhere, by an endpoint: see tests/rag/test_audio.py."""


@pytest.fixture
async def pool() -> AsyncIterator[ParsePool]:
    pool = ParsePool(ParseSettings(processes_max=1, timeout_ms=60_000, memory_bytes_max=512 << 20))
    yield pool
    await pool.close()


@pytest.mark.parametrize("one", HOSTILE, ids=lambda one: f"{one.parser}-{one.name}")
async def test_it_is_refused_with_a_reason_and_the_rest_goes_on(pool: ParsePool, one: Hostile) -> None:
    with pytest.raises(ParseError) as caught:
        await pool.parse(ParseJob(one.make(), "", Part(one.parser), SPLITTER))
    assert re.search(one.reason, str(caught.value)), str(caught.value)
    assert len(str(caught.value)) < 1_000
    assert (await pool.parse(ParseJob(b"Fine.", "", Part("text"), SPLITTER))).chunks == ["Fine."]
    assert pool.started <= 1, "it was refused, not killed"


def test_no_parser_is_forgotten() -> None:
    assert {one.parser for one in HOSTILE} == set(part_names("parser")) - NOT_FILES
