"""Answers that came too late for who waited, kept for whoever asks for them by the question's id. Synchronous: the clock is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Late:
    since_s: float
    record: bytes | None = None
    """None: it has not come yet."""


class LateAnswers:
    """Of questions that nobody waits for any more. What goes beyond a limit is forgotten, the oldest first.

    `count_max`: questions; `bytes_max`: of their answers together; `age_max_ms`: since one was given up. `clock`: seconds, never backwards.
    """

    def __init__(self, count_max: int, bytes_max: int, age_max_ms: int, clock: Callable[[], float]) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._age_max_s = age_max_ms / 1000
        self._clock = clock
        self._late: OrderedDict[str, _Late] = OrderedDict()
        self._bytes = 0

    def given_up(self, query_id: str) -> None:
        """From now on its answer is kept when it comes."""
        self._drop(query_id)
        self._late[query_id] = _Late(self._clock())
        self._forget()

    def came(self, query_id: str, record: bytes) -> None:
        """An answer, whosever: only that of a question that was given up is kept, the last one."""
        late = self._late.get(query_id)
        if late is not None:
            self._bytes += len(record) - len(late.record or b"")
            late.record = record
            self._forget()

    def knows(self, query_id: str) -> bool:
        self._forget()
        return query_id in self._late

    def get(self, query_id: str) -> bytes | None:
        """None: it has not come yet, or the question is not known (any more)."""
        return self._late[query_id].record if self.knows(query_id) else None

    def _forget(self) -> None:
        while self._late and self._is_too_much():
            self._drop(next(iter(self._late)))

    def _is_too_much(self) -> bool:
        is_old = self._clock() - next(iter(self._late.values())).since_s > self._age_max_s
        return is_old or len(self._late) > self._count_max or self._bytes > self._bytes_max

    def _drop(self, query_id: str) -> None:
        late = self._late.pop(query_id, None)
        if late is not None:
            self._bytes -= len(late.record or b"")
