"""Asking a language model once for one prompt: what it said is cached (`call_cache.py`), and who asks while it is being asked waits.

The key holds the question (without regard to case, white space and the marks at its end), the wording's version, ids, versions and
texts of the chunks that are shown, the model's configuration, the reranker's, and the model the query named: an answer is used
again only while the documents under it are unchanged. Errors are not kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import orjson

from .call_cache import CallCache, cache_key
from .document import Tokens, normalised
from .llm import LLM, Completion, Said, streamed
from .paid_calls import NoPaidCalls, PaidCall, PaidElsewhere
from .prompt import VERSION, Prompt


@dataclass(frozen=True, slots=True)
class Paid:
    """A completion, and the cache's entry to be written: None where it was found there."""

    completion: Completion
    entry: tuple[bytes, bytes] | None = None


class Completions:
    """Of one process: `llm` behind calls that are shared while they are under way, and told in `told_to` once they are paid for.

    `configuration`: what the answers depend on beside the model, as the reranker's fingerprint.
    """

    def __init__(self, llm: LLM, configuration: str = "", told_to: PaidElsewhere | None = None) -> None:
        self._llm = llm
        self._told_to = NoPaidCalls() if told_to is None or getattr(llm, "is_free", False) else told_to
        self._configuration = configuration
        self._under_way: dict[bytes, asyncio.Future[Completion]] = {}

    async def complete(
        self, prompt: Prompt, model: str | None, cache: CallCache, said: Said | None = None, asker: str = ""
    ) -> Paid:
        """What is found has cost no tokens. Raises what the model raises; then the next who asks is the first again.

        `asker`: the query's id. What it had paid for, and whoever asked for it did not live to say, costs what it cost.

        `said` hears the answer while the model speaks; what was found, or asked for by another, is heard in one piece.
        """
        key = completion_key(self._llm, prompt, model, self._configuration)
        (found,) = cache.get_many([key])
        if found is not None:
            return _not_paid(completion_of(found), said)
        while (shared := self._under_way.get(key)) is not None:
            await asyncio.wait([shared])
            if not shared.cancelled():  # else whoever asked has gone, and the next asks
                return _not_paid(shared.result(), said)
        self._under_way[key] = asked = asyncio.ensure_future(
            _asked_once(self._llm, prompt, model, told_to=self._told_to, key=key, asker=asker, said=said)
        )
        try:
            completion = await asked
        finally:
            if self._under_way.get(key) is asked:
                del self._under_way[key]
        return Paid(completion, (key, completion_bytes(completion)))


async def _asked_once(
    llm: LLM, prompt: Prompt, model: str | None, *, told_to: PaidElsewhere, key: bytes, asker: str, said: Said | None
) -> Completion:
    """By somebody whose answer was never committed, else now. Only who had asked, by its name, is told what it had cost."""
    call = await told_to.find(key)
    if call is not None:
        completion = completion_of(call.result)
        _say(completion, said)
        return completion if asker and call.asker == asker else replace(completion, tokens=Tokens())
    completion = await (llm.complete(prompt, model) if said is None else streamed(llm, prompt, model, said))
    await told_to.tell(key, PaidCall(asker, completion_bytes(completion)))
    return completion


def told_model(llm: LLM, told_to: PaidElsewhere | None) -> LLM:
    """For parts that ask the model themselves, as the reranker `llm`; the model itself where it is free, or nobody is told."""
    return llm if told_to is None or getattr(llm, "is_free", False) else ToldModel(llm, told_to)


class ToldModel:
    """The model behind what was told of it. Not kept in any state: an answer that was committed does not ask again."""

    def __init__(self, llm: LLM, told_to: PaidElsewhere) -> None:
        self._llm = llm
        self._told_to = told_to

    def fingerprint(self) -> str:
        return self._llm.fingerprint()

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        """What is found costs no tokens. Raises what the model raises."""
        key = completion_key(self._llm, prompt, model, "told")
        return await _asked_once(self._llm, prompt, model, told_to=self._told_to, key=key, asker="", said=None)

    async def close(self) -> None:
        """The model is its giver's."""


def _say(completion: Completion, said: Said | None) -> None:
    if said is not None and completion.text:
        said(completion.text)


def _not_paid(completion: Completion, said: Said | None) -> Paid:
    _say(completion, said)
    return Paid(replace(completion, tokens=Tokens()))


def completion_key(llm: LLM, prompt: Prompt, model: str | None, configuration: str = "") -> bytes:
    passages = [[one.uri, one.chunk, one.version, one.text] for one in prompt.passages]
    asked = [asked_question(prompt.question), passages, prompt.task, prompt.no_answer, prompt.odds, prompt.forbid_no]
    return cache_key(
        f"{llm.fingerprint()} {configuration} {model or ''} prompt/{VERSION}", orjson.dumps(asked).decode()
    )


def asked_question(question: str) -> str:
    """As far as its answer goes: "Who made IT ?" is "who made it"."""
    return normalised(question).casefold().rstrip(" ?!.…？。")


def completion_bytes(completion: Completion) -> bytes:
    tokens = [completion.tokens.prompt, completion.tokens.completion]
    first_token = dict(completion.first_token)
    return orjson.dumps([completion.text, completion.cited, tokens, completion.model, first_token])


def completion_of(stored: bytes) -> Completion:
    text, cited, (asked, given), model, *more = orjson.loads(stored)
    return Completion(text, tuple(cited), Tokens(asked, given), model, more[0] if more else {})
