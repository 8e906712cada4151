"""One line, not thousands: aiokafka logs every attempt of every retry, at warning and error level."""

from __future__ import annotations

import logging
from typing import Final

_LOGGERS: Final = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.consumer.subscription_state",
    "aiokafka.producer.producer",
    "aiokafka.producer.sender",
)


class LogLimit(logging.Filter):
    """Lets the same message (before its arguments are filled in) pass once in `interval_ms`, and says how many it held.

    What aiokafka tells at info level about groups and coordinators is told at debug level.
    """

    def __init__(self, *, interval_ms: int = 30_000, texts_max: int = 500) -> None:
        super().__init__()
        self._interval_ms = interval_ms
        self._texts_max = texts_max
        self._last: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.INFO:
            return record.levelno < logging.INFO or logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        text = f"{record.name}:{record.msg}"
        last, held = self._last.get(text, (0.0, 0))
        if (record.created - last) * 1000 < self._interval_ms:
            self._last[text] = (last, held + 1)
            return False
        if len(self._last) >= self._texts_max:
            self._last.clear()
        self._last[text] = (record.created, 0)
        if held:
            record.msg = f"{record.msg} (and {held} more like it in the last {self._interval_ms // 1000} s)"
        return True

    def install(self) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def remove(self) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)
