"""A parsing process: jobs in on standard input, replies out on standard output, until the input ends.

Started by `parse_pool.py` as `python -m millstream.rag.parse_worker <memory bytes> <seconds>`. It limits itself: address space
(RLIMIT_AS above what it has at the start) and, so that it ends even when its parent was killed, an alarm for each job. On a
system without these limits the parent's timeout is what remains.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from .errors import ParseError, PartError
from .parse_job import BODY, HEADER, OUT_OF_MEMORY, ParseJob, Part, Pieces, reply_frame
from .parts import part_named
from .places import places
from .splitter import Piece


class Parts:
    """Parsers and splitters already made, by name and options. A process sees few of them."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, str], Any] = {}

    def get(self, kind: str, part: Part) -> Any:
        key = (kind, part.name, repr(sorted(part.options.items())))
        if key not in self._made:
            self._made[key] = part_named(kind, part.name, part.options)
        return self._made[key]


def work(job: ParseJob, parts: Parts) -> Pieces:
    """Parse and split. Raises ParseError, whatever a parser raised."""
    try:
        parsed = parts.get("parser", job.parser).parse(job.content, job.content_type, job.limits)
        job.limits.check_chars(len(parsed.text))
        pieces: list[Piece] = parts.get("splitter", job.splitter).split(parsed.text)
    except (ParseError, PartError, MemoryError):
        raise
    except Exception as error:
        raise ParseError(f"parser {job.parser.name!r} failed: {type(error).__name__}: {error}") from error
    job.limits.check_chunks(len(pieces))
    return Pieces(
        [piece.text for piece in pieces],
        parsed.metadata,
        places(parsed.marks, pieces) if parsed.marks else (),
        [piece.parent for piece in pieces] if any(piece.parent for piece in pieces) else (),
    )


def _answer(job: ParseJob, parts: Parts) -> Pieces | ParseError:
    try:
        return work(job, parts)
    except ParseError as error:
        return error
    except PartError as error:
        return ParseError(str(error))


def _read(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _jobs(source: BinaryIO) -> Any:
    while head := source.read(HEADER.size):
        header = _read(source, HEADER.unpack(head)[0])
        yield ParseJob.read(header, _read(source, BODY.unpack(_read(source, BODY.size))[0]))


def _limit_memory(extra_bytes: int) -> None:
    try:
        import resource

        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # not Linux: the parent's timeout is what remains
        return
    resource.setrlimit(resource.RLIMIT_AS, (mapped + extra_bytes, mapped + extra_bytes))


def _alarm(seconds: float) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(seconds))


def main(memory_bytes: int, seconds: float) -> int:
    """Works until the input ends, or until it is out of memory: what is left of it then is not to be trusted."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land among the replies
    _limit_memory(memory_bytes)
    parts = Parts()
    for job in _jobs(sys.stdin.buffer):
        _alarm(seconds)
        try:
            replies.write(reply_frame(_answer(job, parts)))
            replies.flush()
        except MemoryError:
            return OUT_OF_MEMORY
        _alarm(0)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
