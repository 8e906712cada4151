"""Steps that give their changes once a commit: what their rows' times may be, and what is done when the input ends."""

from __future__ import annotations

from collections.abc import Sequence

from ..topics.batch import MAX_TIME, MIN_TIME
from .operator import Context, Emit, Operator


def is_end(watermark: int) -> bool:
    """Whether it says that a bounded input has ended: infinity, less the delays of some steps."""
    return watermark > MAX_TIME // 2


class GivenAtCommits(Operator):
    """Subclasses give in `flush` what changed, with no time below `watermark`.

    At the end of a bounded input there is no commit before the watermark goes on to infinity, and rows behind it would be late
    for everything that follows, so they are given then; their times stay what they were.
    """

    watermark: int = MIN_TIME
    """As passed on before the rows that are given next."""

    def open(self, context: Context, watermark: int) -> None:
        self.context = context
        self._reached(watermark)

    def advance(self, watermark: int) -> Sequence[Emit]:
        given = self.flush() if is_end(watermark) else ()
        self._reached(watermark)
        return given

    def _reached(self, watermark: int) -> None:
        if not is_end(watermark):
            self.watermark = max(self.watermark, watermark)
