"""Before a request goes to a model's endpoint: is it well (`circuit.py`), and may we ask already (`token_bucket.py`)?

All parts of a process that name the same endpoint with the same key and limits stand before one gate, however many tasks they
serve: it is the provider's account that is limited. Processes do not know of each other; give each its share.

The tokens of a request are not known before its reply: a quarter of its bytes is taken at first, and put right by what the endpoint
accounts for.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final
from weakref import WeakValueDictionary

from .circuit import Circuit, Ticket
from .errors import CircuitOpenError, RateLimitedError
from .token_bucket import TokenBucket

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]
_BYTES_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """How hard an endpoint may be asked, and when it is let alone: the option `limits` of every part that asks one."""

    requests_per_minute: int = 0
    """0: as many as there are."""
    tokens_per_minute: int = 0
    """Of prompts and answers together. 0: as many as there are."""
    burst_ms: int = 10_000
    """What flows in within this time may be asked for at once, after a while of nothing."""
    waiting_max: int = 1_000
    """Requests that wait for their turn; one more is an error at once."""
    wait_ms_max: int = 60_000
    """A request whose turn is further away is an error at once."""
    failures_max: int = 10
    """Attempts that fail in a row and open the circuit: then every request is an error at once. 0: never."""
    failures_share_max: float = 0.0
    """Or this share of the last `window_attempts`. 0: never."""
    window_attempts: int = 20
    open_ms: int = 30_000
    """After so long one request is let through; if it succeeds, all are."""

    def __post_init__(self) -> None:
        if min(self.requests_per_minute, self.tokens_per_minute, self.failures_max, self.waiting_max) < 0:
            raise ValueError(
                "requests_per_minute, tokens_per_minute, failures_max and waiting_max must not be negative"
            )
        if min(self.burst_ms, self.wait_ms_max, self.window_attempts, self.open_ms) < 1:
            raise ValueError("burst_ms, wait_ms_max, window_attempts and open_ms must be at least 1")
        if not 0 <= self.failures_share_max <= 1:
            raise ValueError("failures_share_max must be from 0 to 1")

    @classmethod
    def of(cls, given: Mapping[str, Any] | EndpointLimits | None) -> EndpointLimits:
        """From the names above. Raises ValueError naming one that is not there, or is no number."""
        if given is None or isinstance(given, EndpointLimits):
            return given or cls()
        known = {field.name for field in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise ValueError(f"limits: no limit {name!r}; there are {', '.join(sorted(known))}")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"limits: {name} must be a number, got {value!r}")
        return cls(**given)


@dataclass(frozen=True, slots=True)
class EndpointCounts:
    """Since the part was made."""

    attempts: int = 0
    attempts_failed: int = 0
    """No connection, no answer in time, 5xx: what opens the circuit."""
    waited_ms: int = 0
    """For the rate limit."""
    refused_by_rate_limit: int = 0
    refused_by_circuit: int = 0
    circuit_opened: int = 0


class Gate:
    """Of one endpoint; from any thread and loop."""

    def __init__(self, limits: EndpointLimits, clock: Clock, sleep: Sleep) -> None:
        self.limits = limits
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._circuit = Circuit(
            limits.failures_max, limits.failures_share_max, limits.window_attempts, float(limits.open_ms)
        )
        self._requests = _bucket(limits.requests_per_minute, limits.burst_ms)
        self._tokens = _bucket(limits.tokens_per_minute, limits.burst_ms)
        self._waiting = 0
        self._last_failure = ""

    async def enter(self, url: str, size_bytes: int) -> tuple[Ticket, float]:
        """A ticket for `leave`, and how many milliseconds were waited. Raises CircuitOpenError, RateLimitedError."""
        with self._lock:
            wait_ms = self._turn(url, tokens_of(size_bytes))
        if wait_ms:
            try:
                await self._sleep(wait_ms / 1000)
            finally:
                with self._lock:
                    self._waiting -= 1
        with self._lock:
            return self._admitted(url), wait_ms

    def leave(self, ticket: Ticket, ok: bool | None, failure: str = "") -> bool:
        """What came of it. True: the circuit is open now."""
        with self._lock:
            self._last_failure = failure if ok is False else self._last_failure
            return self._circuit.told(ticket, ok, self._now_ms())

    def used(self, size_bytes: int, tokens: int) -> None:
        """What a request of this size has really cost."""
        if self._tokens is not None and tokens:
            with self._lock:
                self._tokens.take(tokens - tokens_of(size_bytes), self._now_ms())

    def _now_ms(self) -> float:
        return self._clock() * 1000

    def _turn(self, url: str, tokens: int) -> float:
        """How long to wait; the place in the queue is taken. Nobody waits for an endpoint that is let alone."""
        now_ms = self._now_ms()
        if (left_ms := self._circuit.left_ms(now_ms)) > 0:
            raise self._open_error(url, left_ms)
        asked = [(bucket, amount) for bucket, amount in ((self._requests, 1), (self._tokens, tokens)) if bucket]
        wait_ms = max((bucket.wait_ms(amount, now_ms) for bucket, amount in asked), default=0.0)
        if wait_ms > self.limits.wait_ms_max:
            raise RateLimitedError(
                f"{url}: the rate limit would let this request go in {wait_ms:.0f} ms, more than wait_ms_max "
                f"({self.limits.wait_ms_max}); raise requests_per_minute or tokens_per_minute if the provider allows it"
            )
        if wait_ms and self._waiting >= self.limits.waiting_max:
            raise RateLimitedError(f"{url}: {self._waiting} requests wait for the rate limit already (waiting_max)")
        for bucket, amount in asked:
            bucket.take(amount, now_ms)
        self._waiting += wait_ms > 0
        return wait_ms

    def _admitted(self, url: str) -> Ticket:
        admitted = self._circuit.admit(self._now_ms())
        if isinstance(admitted, Ticket):
            return admitted
        raise self._open_error(url, admitted)

    def _open_error(self, url: str, left_ms: float) -> CircuitOpenError:
        when = f"for {left_ms:.0f} ms more" if left_ms else "while one request is tried on it"
        return CircuitOpenError(f"{url} has failed too often and is not asked {when} (last: {self._last_failure})")


_GATES: WeakValueDictionary[tuple[object, ...], Gate] = WeakValueDictionary()
_GATES_LOCK: Final = threading.Lock()


def gate_of(endpoint: tuple[str, ...], limits: EndpointLimits, clock: Clock, sleep: Sleep) -> Gate:
    """The one gate of this endpoint in this process; it lives while a part holds it. `endpoint`: its url, and a hash of the key."""
    with _GATES_LOCK:
        return _GATES.setdefault((endpoint, limits, clock, sleep), Gate(limits, clock, sleep))


def tokens_of(size_bytes: int) -> int:
    return size_bytes // _BYTES_PER_TOKEN + 1


def _bucket(per_minute: int, burst_ms: int) -> TokenBucket | None:
    return TokenBucket(per_minute, burst_ms) if per_minute else None
