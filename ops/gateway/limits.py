"""Who may ask, how often, and how many at a time. Synchronous: the clock is an argument."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .replies import HttpError


class Tokens:
    """Bearer tokens. Compared by their digests, each with all of them, so that time tells nothing about them."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [_digest(token) for token in tokens]

    def who(self, authorization: str | None) -> int:
        """The token's number (0 where none is asked for). Raises HttpError 401."""
        if not self._digests:
            return 0
        scheme, _, token = (authorization or "").strip().partition(" ")
        given = _digest(token.strip())
        matches = [hmac.compare_digest(given, one) for one in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise HttpError(
                401,
                "unauthorized",
                "this gateway wants a token that it knows: send the header Authorization: Bearer <token>",
                headers={"www-authenticate": "Bearer"},
            )
        return matches.index(True)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Rates:
    """A token bucket for each who asks (their number is that of the tokens). `clock`: seconds, never backwards."""

    def __init__(self, per_minute_max: int, burst_max: int, clock: Callable[[], float]) -> None:
        self._per_second = per_minute_max / 60
        self._burst_max = burst_max
        self._clock = clock
        self._left: dict[int, tuple[float, float]] = {}

    def take(self, who: int) -> None:
        """Raises HttpError 429 that says when to ask again."""
        now = self._clock()
        left, at = self._left.get(who, (float(self._burst_max), now))
        left = min(self._burst_max, left + (now - at) * self._per_second)
        if left < 1:
            self._left[who] = (left, now)
            wait_s = max(1, round((1 - left) / self._per_second + 0.5))
            raise HttpError(
                429,
                "rate_limited",
                f"more than {self._per_second * 60:g} requests a minute; ask again in {wait_s} s",
                headers={"retry-after": str(wait_s)},
            )
        self._left[who] = (left - 1, now)


class Places:
    """How many at a time."""

    def __init__(self, count_max: int, what: str) -> None:
        self.taken = 0
        self._count_max = count_max
        self._what = what

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises HttpError 503 where none is free."""
        if self.taken >= self._count_max:
            raise HttpError(
                503,
                "busy",
                f"{self._count_max} {self._what} at a time already; ask again",
                headers={"retry-after": "1"},
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
