"""Keeps standing questions up to date: listens to the index, looks again, and has those asked again whose hits are others now.

    the task      tells which questions stand (at its start, and after each answer)         -> arrivals
    the view      tells which chunks came and went                                         -> touched (standing.py)
    here          look-up -> other hits than its answer was made from? -> the question's record once more into its own partition,
                  marked `again`, to be answered by an index that is at least as far as this one

So an answer goes its usual way, in the worker's commits, and a crash between costs nothing: at its start a task's questions are all
looked at once. Changes that come while a question waits to be looked at are looked at together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..topics.errors import BrokerUnavailableError
from .ask import Asking
from .errors import NotFreshError, RagError
from .messages import Query, read_query, write_query
from .retrieve import Retriever
from .standing import Place, Standing, StandingIndex, signature
from .view import IndexView

_LOG = logging.getLogger(__name__)
_RETRY_S: Final = 1.0

Send = Callable[[int, bytes, bytes], Awaitable[None]]
"""A record to a partition of `queries`: partition, key, value."""


@dataclass(slots=True)
class _Known:
    standing: Standing
    query: Query
    asked: str = ""
    """Signature it was asked again for, until the answer comes."""


class StandingQuestions:
    """Of one process. `put`, `drop` and `forget` from any thread; `run` in the loop of the view."""

    def __init__(self, asking: Asking, view: IndexView, retriever: Callable[[], Retriever], send: Send) -> None:
        self._asking = asking
        self._view = view
        self._retriever = retriever
        self._send = send
        self._arrivals: deque[Callable[[], None]] = deque()
        self._known: dict[Place, _Known] = {}
        self._due: dict[Place, None] = {}
        self._index: StandingIndex | None = None
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # From tasks, in any thread

    def put(self, place: Place, standing: Standing, *, look: bool = True) -> None:
        """It stands. `look`: whether its hits are to be looked at now."""
        self._arrive(lambda: self._put(place, standing, look=look))

    def drop(self, place: Place) -> None:
        self._arrive(lambda: self._forget([place]))

    def forget(self, partition: int) -> None:
        """The task has gone to another process."""
        self._arrive(lambda: self._forget([place for place in self._known if place[0] == partition]))

    def _arrive(self, arrival: Callable[[], None]) -> None:
        self._arrivals.append(arrival)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def _put(self, place: Place, standing: Standing, *, look: bool) -> None:
        self._known[place] = _Known(standing, read_query(place[1], standing.query))
        if look:
            self._due[place] = None

    def _forget(self, places: Sequence[Place]) -> None:
        for place in places:
            self._known.pop(place, None)
            self._due.pop(place, None)
        if self._index is not None:
            self._index.drop(places)

    # In the loop

    async def run(self) -> None:
        """Until cancelled. What goes wrong with one question is logged, and tried again at the next change."""
        self._loop = asyncio.get_running_loop()
        self._view.listeners.append(self._changed)
        try:
            while True:
                self._wake.clear()
                while self._arrivals:
                    self._arrivals.popleft()()
                if not self._due:
                    await self._wake.wait()
                elif await self._is_ready():
                    await self._look(next(iter(self._due)))
        finally:
            self._view.listeners.remove(self._changed)

    async def _is_ready(self) -> bool:
        try:
            await self._view.wait_ready(self._asking.settings.ready_timeout_ms)
        except NotFreshError as error:
            _LOG.warning("standing questions: %s", error)
            await asyncio.sleep(_RETRY_S)  # the view says what is wrong with it; here it is only waited for
            return False
        return True

    def _changed(self, keys: Sequence[bytes]) -> None:
        """The view has applied these records."""
        if self._index is None or not len(self._index):
            return
        touched = self._index.touched(
            {key.decode("utf-8", "replace") for key in keys}, self._view.state.held(keys), self._retriever().sigma()
        )
        self._due.update(dict.fromkeys(touched))
        if touched:
            self._wake.set()

    async def _look(self, place: Place) -> None:
        """At one that is due: asks again if its hits are others."""
        self._due.pop(place, None)
        known = self._known.get(place)
        if known is None:
            return
        try:
            found = await self._hits(place, known)
        except RagError as error:
            _LOG.warning("standing question %r: %s", place[1], error)
            return
        if self._known.get(place) is not known:  # answered meanwhile, or ended: what was found is of then
            self._due.update({place: None} if place in self._known else {})
        elif found not in {known.standing.shown, known.asked}:
            known.asked = found
            again = replace(known.query, again=True, fresh_after=self._passed())
            try:
                await self._send(*place, write_query(again))
            except BrokerUnavailableError as error:
                _LOG.warning("standing question %r cannot be asked again yet: %s", place[1], error)
                known.asked, self._due[place] = "", None
                await asyncio.sleep(_RETRY_S)

    async def _hits(self, place: Place, known: _Known) -> str:
        """Watches the question by what there is now, and gives the signature of its hits."""
        retriever = self._retriever()
        found = await self._asking.looked_up(known.query, retriever)
        if self._index is None:
            weight = retriever.ranking.coverage_weight
            self._index = StandingIndex(len(found.vector), weight, retriever.view.keywords.terms)
        if self._known.get(place) is known:
            keywords = retriever.view.keywords
            tenant = known.query.tenant
            within = retriever.numbers(tenant)
            weights = {term: keywords.idf(term, within) for term in keywords.terms.unique(known.query.question)}
            sigma = retriever.sigma(tenant)
            self._index.watch(place, found.vector, found.hits, found.wanted, weights, sigma=sigma)
        return signature((await self._asking.ranked(known.query, found, retriever)).hits)

    def _passed(self) -> dict[int, int]:
        """The last offset of each partition that is in."""
        return {partition: offset - 1 for partition, offset in self._view.positions().items() if offset > 0}
