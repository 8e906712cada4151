"""Parses documents in processes of their own, because documents come from anywhere.

A parser that loops, eats memory or crashes costs its own document a ParseError and its process its life; the next document
gets a new process. Limits: bytes, pages, characters, chunks (`Limits`, checked by the parser), memory and time (here).
A process is given none of our environment but what Python needs to start: a document that takes it over finds no key.

What this is not: a sandbox. A process can still read files; run the worker as a user who may not read what it must not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from typing import Final

from .errors import ParseError, ParseLimitError
from .parse_job import HEADER, OUT_OF_MEMORY, ParseJob, Pieces, read_reply

_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT")
_REPLY_BYTES_MAX: Final = 256 << 20
_PIPE_BYTES: Final = 1 << 16
_PIPE_TIMEOUT_S: Final = 1.0
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ParseSettings:
    """Limits of the parsing processes."""

    processes_max: int = 2
    timeout_ms: int = 60_000
    """For one document, from when a process takes it."""
    memory_bytes_max: int = 1 << 30
    """Beyond what the process has at its start. Not enforced where the system has no RLIMIT_AS."""
    jobs_per_process_max: int = 1_000
    """Then a process is replaced: some libraries leak."""


class _Worker:
    """One process, and how many documents it has seen."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.jobs = 0

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def ask(self, job: ParseJob) -> Pieces:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.jobs += 1
        self.process.stdin.write(job.frame())
        await self.process.stdin.drain()
        size = HEADER.unpack(await self.process.stdout.readexactly(HEADER.size))[0]
        if size > _REPLY_BYTES_MAX:
            raise ParseLimitError(f"the text has {size} bytes, at most {_REPLY_BYTES_MAX}")
        return read_reply(await self.process.stdout.readexactly(size))

    async def ended(self) -> None:
        """Its pipes are closed: it has ended, or is about to."""
        try:
            async with asyncio.timeout(5):
                await self.process.wait()
                await self._read_up()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        if self.is_alive:
            try:
                self.process.kill()
            except ProcessLookupError:  # it ended between the look and the signal
                return
        await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self._read_up()

    async def _read_up(self) -> None:
        """To the end of its pipe: only then asyncio lets go of the process, and the event loop may be closed."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(_PIPE_TIMEOUT_S):
                while await self.process.stdout.read(_PIPE_BYTES):
                    continue
        except TimeoutError:
            _LOG.warning("a parsing process that has ended left its pipe open: it has started another one")


class ParsePool:
    """Up to `processes_max` parsing processes, started when first needed. Belongs to one event loop."""

    def __init__(self, settings: ParseSettings | None = None) -> None:
        self._settings = settings or ParseSettings()
        self._free = asyncio.Semaphore(self._settings.processes_max)
        self._idle: list[_Worker] = []
        self.started = 0
        """Processes started so far."""

    async def parse(self, job: ParseJob) -> Pieces:
        """Raises ParseError for what cannot be read, ParseLimitError for what goes beyond a limit."""
        job.limits.check_bytes(job.content)
        async with self._free:
            worker = await self._worker()
            try:
                async with asyncio.timeout(self._settings.timeout_ms / 1000):
                    pieces = await worker.ask(job)
            except TimeoutError:
                await worker.kill()
                raise ParseLimitError(
                    f"parsing took longer than {self._settings.timeout_ms} ms (timeout_ms); its process was killed"
                ) from None
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                await worker.ended()
                raise self._died(worker.process.returncode) from error
            except ParseError:
                await self._give_back(worker)
                raise
            except BaseException:  # cancelled with a reply outstanding
                await worker.kill()
                raise
            await self._give_back(worker)
            return pieces

    async def close(self) -> None:
        """Ends the idle processes; call it when no job is under way."""
        while self._idle:
            await self._idle.pop().kill()

    async def _worker(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            await worker.kill()
        self.started += 1
        return _Worker(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"{__package__}.parse_worker",
                str(self._settings.memory_bytes_max),
                str(self._settings.timeout_ms / 1000 + 5),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )
        )

    def _died(self, status: int | None) -> ParseError:
        memory = f"more than {self._settings.memory_bytes_max} bytes of memory (memory_bytes_max)"
        if status == OUT_OF_MEMORY:
            return ParseLimitError(f"the document needs {memory}")
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return ParseError(
            f"the parsing process died ({how}): a document that breaks its parser, or one that needs {memory}"
        )

    async def _give_back(self, worker: _Worker) -> None:
        if worker.jobs >= self._settings.jobs_per_process_max:
            await worker.kill()
        else:
            self._idle.append(worker)
