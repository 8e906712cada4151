"""Worker processes that are started, killed and started again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Workers:
    """Processes of one module, by number; what they print goes to files in the folder. Ends them all at exit."""

    def __init__(self, module: str, folder: Path, arguments: list[str]) -> None:
        self.module = module
        self.folder = folder
        self.arguments = arguments
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._log_starts: dict[int, int] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._processes):
            self.kill(number)

    def start(self, number: int) -> None:
        """`ARGUMENTS NUMBER FOLDER` are the process's arguments."""
        command = [sys.executable, "-m", self.module, *self.arguments, str(number), str(self.folder)]
        with self._log(number).open("ab") as log:
            self._log_starts[number] = log.tell()
            self._processes[number] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        process = self._processes.pop(number)
        process.kill()
        process.wait()

    def pause(self, number: int) -> None:
        self._processes[number].send_signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        self._processes[number].send_signal(signal.SIGCONT)

    def stop(self, *numbers: int, timeout_s: float = 30) -> list[int]:
        """SIGTERM to all of them at once; their exit statuses."""
        processes = [self._processes.pop(number) for number in numbers]
        for process in processes:
            process.terminate()
        return [process.wait(timeout_s) for process in processes]

    def wait_joined(self, number: int, deadline_s: float = 60) -> None:
        """Until the worker, since it was last started, has told that it is a member of the group."""
        until = time.monotonic() + deadline_s
        while b"generation" not in self._log(number).read_bytes()[self._log_starts[number] :]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._processes[number].wait(0.05)
                raise AssertionError(f"worker {number} ended\n{self.logs()}")
            if time.monotonic() > until:
                raise AssertionError(f"worker {number} did not join in {deadline_s} s\n{self.logs()}")

    def _log(self, number: int) -> Path:
        return self.folder / f"worker-{number}.log"

    def running(self) -> list[int]:
        return sorted(number for number, process in self._processes.items() if process.poll() is None)

    def started(self) -> list[int]:
        """Those that were neither killed nor stopped from here, running or not."""
        return sorted(self._processes)

    def logs(self) -> str:
        """The end of what each printed, for a failed test."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))
