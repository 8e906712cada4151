"""An index whose vectors are not in this process: what it has beside `Index`, so that no wait for it stops the event loop.

    apply (synchronous)     upserts and removals are noted, and found at once
    settle (awaited)        what was noted is stored there, in batches; the view waits for it after each part it applies
    find (awaited)          the nearest of those stored and noted, and the cosines of candidates by words, in one go

The synchronous `search`, `similarities` and `vectors` work too, and wait in place: for tests, tools and the moment of a start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .index import Bitmap, Numbers, Vector, Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """What `find` found."""

    near: Numbers
    """The nearest first, ties by number."""
    cosines: Mapping[int, float]
    """Of these, and of the others that were asked for."""


@runtime_checkable
class RemoteIndex(Protocol):
    """Raises IndexUnavailableError from each of these where the store cannot be reached, or takes too long."""

    async def find(self, vector: Vector, k: int, allowed: Bitmap | None, also: Numbers) -> Near:
        """The k nearest, and the cosines of `also`. A number that was upserted or removed while this waited is in neither."""
        ...

    async def fetch(self, numbers: Numbers) -> Vectors:
        """Vectors of those of the numbers that are there still, in their order."""
        ...

    async def settle(self) -> None:
        """Until everything that was upserted and removed is stored."""
        ...

    def close(self) -> None:
        """Gives back connections. What was not settled is lost, and comes again with the tail of the topic."""
        ...
