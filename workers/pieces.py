"""A task's work as pieces that stop when so much was given that it should be sent first.

    do(piece) -> runs ... gives rows ... enough? -> stops;   the shell sends what was given;   go_on() -> ...

A batch can become very much more rows than it has: a key with many partners on both sides of a join, a step that makes many rows of
one, all windows that close at once. What a piece gives it gives bit by bit (generators down to the operators), so no more of it
is ever in memory than `enough` allows and one batch of a step. Pieces are worked off in their order, one at a time: between two of
them, and only there, a task is at a point from which it could be committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

Piece = Iterator[None]
"""Yields wherever it could be stopped: after rows were given."""


class Pieces:
    """`enough`: whether what was given should be taken before more is made."""

    def __init__(self, enough: Callable[[], bool]) -> None:
        self._enough = enough
        self._left: deque[Piece] = deque()

    @property
    def under_way(self) -> bool:
        """Whether a piece was stopped, so that nothing may be committed."""
        return bool(self._left)

    def do(self, piece: Piece) -> None:
        """After those that are left."""
        self._left.append(piece)
        if len(self._left) == 1:
            self.go_on()

    def go_on(self) -> None:
        """Until there is enough, or nothing left."""
        while self._left:
            try:
                for _ in self._left[0]:
                    if self._enough():
                        return
            except BaseException:
                self._left.clear()  # what failed half done is thrown away, and whatever was to come behind it
                raise
            self._left.popleft()
