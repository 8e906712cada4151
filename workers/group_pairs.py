"""All pairs of two sides' members of equal groups, some at a time, and the members that are alone. Pure functions on columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..state.row_chunks import Rows

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Members:
    """Rows of one side in windows: row `rows[i]` of the `source` is in the window `[starts[i], ends[i])`."""

    source: Rows
    rows: Ints
    groups: Ints
    """Equal where key and window are; negative: of a null key, in no group."""
    starts: Ints
    ends: Ints


@dataclass(frozen=True, slots=True)
class Pairs:
    """Who is with whom, as numbers of members."""

    order: Ints
    """The left members, sorted by group."""
    first: Ints
    """Of each of them, where its right ones begin in `right_order`."""
    ends: Ints
    """Where its pairs end, if all are counted one after another."""
    right_order: Ints
    alone: tuple[Ints, Ints]
    """Left and right members of groups without the other side, sorted by group."""

    def some(self, pairs_max: int) -> Iterator[tuple[Ints, Ints]]:
        """Left and right members of the pairs, at most so many at once."""
        starts = np.append(0, self.ends[:-1])
        total = int(self.ends[-1]) if len(self.ends) else 0
        for begin in range(0, total, pairs_max):
            stop = min(begin + pairs_max, total)
            part = slice(int(self.ends.searchsorted(begin, "right")), int(self.ends.searchsorted(stop, "left")) + 1)
            many = np.minimum(self.ends[part], stop) - np.maximum(starts[part], begin)
            at = np.repeat(self.first[part] - starts[part], many) + np.arange(begin, stop)
            yield np.repeat(self.order[part], many), self.right_order[at]


def pairs_of(left: Ints, right: Ints) -> Pairs:
    """The groups of the members of both sides."""
    order, right_order = np.argsort(left, kind="stable"), np.argsort(right, kind="stable")
    mine, theirs = left[order], right[right_order]
    first = theirs.searchsorted(mine, "left")
    count = np.where(mine >= 0, theirs.searchsorted(mine, "right") - first, 0)
    has_left = (mine.searchsorted(theirs, "right") > mine.searchsorted(theirs, "left")) & (theirs >= 0)
    return Pairs(order, first, np.cumsum(count), right_order, (order[count == 0], right_order[~has_left]))
