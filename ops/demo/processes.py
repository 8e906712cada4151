"""The demo's workers as processes: started, asked how they are, killed, stopped. The demo ends them all, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson

from .errors import Differs

ANSWER_TIMEOUT_S: Final = 2.0
STOP_TIMEOUT_S: Final = 30.0
LOG_LINES: Final = 12
_NOT_OURS: Final = {"closed", "dropping", "lost"}
"""Phases of partitions that a worker has given up."""


class Workers:
    """By number, from 1. `command(number)`: how to start one. `ports`: where each answers."""

    def __init__(self, command: Callable[[int], list[str]], log: Callable[[int], Path], ports: dict[int, int]) -> None:
        self._command = command
        self._log = log
        self._ports = ports
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number in list(self._processes):
            self.kill(number)

    def start(self, number: int) -> None:
        with self._log(number).open("ab") as log:
            self._processes[number] = subprocess.Popen(
                self._command(number), stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, number: int) -> None:
        """SIGKILL: nothing is flushed, nothing is handed over."""
        process = self._processes.pop(number)
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    async def stop(self, number: int) -> None:
        """SIGTERM, and its end in good order. Raises Differs where the exit status is not 0."""
        process = self._processes[number]
        process.terminate()
        status = await asyncio.to_thread(_status, process)
        if status != 0:
            said = "did not end" if status is None else f"ended with status {status}"
            raise Differs(f"worker {number} {said} after SIGTERM:\n{self.log_tail(number)}")
        self.kill(number)

    @property
    def numbers(self) -> list[int]:
        return sorted(self._processes)

    def raise_if_ended(self) -> None:
        """Raises Differs for a worker that ended by itself, with the end of its log."""
        for number, process in self._processes.items():
            if process.poll() is not None:
                raise Differs(f"worker {number} ended with status {process.returncode}:\n{self.log_tail(number)}")

    def log_tail(self, number: int) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self._log(number).read_text(errors="replace").splitlines()[-LOG_LINES:])
        return ""

    async def statistics(self, number: int) -> dict[str, Any] | None:
        """What the worker tells on `/ready`; None while it does not answer."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await _get(self._ports[number], "/ready")
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            return None


def shards_of(statistics: dict[str, Any] | None) -> list[int]:
    """Numbers of the partitions that a worker works on; none while it is not ready."""
    if not statistics or not statistics.get("ready"):
        return []
    return sorted(shard["number"] for shard in statistics["shards"] if shard["phase"] not in _NOT_OURS)


def phases_of(statistics: dict[str, Any] | None) -> str:
    """`running: 0 running, 2 restoring`, for people."""
    if not statistics:
        return "does not answer"
    phases = ", ".join(f"{shard['number']} {shard['phase']}" for shard in statistics["shards"])
    return f"{statistics['state']}: {phases or 'no partitions'}"


def _status(process: subprocess.Popen[bytes]) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(STOP_TIMEOUT_S)
    return None


async def _get(port: int, path: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    found = orjson.loads(answer.partition(b"\r\n\r\n")[2])
    if not isinstance(found, dict):
        raise ValueError(f"{path} gave {type(found).__name__}")
    return found
