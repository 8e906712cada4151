"""Logs: one line a fact, for people or as JSON; secrets taken out; the same message not a thousand times.

Everything of ours logs to the logger `millstream` and below with the standard library; `configure_logs` is called by the
command line and by `run`, never on import.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final, TextIO

import orjson

HIDDEN: Final = "***"
REPEATS_MAX: Final = 5
REPEAT_WINDOW_S: Final = 60
REMEMBERED_MESSAGES_MAX: Final = 1_000

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "repeated"}


def configure_logs(
    log_format: str = "console", level: str = "info", *, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> logging.Handler:
    """One handler on the root logger, replacing what an earlier call of ours put there. Gives it, so that it can be taken off."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Hiding(JsonLines() if log_format == "json" else ConsoleLines(), secrets))
    handler.addFilter(Repeats())
    handler.set_name("millstream")
    root = logging.getLogger()
    for earlier in [one for one in root.handlers if one.get_name() == "millstream"]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, _level(level)))  # of libraries only what should worry somebody
    logging.getLogger("millstream").setLevel(_level(level))
    # The client library calls what it retries an error; we tell once when the broker is away, and raise what is final.
    logging.getLogger("aiokafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    return handler


def _level(name: str) -> int:
    return {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}.get(name, logging.ERROR)


class ConsoleLines(logging.Formatter):
    """`21:15:04 warning  worker  the broker does not answer  topic=clicks`."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        name = record.name.removeprefix("millstream.")
        extra = "".join(f"  {key}={value}" for key, value in _extra(record).items())
        line = f"{clock} {record.levelname.lower():<8} {name}  {_text(record)}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One object a line: `time` (ISO 8601, UTC), `level`, `logger`, `message`, what `extra=` gave, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _text(record),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Hiding(logging.Formatter):
    """Another formatter's lines with the secrets taken out, in whatever part of the line they stood."""

    def __init__(self, inner: logging.Formatter, secrets: Iterable[str]) -> None:
        super().__init__()
        self._inner = inner
        found = {secret for secret in secrets if secret}
        as_json = {orjson.dumps(secret).decode()[1:-1] for secret in found}
        self._secrets = sorted(found | as_json, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        line = self._inner.format(record)
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        return line


class Repeats(logging.Filter):
    """Lets a message (its text before the arguments are filled in) through five times a minute, then says how many more there were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key, now = (record.name, record.levelno, str(record.msg)), self._clock()
        began, count = self._seen.get(key, (now, 0))
        if now - began >= REPEAT_WINDOW_S:
            record.repeated = max(0, count - REPEATS_MAX)
            began, count = now, 0
        if len(self._seen) >= REMEMBERED_MESSAGES_MAX and key not in self._seen:
            self._seen.pop(next(iter(self._seen)))
        self._seen[key] = (began, count + 1)
        return count < REPEATS_MAX


def _text(record: logging.LogRecord) -> str:
    repeated = getattr(record, "repeated", 0)
    return record.getMessage() + (f" ({repeated} more like this since the last one shown)" if repeated else "")


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
