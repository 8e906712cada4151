"""A model in this process: any GGUF file by its path, run by llama.cpp (the extra `llamacpp`).

It is loaded when it is first asked, off the event loop. `calls_max` calls run beside each other, each in a thread, the others wait in
order; a call whose caller has gone is stopped at its next token. The answer is asked for as JSON by a schema, which llama.cpp
enforces token by token; where the odds of a refusal are wanted, in words with log-probabilities, and it can be told not to begin
with a word.

llama.cpp's library opens an HTTP server of its own beside it, on 127.0.0.1. It is given a key that nobody knows.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Literal

from ..answer_pieces import AnswerPieces
from ..chat_completions import STREAM, ChatChunks, chat_body, chat_completion
from ..document import digest
from ..errors import ModelError, ModelRefusedError, ModelUnavailableError, PartError
from ..llm import Completion
from ..parts import extra
from ..prompt import VERSION, Prompt

_MAGIC: Final = b"GGUF"
_HASHED_BYTES: Final = 1 << 20
"""Of a file's beginning (what the model is) and of its end; the whole may be tens of gigabytes."""


class Llamacpp:
    """`path`: of the model. `context_tokens`: of one prompt and its answer. `threads`: 0: as many as llama.cpp thinks right.

    Raises PartError where there is no such file, or it is no GGUF.
    """

    can_forbid: Final = True
    tells_forbidden_odds: Final = True

    def __init__(
        self,
        path: str,
        *,
        context_tokens: int = 8_192,
        threads: int = 0,
        gpu_layers: int = 0,
        calls_max: int = 1,
        reply: Literal["json", "text"] = "json",
        temperature: float = 0.0,
        answer_tokens_max: int = 500,
    ) -> None:
        if reply not in {"json", "text"}:
            raise ValueError("reply must be json or text")
        if min(context_tokens, calls_max, answer_tokens_max) < 1 or min(threads, gpu_layers) < 0:
            raise ValueError(
                "context_tokens, calls_max and answer_tokens_max must be at least 1, threads, gpu_layers not negative"
            )
        self._path = Path(path)
        self._print = _print_of(self._path)
        self._json = reply == "json"
        self._context_tokens = context_tokens
        self._threads = threads
        self._gpu_layers = gpu_layers
        self._calls_max = calls_max
        self._body = {"temperature": temperature, "max_tokens": answer_tokens_max}
        self._pool = ThreadPoolExecutor(calls_max, thread_name_prefix="llamacpp")
        self._lock = threading.Lock()
        self._server: Any = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"Llamacpp({self._path.name!r})"

    def fingerprint(self) -> str:
        return f"llamacpp/1 {self._print} {self._context_tokens} {self._json} {self._body} prompt {VERSION}"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        async with aclosing(self.stream(prompt, model)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
        raise AssertionError("a stream ends with a completion, or raises")

    async def stream(self, prompt: Prompt, model: str | None = None) -> AsyncGenerator[str | Completion]:
        if model not in {None, self._path.name, self._path.stem}:
            raise ModelRefusedError(f"there is no model {model!r} here: this pipeline runs {self._path.name!r}")
        chunks, pieces = ChatChunks(), AnswerPieces(prompt)
        async with aclosing(self._events(self._request(prompt))) as events:
            async for event in events:
                if piece := pieces.add(chunks.add(event)):
                    yield piece
        reply = chunks.reply()
        if reply is None:
            raise ModelUnavailableError(f"{self._path.name}: the model stopped before its answer did")
        completion = chat_completion(reply | {"model": self._path.stem}, prompt, self._path.stem)
        if rest := pieces.rest(completion.text):
            yield rest
        yield completion

    async def close(self) -> None:
        """Calls that run are stopped at their next token."""
        self._is_closed = True
        await asyncio.to_thread(self._pool.shutdown)
        with self._lock:
            self._server = None

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        body = chat_body(prompt, as_json=self._json) | self._body | STREAM
        if prompt.forbid_no:
            body["logit_bias"] = [[prompt.no_answer.split()[0], False]]
        return body

    async def _events(self, body: dict[str, Any]) -> AsyncGenerator[Any]:
        """What the model says, chunk by chunk; as many as an answer has tokens wait to be heard, and a few."""
        loop, heard, gone = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

        def said(chunk: Any) -> bool:
            loop.call_soon_threadsafe(heard.put_nowait, chunk)
            return gone.is_set() or self._is_closed

        if self._is_closed:
            raise ModelUnavailableError(f"{self._path.name}: the model is closed")
        call = loop.run_in_executor(self._pool, self._call, body, said, gone)
        call.add_done_callback(lambda _: heard.put_nowait(None))
        try:
            while (chunk := await heard.get()) is not None:
                yield _checked(chunk)
            await call
        finally:
            gone.set()

    def _call(self, body: dict[str, Any], said: Any, gone: threading.Event) -> None:
        """In a thread."""
        if not gone.is_set() and not self._is_closed:
            self._loaded().handle_chat_completions(body, said)

    def _loaded(self) -> Any:
        with self._lock:
            if self._server is None:
                library = extra("xllamacpp", "llamacpp")
                try:
                    self._server = library.Server(self._parameters(library))
                except Exception as error:  # the library raises bare ones
                    raise ModelError(f"{self._path}: the model does not load: {error}") from error
            return self._server

    def _parameters(self, library: Any) -> Any:
        parameters = library.CommonParams()
        parameters.model.path = str(self._path)
        parameters.n_ctx = self._context_tokens * self._calls_max
        parameters.n_parallel = self._calls_max
        parameters.n_gpu_layers = self._gpu_layers
        parameters.api_keys = [secrets.token_hex(16)]
        parameters.ui = False
        parameters.warmup = False
        parameters.verbosity = -1
        if self._threads:
            parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = self._threads
        return parameters


def _print_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(_HASHED_BYTES)
            size = file.seek(0, 2)
            file.seek(max(0, size - _HASHED_BYTES))
            tail = file.read()
    except OSError as error:
        raise PartError(f"llm 'llamacpp': {path}: {error.strerror}; path must name a GGUF file") from None
    if not head.startswith(_MAGIC):
        raise PartError(f"llm 'llamacpp': {path} is no GGUF file: it begins with {head[:4]!r}")
    return digest(head, tail, str(size), hex_digits=16)


def _checked(chunk: Any) -> Any:
    error = chunk.get("error") if isinstance(chunk, dict) else None
    if error is None:
        return chunk
    told = f"{error.get('message')}" if isinstance(error, dict) else str(error)
    if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
        raise ModelRefusedError(f"the prompt is longer than context_tokens allows: {told}")
    raise ModelError(f"the model says: {told}")
