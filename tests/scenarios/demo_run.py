"""`millstream demo` as a process, in a folder of its own, and what it said."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.polling import until

LIMIT_S = 240
_STEP = re.compile(r"^(\d)/7 (done|failed) +(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Told:
    """A demo that has ended."""

    status: int
    out: str
    err: str

    @property
    def steps(self) -> dict[int, tuple[str, str]]:
        """State and text by number."""
        return {int(number): (state, text) for number, state, text in _STEP.findall(self.out)}

    def __str__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"


class Demo:
    """A running demo. Whatever happens in the test, it and all it started are gone at the end."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._seen: set[psutil.Process] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "millstream.ops.main", "demo", "--plain", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        self.note_children()
        self._process.kill()
        self._process.communicate()
        for child in self.left_behind():
            child.kill()

    def end(self) -> Told:
        out, err = self._process.communicate(timeout=LIMIT_S)
        return Told(self._process.returncode, out, err)

    def wait_for_step(self, number: int) -> None:
        """Reads lines until that step is done."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            assert "failed" not in line, line
            if line.startswith(f"{number}/7 done"):
                return
        raise AssertionError(f"ended before step {number}: {self.end()}")

    def note_children(self) -> list[psutil.Process]:
        """Kafka and the workers, remembered."""
        if self._process.poll() is None:
            self._seen |= set(psutil.Process(self._process.pid).children(recursive=True))
        return sorted(self._seen, key=lambda process: process.pid)

    async def wait_for_children(self, count: int) -> None:
        """Until it has started that many. Raises TimeoutError."""

        async def are_there() -> bool:
            assert self._process.poll() is None, self.end()
            return len(self.note_children()) >= count

        await until(are_there)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self._process.send_signal(number)

    def left_behind(self) -> list[psutil.Process]:
        """Of the processes noted, those that still run after a while."""
        _, alive = psutil.wait_procs(list(self._seen), timeout=10)
        return alive
