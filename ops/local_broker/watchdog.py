"""Runs a command and kills it when whoever started us is gone, even by SIGKILL.

    python watchdog.py FOLDER COMMAND ...       prints the command's pid, then waits for it

FOLDER is removed when the parent is gone; an empty word means none.

Standard input is a pipe whose other end only our parent holds: its end of file means that the parent died. If this
process is killed instead, Linux kills the command (PR_SET_PDEATHSIG). That signal alone would not do: it is sent
when the parent *thread* ends, and brokers are started from threads. Run by path, so it imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends; elsewhere does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def kill_at_end_of_input(pid: int, orphaned: threading.Event) -> None:
    """Waits for the parent's end of the pipe to close."""
    while os.read(0, 1024):
        continue
    orphaned.set()
    os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Starts the command; its output goes where our standard error goes."""
    folder, *words = sys.argv[1:]
    command = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=die_with_parent,  # noqa: PLW1509  this process has one thread yet
    )
    print(command.pid, flush=True)
    orphaned = threading.Event()
    threading.Thread(target=kill_at_end_of_input, args=(command.pid, orphaned), daemon=True).start()
    code = command.wait()
    if folder and orphaned.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(main())  # the reading thread must not hold up the exit
