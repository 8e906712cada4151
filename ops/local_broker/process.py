"""One Kafka node as a process: started under a watchdog or detached, found again by its pid file.

A pid file alone proves nothing, since pids are used again. Each node's command line carries
`-Dmillstream.node=DIRECTORY`; a pid counts as ours only while the process with that pid has this argument.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from .errors import BrokerFailed, LocalBrokerError

POLL_S = 0.02
KILL_TIMEOUT_S = 10
PAUSE_TIMEOUT_S = 5
LOG_TAIL_BYTES = 3000
EXIT_BY_SIGTERM = 143
"""What a JVM returns after it has run its shutdown hooks."""
STARTED = b"Kafka Server started"
"""The line Kafka logs once the controllers let this broker serve."""


class NodeProcess:
    """The process of one node, whose folder holds `server.properties`, `server.log`, `node.pid` and `data`.

    A watched node dies with this Python process, and the folder `temporary` with it. A detached one lives on until
    someone stops it by its pid file.
    """

    def __init__(self, directory: Path, *, temporary: Path | None = None) -> None:
        self._temporary = temporary
        self.directory = directory.absolute()
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.ended_regularly = False

    @property
    def log(self) -> Path:
        """What Kafka writes about itself."""
        return self.directory / "server.log"

    @property
    def pid(self) -> int | None:
        """The pid of the running node, or None where it does not run."""
        pid = self.recorded_pid
        return pid if pid is not None and self.marker in command_line(pid) else None

    @property
    def recorded_pid(self) -> int | None:
        """The pid in the pid file, whoever has it now."""
        try:
            return int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None

    @property
    def marker(self) -> str:
        """The argument by which the process is known to be this node."""
        return f"-Dmillstream.node={self.directory}"

    @property
    def pid_file(self) -> Path:
        """Where the pid is kept; written at each start."""
        return self.directory / "node.pid"

    def launch(self, java: Sequence[str], *, detached: bool, settings: str = "server.properties") -> None:
        """Starts the node; `java` is the launcher with its flags and class path, `settings` a file in the folder."""
        command = [java[0], self.marker, *java[1:], "kafka.Kafka", str(self.directory / settings)]
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            pid = self._detach(command, log) if detached else self._watch(command, log)
        self.pid_file.write_text(f"{pid}\n")

    def _detach(self, command: Sequence[str], log: IO[bytes]) -> int:
        self._popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        return self._popen.pid

    def _watch(self, command: Sequence[str], log: IO[bytes]) -> int:
        folder = str(self._temporary) if self._temporary else ""
        watchdog = [sys.executable, "-I", "-S", str(Path(__file__).with_name("watchdog.py")), folder]
        self._popen = subprocess.Popen(
            [*watchdog, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        told = self._popen.stdout.readline() if self._popen.stdout else b""
        if not told.strip():
            raise BrokerFailed(f"{command[0]} could not be started:\n{self.log_tail()}")
        return int(told)

    def wait_started(self, deadline: float) -> None:
        """Returns once Kafka serves; `deadline` is on the clock of `time.monotonic`.

        Raises `BrokerFailed` with the end of the log where it ends or is late.
        """
        self.wait_logged(STARTED, deadline)

    def wait_logged(self, line: bytes, deadline: float) -> None:
        """Returns once this run's log holds it. Raises as `wait_started`."""
        while line not in self._log_of_this_run():
            if not self.runs_for(POLL_S):
                raise BrokerFailed(f"Kafka ended while starting. The end of {self.log}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise BrokerFailed(f"Kafka was not ready in time. The end of {self.log}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines of this run's log."""
        return self._log_of_this_run()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def _log_of_this_run(self) -> bytes:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()

    def send(self, number: signal.Signals) -> None:
        """Sends the node a signal. Raises `LocalBrokerError` where it does not run."""
        if not self.send_if_running(number):
            raise LocalBrokerError(f"the node in {self.directory} does not run, so {number.name} cannot reach it")

    def send_if_running(self, number: signal.Signals) -> bool:
        """Sends the node a signal where it runs, and says whether it does."""
        pid = self.pid
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    def pause(self) -> None:
        """SIGSTOP. Returns when every thread has stopped: on a busy machine one may go on for a while after the signal."""
        self.send(signal.SIGSTOP)
        deadline = time.monotonic() + PAUSE_TIMEOUT_S
        while (pid := self.pid) is not None and not all_stopped(pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL: as in a crash, nothing is flushed or handed over."""
        self.send(signal.SIGKILL)
        self._wait_ended(time.monotonic() + KILL_TIMEOUT_S)

    def ask_to_end(self, *, hard: bool = False) -> None:
        """SIGTERM to a running node, paused or not; SIGKILL where `hard`."""
        if self.send_if_running(signal.SIGKILL if hard else signal.SIGTERM):
            self.send_if_running(signal.SIGCONT)

    def terminate(self, deadline: float) -> None:
        """Waits for the end of a node that was asked, and kills it at the deadline; nothing for one that is down."""
        if not self._wait_ended(deadline) and self.send_if_running(signal.SIGKILL):
            self._wait_ended(deadline + KILL_TIMEOUT_S)
        self.ended_regularly = self._popen is not None and self._popen.returncode == EXIT_BY_SIGTERM
        self._forget()

    def _wait_ended(self, deadline: float) -> bool:
        while self.runs_for(POLL_S):
            if time.monotonic() > deadline:
                return False
        return True

    def runs_for(self, seconds: float) -> bool:
        """Waits that long for the end, and says whether the node still runs."""
        if self._popen is None:
            time.sleep(seconds if self.pid is not None else 0)
            return self.pid is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self._popen.returncode is None

    def _forget(self) -> None:
        self.pid_file.unlink(missing_ok=True)
        if self._popen is not None:
            for pipe in (self._popen.stdin, self._popen.stdout):
                if pipe is not None:
                    pipe.close()
            self._popen = None


def all_stopped(pid: int) -> bool:
    """Whether no thread of a process can run; true where the system does not tell."""
    try:
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return False  # a thread ended while we looked
    return all(stat.rpartition(")")[2].split()[0] in "Tt" for stat in stats)


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty for one that is gone or a zombie."""
    proc = Path("/proc")
    if proc.joinpath("self").exists():
        try:
            return proc.joinpath(str(pid), "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return []
    listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.split()
