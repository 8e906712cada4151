"""Parsers that behave as badly as a document can make them: each content is a command."""

from __future__ import annotations

import os
import signal

from millstream.rag.parser import Limits, Parsed


class ParsersOfTests:
    """Loops, eats memory, dies, raises or prints, as the content says; otherwise the content is the text."""

    def fingerprint(self) -> str:
        return "tests/1"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        match content:
            case b"loop":
                while True:
                    pass
            case b"memory":
                return Parsed(str([bytes(1 << 20) for _ in range(1 << 20)]))
            case b"die":
                os.kill(os.getpid(), signal.SIGKILL)
            case b"raise":
                raise ZeroDivisionError("by zero")
            case b"print":
                print("noise on standard output " * 100, flush=True)
            case b"environment":
                return Parsed(" ".join(sorted(os.environ)))
        return Parsed(content.decode())
