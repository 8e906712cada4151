"""What a model said is paid for once: cached with the answer it went into, and shared while it is being asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from millstream.rag.call_cache import CallCache
from millstream.rag.completions import Completions, completion_bytes, completion_key, completion_of
from millstream.rag.document import Tokens
from millstream.rag.errors import ModelUnavailableError
from millstream.rag.llm import Completion
from millstream.rag.prompt import Passage, Prompt
from millstream.state.key_value import KeyValueState

PROMPT = Prompt("Where is it made?", (Passage(1, "lamp", "Made in Jena."),))


class Model:
    """Answers when it is let, and notes what it was asked."""

    def __init__(self, name: str = "m") -> None:
        self.name = name
        self.asked: list[str] = []
        self.let = asyncio.Event()
        self.let.set()
        self.fails = 0

    def fingerprint(self) -> str:
        return self.name

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        self.asked.append(prompt.question)
        await self.let.wait()
        if self.fails:
            self.fails -= 1
            raise ModelUnavailableError("away")
        return Completion("Jena [1]", (1,), Tokens(10, 2), "m")

    async def close(self) -> None: ...


def cache() -> CallCache:
    return CallCache(KeyValueState("completions"), 100)


async def test_what_is_in_the_cache_is_not_asked_and_costs_no_tokens():
    model, kept = Model(), cache()
    first = await Completions(model).complete(PROMPT, None, kept)
    assert first.completion.tokens == Tokens(10, 2)
    assert first.entry is not None
    kept.put(*first.entry)
    again = await Completions(model).complete(PROMPT, None, kept)
    assert (again.completion.text, again.completion.cited, again.completion.tokens) == ("Jena [1]", (1,), Tokens())
    assert again.entry is None
    assert model.asked == [PROMPT.question]


def test_everything_an_answer_depends_on_is_in_the_key():
    others: list[Any] = [
        (Model("other"), PROMPT, None),
        (Model(), Prompt("Where was it made?", PROMPT.passages), None),
        (Model(), Prompt(PROMPT.question, (Passage(1, "lamp", "Made in Bonn."),)), None),
        (Model(), Prompt(PROMPT.question, (Passage(1, "clock", "Made in Jena."),)), None),
        (Model(), Prompt(PROMPT.question, (Passage(1, "lamp", "Made in Jena.", "c1"),)), None),
        (Model(), Prompt(PROMPT.question, (Passage(1, "lamp", "Made in Jena.", version=2),)), None),
        (Model(), replace(PROMPT, task="order"), None),
        (Model(), replace(PROMPT, no_answer="Unknown"), None),
        (Model(), replace(PROMPT, odds=True), None),
        (Model(), replace(PROMPT, forbid_no=True), None),
        (Model(), PROMPT, "large"),
        (Model(), PROMPT, None, "reranked"),
    ]
    keys = {completion_key(*other) for other in others} | {completion_key(Model(), PROMPT, None)}
    assert len(keys) == len(others) + 1


@pytest.mark.parametrize(
    "question", ["where is  it made", "Where is it made ?", "WHERE IS IT MADE?!", "Where is it made?\n"]
)
def test_the_same_question_written_otherwise_has_the_same_key(question: str):
    assert completion_key(Model(), PROMPT, None) == completion_key(Model(), replace(PROMPT, question=question), None)


@pytest.mark.parametrize("text", ["Jena [1]", None, ""])
def test_a_completion_comes_back_as_it_was_put(text: str | None):
    completion = Completion(text, (2, 1), Tokens(3, 4), "m", {"No": -0.5})
    assert completion_of(completion_bytes(completion)) == completion


async def test_who_asks_meanwhile_waits_for_the_one_call():
    model, kept = Model(), cache()
    completions = Completions(model)
    model.let.clear()
    calls = [asyncio.ensure_future(completions.complete(PROMPT, None, kept)) for _ in range(5)]
    while not model.asked:
        await asyncio.sleep(0)
    model.let.set()
    paid = await asyncio.gather(*calls)
    assert [one.completion.text for one in paid] == ["Jena [1]"] * 5
    assert [one.entry is not None for one in paid] == [True, False, False, False, False]
    assert len(model.asked) == 1


async def test_one_who_gives_up_does_not_take_the_others_along():
    model, kept = Model(), cache()
    completions = Completions(model)
    model.let.clear()
    first, second = (asyncio.ensure_future(completions.complete(PROMPT, None, kept)) for _ in range(2))
    while not model.asked:
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    model.let.set()
    assert (await second).entry is not None
    assert len(model.asked) == 2


async def test_an_error_is_told_to_all_who_wait_and_kept_for_nobody():
    model, kept = Model(), cache()
    completions = Completions(model)
    model.fails = 1
    told = await asyncio.gather(*[completions.complete(PROMPT, None, kept) for _ in range(3)], return_exceptions=True)
    assert [type(one) for one in told] == [ModelUnavailableError] * 3
    assert (await completions.complete(PROMPT, None, kept)).completion.text == "Jena [1]"
