"""A model in this process: tiny GGUF files that llama.cpp really runs, whose answers are known beforehand."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from millstream.rag.adaptive import log_odds
from millstream.rag.document import Chunk, Hit
from millstream.rag.errors import ModelError, ModelRefusedError, ModelUnavailableError, PartError
from millstream.rag.llm import Completion, streamed
from millstream.rag.llms.llamacpp import Llamacpp
from millstream.rag.parts import part_named
from millstream.rag.prompt import Prompt
from tests.rag.gguf_files import gguf

pytest.importorskip("xllamacpp", reason="the extra llamacpp is not installed")

LAMP = Prompt.of("Who makes the lamp?", [Hit(Chunk("0" * 32, "a.md", "Ada makes the lamp."), 1.0)])
FORM = '{"answer": "Ada [1].", "sources": [1]}'
ADA = {"Ada| [1]|.": 3.0, FORM: 2.0}
NO = {"No| information|.": 3.0, "Ada| [1].": 2.0, '{"answer": null, "sources": []}': 1.0}


@asynccontextmanager
async def model(folder: Path, replies: dict[str, float], **options: Any) -> AsyncIterator[Llamacpp]:
    llm = Llamacpp(gguf(folder, replies), **({"context_tokens": 1024, "threads": 1} | options))
    try:
        yield llm
    finally:
        await llm.close()


@pytest.mark.parametrize("reply", ["json", "text"])
async def test_an_answer_has_text_citations_tokens_and_a_model(tmp_path: Path, reply: Any) -> None:
    """The form is enforced: in words this model would rather say otherwise."""
    async with model(tmp_path, ADA, reply=reply) as llm:
        done = await llm.complete(LAMP)
        pieces: list[str] = []
        again = await streamed(llm, LAMP, "tiny", pieces.append)
    assert (done.text, done.cited, done.model) == ("Ada [1].", (1,), "tiny")
    assert done.tokens.prompt > 100
    assert done.tokens.completion == (2 if reply == "json" else 4)
    assert ("".join(pieces), again) == ("Ada [1].", done)
    assert len(pieces) == (1 if reply == "json" else 3)


@pytest.mark.parametrize("reply", ["json", "text"])
async def test_no_answer_is_none(tmp_path: Path, reply: Any) -> None:
    async with model(tmp_path, NO, reply=reply) as llm:
        assert (await llm.complete(LAMP)).text is None


async def test_odds_and_a_forbidden_word_for_the_posterior(tmp_path: Path) -> None:
    """e^3 against e^2 and e^1, as the file says; then the same prompt without the word."""
    async with model(tmp_path, NO) as llm:
        first = await llm.complete(replace(LAMP, odds=True))
        second = await llm.complete(replace(LAMP, odds=True, forbid_no=True))
    odds = log_odds(first.first_token, LAMP.no_answer)
    assert odds == pytest.approx(3 - math.log(math.exp(2) + math.exp(1)), abs=0.01)
    assert (first.text, second.text) == (None, "Ada [1].")
    assert (llm.tells_forbidden_odds, second.first_token) == (True, first.first_token)


async def test_calls_wait_for_each_other_and_who_has_gone_is_not_waited_for(tmp_path: Path) -> None:
    async with model(tmp_path, ADA) as llm:
        calls = [asyncio.ensure_future(llm.complete(LAMP)) for _ in range(6)]
        calls[4].cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        async with aclosing(llm.stream(LAMP)) as pieces:
            await anext(pieces)
        assert (await llm.complete(LAMP)).text == "Ada [1]."
    texts = [one.text if isinstance(one, Completion) else type(one) for one in done]
    assert texts == ["Ada [1]."] * 4 + [asyncio.CancelledError] + ["Ada [1]."]


async def test_a_closed_model_answers_no_more(tmp_path: Path) -> None:
    async with model(tmp_path, ADA) as llm:
        pass
    with pytest.raises(ModelUnavailableError, match=r"tiny\.gguf: the model is closed"):
        await llm.complete(LAMP)


async def test_a_prompt_that_is_too_long_is_an_error_that_says_so(tmp_path: Path) -> None:
    long = Prompt.of("Who?", [Hit(Chunk("0" * 32, "a.md", "lamp " * 1_000), 1.0)])
    async with model(tmp_path, ADA) as llm:
        with pytest.raises(ModelRefusedError, match="longer than context_tokens allows"):
            await llm.complete(long)
        assert (await llm.complete(LAMP)).text == "Ada [1]."


async def test_another_model_is_refused(tmp_path: Path) -> None:
    async with model(tmp_path, ADA) as llm:
        with pytest.raises(ModelRefusedError, match=r"no model 'gpt-9' here: this pipeline runs 'tiny\.gguf'"):
            await llm.complete(LAMP, "gpt-9")


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", "is no GGUF file"), (b"PK\3\4", "is no GGUF file: it begins with b'PK"), (None, "must name a GGUF file")],
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None, error: str) -> None:
    path = tmp_path / "wrong.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PartError, match=error):
        part_named("llm", "llamacpp", {"path": str(path)})


async def test_a_broken_model_is_an_error_of_the_question(tmp_path: Path) -> None:
    llm = Llamacpp(gguf(tmp_path, ADA, bytes_max=3_000))
    with pytest.raises(ModelError, match=r"tiny\.gguf: the model does not load"):
        await llm.complete(LAMP)
    await llm.close()


def test_a_fingerprint_tells_models_and_forms_apart(tmp_path: Path) -> None:
    path = gguf(tmp_path, ADA)
    told = [
        Llamacpp(path, **options).fingerprint()
        for options in ({}, {"reply": "text"}, {"answer_tokens_max": 9}, {})  # type: ignore[arg-type]
    ]
    other = Llamacpp(gguf(tmp_path, NO)).fingerprint()
    assert (len({*told, other}), told[0]) == (4, told[3])


@pytest.mark.skipif("MILLSTREAM_GGUF" not in os.environ, reason="MILLSTREAM_GGUF names no model")
async def test_a_real_model_answers_and_refuses() -> None:
    llm = Llamacpp(os.environ["MILLSTREAM_GGUF"], context_tokens=2048)
    try:
        assert "ada" in ((await llm.complete(LAMP)).text or "").lower()
        assert (await llm.complete(replace(LAMP, question="When did the king of Norway die?"))).text is None
    finally:
        await llm.close()
