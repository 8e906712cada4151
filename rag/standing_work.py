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
from .errors import ModelUnavailableError, NotFreshError, RagError
from .messages import Query, read_query, write_query
from .retrieve import Retriever
from .standing import Place, Standing, StandingIndex, retry_pause_ms, signature
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


class NoStandingQuestions:
    """Where no process holds the whole index: nothing can be looked at again. What stood before keeps the answer it has."""

    def put(self, place: Place, standing: Standing, *, failed: bool = False) -> None:
        _LOG.warning("standing question %r is not kept up to date: the index is in shards", place[1])

    def drop(self, place: Place) -> None:
        """Nothing stands."""

    def forget(self, partition: int) -> None:
        """Nothing stands."""

    async def run(self) -> None:
        """There is nothing to do."""


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
        self._failures: dict[Place, int] = {}
        self._retries: dict[Place, asyncio.TimerHandle] = {}
        self._index: StandingIndex | None = None
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # From tasks, in any thread

    def put(self, place: Place, standing: Standing, *, failed: bool = False) -> None:
        """It stands, and its hits are looked at. `failed`: it could not be answered anew, and is looked at after a pause."""
        self._arrive(lambda: self._put(place, standing, failed=failed))

    def drop(self, place: Place) -> None:
        self._arrive(lambda: self._forget([place]))

    def forget(self, partition: int) -> None:
        """The task has gone to another process."""
        self._arrive(lambda: self._forget([place for place in self._known if place[0] == partition]))

    def _arrive(self, arrival: Callable[[], None]) -> None:
        self._arrivals.append(arrival)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def _put(self, place: Place, standing: Standing, *, failed: bool) -> None:
        self._known[place] = _Known(standing, read_query(place[1], standing.query))
        if failed:
            self._later(place)
        else:
            self._settled(place)
            self._due[place] = None

    def _forget(self, places: Sequence[Place]) -> None:
        for place in places:
            self._known.pop(place, None)
            self._due.pop(place, None)
            self._settled(place)
        if self._index is not None:
            self._index.drop(places)

    # Trying again

    def _later(self, place: Place) -> None:
        """One retry is under way at most; a change of its documents meanwhile does not count as one."""
        settings, failures = self._asking.settings, self._failures.get(place, 0)
        if place in self._retries or self._loop is None:
            return
        if failures >= settings.standing_retries_max:
            _LOG.error(
                "standing question %r: given up after %d retries (standing_retries_max), until its documents change",
                *(place[1], failures),
            )
            return
        self._failures[place] = failures + 1
        pause_ms = retry_pause_ms(failures, settings.standing_retry_ms, settings.standing_retry_ms_max)
        self._retries[place] = self._loop.call_later(pause_ms / 1000, self._again, place)

    def _again(self, place: Place) -> None:
        self._retries.pop(place, None)
        self._due[place] = None
        self._wake.set()

    def _settled(self, place: Place) -> None:
        self._failures.pop(place, None)
        if (retry := self._retries.pop(place, None)) is not None:
            retry.cancel()

    # In the loop

    async def run(self) -> None:
        """Until cancelled. What goes wrong with one question is logged, and tried again after a pause."""
        self._loop = asyncio.get_running_loop()
        self._view.listeners.append(self._changed)
        self._view.restarted.append(self._look_at_all)
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
            self._view.restarted.remove(self._look_at_all)
            for place in list(self._retries):
                self._settled(place)

    async def _is_ready(self) -> bool:
        try:
            await self._view.wait_ready(self._asking.settings.ready_timeout_ms)
        except NotFreshError as error:
            _LOG.warning("standing questions: %s", error)
            await asyncio.sleep(_RETRY_S)  # the view says what is wrong with it; here it is only waited for
            return False
        return True

    def _look_at_all(self) -> None:
        """The index was thrown away and is read anew: what was found in it before may be gone."""
        self._due.update(dict.fromkeys(self._known))
        self._wake.set()

    def _changed(self, keys: Sequence[bytes]) -> None:
        """The view has applied these records."""
        if self._index is None or not len(self._index):
            return
        touched = self._index.touched(
            {key.decode("utf-8", "replace") for key in keys}, self._view.state.held(keys), self._retriever().sigma()
        )
        self._due.update(dict.fromkeys(touched))
        for place in touched:
            self._failures.pop(place, None)
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
            self._later(place)
            return
        if self._known.get(place) is not known:  # answered meanwhile, or ended: what was found is of then
            self._due.update({place: None} if place in self._known else {})
        elif found == known.standing.shown:
            self._settled(place)
        elif found != known.asked:
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
        ranked = await self._asking.ranked(known.query, found, retriever)
        if ranked.failure is not None:  # another order is no other finding
            raise ModelUnavailableError(ranked.failure)
        return signature(ranked.hits)

    def _passed(self) -> dict[int, int]:
        """The last offset of each partition that is in."""
        return {partition: offset - 1 for partition, offset in self._view.positions().items() if offset > 0}
