"""Runs a command and kills it when whoever started us is gone, even by SIGKILL.

    python watchdog.py COMMAND ...       prints the command's pid, then waits for it

Standard input is a pipe whose other end only our parent holds: its end of file means that the parent died. If this
process is killed instead, Linux kills the command (PR_SET_PDEATHSIG). That signal alone would not do: it is sent
when the parent *thread* ends, and brokers are started from threads. Run by path, so it imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends; elsewhere does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def kill_at_end_of_input(pid: int) -> None:
    """Waits for the parent's end of the pipe to close."""
    while os.read(0, 1024):
        continue
    os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Starts the command; its output goes where our standard error goes."""
    command = subprocess.Popen(
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=die_with_parent,  # noqa: PLW1509  this process has one thread yet
    )
    print(command.pid, flush=True)
    threading.Thread(target=kill_at_end_of_input, args=(command.pid,), daemon=True).start()
    code = command.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(main())  # the reading thread must not hold up the exit
