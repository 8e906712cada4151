"""Requests that go wrong on demand, so that a test can crash its subject before and after every one of them.

    broker.faults.lose("commit", 3, "after")      the third commit from now happens, and its answer is lost
    broker.faults.lose("produce", when="before")  the next produce never arrives
    broker.faults.call("commit", 1, "before", crash)   run anything there; what it raises is raised to the client
    broker.faults.disconnect(consumer)            nothing of this client arrives, its session runs out (broker.clock)
    broker.faults.unreachable = True              nobody gets an answer
    broker.faults.seen["commit"]                  how many arrived: one run tells how many points a test has to crash at
    broker.faults.observe(told)                   told("commit", "before", producer), then told("commit", "after", producer);
                                                  what it raises goes the same way

A lost request is a BrokerUnavailableError, inside a transaction an AbortableError, of a commit or an abort an
AmbiguousError. (A real producer tries again until its delivery timeout; here a lost produce is one that timed out.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args

from ..errors import BrokerUnavailableError, ConfigurationError

Request = Literal[
    "metadata", "create_topics", "delete_topics", "delete_records", "delete_group", "group_offsets",
    "fetch", "list_offsets", "offset_fetch", "offset_commit", "join",
    "init_producer", "produce", "send_offsets", "commit", "abort",
]  # fmt: skip
"""Kinds of requests. "commit" and "abort" end a transaction; "offset_commit" is the one outside."""

When = Literal["before", "after"]
"""Before it took effect (the request is lost), or after (the answer is lost)."""

REQUESTS: Final = get_args(Request)

Observer = Callable[[Request, When, object], None]
"""Told of every request that arrives: its kind, whether it has taken effect, and the client it came from."""

T = TypeVar("T")


class RequestLostError(BrokerUnavailableError):
    """No answer. Callers inside a transaction translate it."""


@dataclass
class _Point:
    request: Request
    left: int
    when: When
    action: Callable[[], None]


class Faults:
    """What goes wrong, and what arrived so far. Everything is told by the tables above."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.unreachable = False
        self._points: list[_Point] = []
        self._observers: list[Observer] = []
        self._cut_off: dict[int, object] = {}
        """Kept, so that no client made later gets the place in memory of one that is cut off."""
        self._on_cut: dict[int, Callable[[bool], None]] = {}

    def lose(self, request: Request, nth: int = 1, when: When = "before") -> None:
        """Lose the n-th request of this kind from now (1: the next), or its answer."""
        what = "never arrived" if when == "before" else "was not answered"

        def lost() -> None:
            raise RequestLostError(f"a {request} request {what} (broker.faults)")

        self.call(request, nth, when, lost)

    def call(self, request: Request, nth: int, when: When, action: Callable[[], None]) -> None:
        """Call something at that point; its exception reaches the client. Raises ConfigurationError: no such request."""
        if request not in REQUESTS:
            raise ConfigurationError(f"no request {request!r}; there are {', '.join(REQUESTS)}")
        if nth < 1:
            raise ConfigurationError(f"the next request is number 1, got {nth}")
        self._points.append(_Point(request, nth, when, action))

    def observe(self, observer: Observer) -> None:
        """Be told of every request before and after it takes effect, from now on (`clear` changes nothing about it)."""
        self._observers.append(observer)

    def clear(self) -> None:
        """Nothing goes wrong any more: points are forgotten, everybody is connected."""
        self._points.clear()
        self.unreachable = False
        for client in list(self._cut_off):
            self._reconnect(client)

    def disconnect(self, client: object) -> None:
        """Cut off a producer, reader or consumer: to the broker it looks like a dead process."""
        self._cut_off[id(client)] = client
        if id(client) in self._on_cut:
            self._on_cut[id(client)](True)

    def reconnect(self, client: object) -> None:
        """The zombie wakes up."""
        self._reconnect(id(client))

    def is_cut_off(self, client: object) -> bool:
        return self.unreachable or id(client) in self._cut_off

    def watch(self, client: object, on_cut: Callable[[bool], None]) -> None:
        """For clients: be told when cut off (True) and connected again (False)."""
        self._on_cut[id(client)] = on_cut

    def around(self, request: Request, client: object, action: Callable[[], T]) -> T:
        """A request on its way: what goes wrong goes wrong here."""
        if self.is_cut_off(client):
            raise RequestLostError(f"a {request} request found nobody: the broker is unreachable (broker.faults)")
        self.seen[request] += 1
        due = self._due(request)
        self._meet(due, "before", request, client)
        result = action()
        self._meet(due, "after", request, client)
        return result

    def _meet(self, due: list[_Point], when: When, request: Request, client: object) -> None:
        for observer in self._observers:
            observer(request, when, client)
        for point in due:
            if point.when == when:
                point.action()

    def _due(self, request: Request) -> list[_Point]:
        due = []
        for point in self._points:
            if point.request == request:
                point.left -= 1
                if point.left == 0:
                    due.append(point)
        self._points = [point for point in self._points if point.left > 0]
        return due

    def _reconnect(self, client: int) -> None:
        self._cut_off.pop(client, None)
        if client in self._on_cut:
            self._on_cut[client](False)
