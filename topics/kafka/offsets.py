"""Committed offsets, surely: our own OffsetFetch.

aiokafka 0.14 ignores the top-level error of OffsetFetch v2 and later, so "the coordinator is loading" and "I am not the
coordinator" look like "nothing was ever committed", and a consumer starts over. Here every error is read, the ones that
say "not now" are retried, and version 7 with `require_stable` (no offsets while a transaction over them is being
completed) is used where the broker offers it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import aiokafka.errors as kafka

from ..batch import Partition
from ..broker import Committed
from ..errors import BrokerUnavailableError
from .errors import COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, RETRY_OFFSETS, UNSTABLE_OFFSET_COMMIT, translated
from .protocol import StableOffsetFetchRequest

Send = Callable[[Any], Awaitable[Any]]

_HELD_OPEN = (
    "a transaction over them is open. Where that goes on although its producer was started anew, the broker has lost the "
    "transaction's end in a restart, and the next commit of that producer decides; see docs/decisions/0033"
)


async def committed_offsets(
    send: Send,
    group: str,
    partitions: Collection[Partition] | None,
    *,
    coordinator_lost: Callable[[], None],
    deadline_ms: int = 30_000,
    retry_backoff_ms: int = 50,
) -> dict[Partition, Committed]:
    """What the coordinator has for the partitions (None: for all the group ever committed).

    `send` sends to the group's coordinator and finds it where needed.
    Raises BrokerUnavailableError at the deadline, AuthorizationError.
    """
    doing = f"reading committed offsets of group {group!r}"
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline_ms / 1000
    last = ""
    while loop.time() < until:
        try:
            async with asyncio.timeout_at(until):
                response = await send(_request(group, partitions))
        except (kafka.KafkaError, OSError, TimeoutError) as error:
            if isinstance(error, kafka.KafkaError) and not error.retriable:
                raise translated(error, doing) from error
            last = repr(error)
        else:
            code = _first_error(response)
            if code == 0:
                return _offsets(response)
            if code not in RETRY_OFFSETS:
                raise translated(kafka.for_code(code)(), doing)
            if code in (COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR):
                coordinator_lost()
            last = f"error {code} ({_HELD_OPEN if code == UNSTABLE_OFFSET_COMMIT else kafka.for_code(code).__name__})"
        await asyncio.sleep(retry_backoff_ms / 1000)
    raise BrokerUnavailableError(f"{doing}: no answer for {deadline_ms} ms, the last one was {last}")


def _request(group: str, partitions: Collection[Partition] | None) -> Any:
    topics: list[tuple[str, list[int]]] | None = None
    if partitions is not None:
        by_topic: defaultdict[str, list[int]] = defaultdict(list)
        for partition in sorted(partitions):
            by_topic[partition.topic].append(partition.index)
        topics = list(by_topic.items())
    return StableOffsetFetchRequest(group, topics)


def _first_error(response: Any) -> int:
    top = getattr(response, "error_code", 0)
    if top:
        return int(top)
    for topic in response.topics:
        for row in topic[1]:
            code = int(row[4] if response.API_VERSION >= 7 else row[3])
            if code:
                return code
    return 0


def _offsets(response: Any) -> dict[Partition, Committed]:
    newer = response.API_VERSION >= 7
    return {
        Partition(topic[0], row[0]): Committed(row[1], (row[3] if newer else row[2]) or "")
        for topic in response.topics
        for row in topic[1]
        if row[1] >= 0
    }
