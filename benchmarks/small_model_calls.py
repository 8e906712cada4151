"""A model whose every call is made once and written down, with what it took: `Part("benchmarks.small_model_calls", {...})`.

Configurations that are held against each other mostly ask the same: the first round of `adaptive` is `fixed` with k=1. Asked at
temperature 0 a model says the same again, so a call is made by the configuration that comes to it first, and counted in each. The
log-probabilities are always asked for: the prompt's words are the same with and without.

The file also lets a run that was stopped go on where it was. It is written line by line; half a line at its end is passed over. What
counts as a refusal is looked at anew at each count.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from millstream.rag.document import Tokens, digest
from millstream.rag.llm import LLM, Completion
from millstream.rag.prompt import Prompt, is_no_answer


@dataclass(frozen=True)
class Call:
    """What a model said, and what it took: seconds on the clock, and seconds of this process on all cores."""

    completion: Completion
    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class Took:
    seconds: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Took) -> Took:
        return Took(self.seconds + other.seconds, self.cpu_s + other.cpu_s)

    def __sub__(self, other: Took) -> Took:
        return Took(self.seconds - other.seconds, self.cpu_s - other.cpu_s)


class Ledger:
    """Calls by what was asked; and what those that were counted took together."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self._calls = dict(_read(file)) if file.exists() else {}
        self.took = Took()

    def call(self, key: str) -> Call | None:
        return self._calls.get(key)

    def keep(self, key: str, call: Call) -> None:
        self._calls[key] = call
        with self._file.open("a") as file:  # a new line first: a run that was stopped may have left half of one
            file.write("\n" + json.dumps(_line(key, call)))

    def count(self, call: Call) -> Completion:
        self.took += Took(call.seconds, call.cpu_s)
        return call.completion


class SmallModelCalls:
    """`model` stays the giver's to close."""

    can_forbid = tells_forbidden_odds = True

    def __init__(self, *, model: LLM, ledger: Ledger) -> None:
        self._model = model
        self._ledger = ledger

    def fingerprint(self) -> str:
        return self._model.fingerprint()

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        asked = replace(prompt, odds=True)
        key = digest(self.fingerprint(), json.dumps(asked.messages(as_json=False)), str(asked.forbid_no), hex_digits=32)
        call = self._ledger.call(key)
        if call is None:
            call = await self._made(asked, model)
            self._ledger.keep(key, call)
        said = self._ledger.count(call)
        return replace(said, text=None) if is_no_answer(said.text or "", prompt.no_answer) else said

    async def _made(self, asked: Prompt, model: str | None) -> Call:
        started, worked = time.perf_counter(), time.process_time()
        completion = await self._model.complete(asked, model)
        return Call(completion, time.perf_counter() - started, time.process_time() - worked)

    async def close(self) -> None:
        return


def _line(key: str, call: Call) -> dict[str, Any]:
    said = call.completion
    return {
        "key": key,
        "text": said.text,
        "cited": said.cited,
        "prompt_tokens": said.tokens.prompt,
        "completion_tokens": said.tokens.completion,
        "model": said.model,
        "first_token": dict(said.first_token),
        "seconds": round(call.seconds, 3),
        "cpu_s": round(call.cpu_s, 3),
    }


def _read(file: Path) -> list[tuple[str, Call]]:
    found = []
    for line in file.read_text().splitlines():
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            continue  # the run was stopped while it wrote: the call is made again
        tokens = Tokens(one["prompt_tokens"], one["completion_tokens"])
        said = Completion(one["text"], tuple(one["cited"]), tokens, one["model"], one["first_token"])
        found.append((one["key"], Call(said, one["seconds"], one["cpu_s"])))
    return found
