"""Topics and groups of a cluster: created, described, deleted.

The client answers `create_topics` with a list of errors instead of raising; every code is read here. Creating and
deleting wait until every broker knows of it, so that what follows finds (or does not find) the topic.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import aiokafka.errors as kafka
from aiokafka.protocol.admin import (
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
)
from aiokafka.protocol.coordination import FindCoordinatorRequest

from ..batch import Partition
from ..broker import Committed, TopicInfo, TopicSpec
from ..errors import BrokerUnavailableError, ConfigurationError, TopicsError
from .client import Client
from .errors import translated
from .offsets import committed_offsets
from .protocol import TopicIdMetadataRequest
from .settings import KafkaSettings

T = TypeVar("T")

_TOPIC_RESOURCE: Final = 2
_ALREADY_EXISTS: Final = 36
_UNKNOWN_TOPIC: Final = 3
_GROUP_NOT_FOUND: Final = 69
_REPLICATION: Final = 38
_NON_EMPTY_GROUP: Final = 68
_DEFAULT: Final = -1
_RANDOM_TAIL: Final = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


class KafkaAdmin:
    """Give it a connected client. Every call has a deadline; until then what is retriable is tried again."""

    def __init__(self, client: Client, settings: KafkaSettings, *, deadline_ms: int = 30_000) -> None:
        self._client = client
        self._request_ms = settings.request_timeout_ms
        self._backoff_s = max(settings.retry_backoff_ms, 20) / 1000
        self._deadline_ms = deadline_ms

    async def list_topics(self) -> list[str]:
        response = await self._ask("listing topics", lambda: TopicIdMetadataRequest(None))
        return sorted(row.name for row in _topic_rows(response) if not row.internal)

    async def describe_topics(self, names: Collection[str]) -> dict[str, TopicInfo]:
        if not names:
            return {}
        wanted = sorted(set(names))
        doing = f"describing {', '.join(wanted)}"
        response = await self._ask(doing, lambda: TopicIdMetadataRequest(wanted))
        rows = []
        for row in _topic_rows(response):
            if row.code == _UNKNOWN_TOPIC:
                continue
            if row.code and not getattr(kafka.for_code(row.code), "retriable", False):
                raise translated(kafka.for_code(row.code)(row.name), doing)
            rows.append(row)
        configs = await self._configs([row.name for row in rows]) if rows else {}
        return {
            row.name: TopicInfo(row.name, row.topic_id, len(row.leaders), configs[row.name])
            for row in rows
            if row.name in configs
        }

    async def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        doing = f"reading the configuration of {', '.join(names)}"
        resources = [(_TOPIC_RESOURCE, name, None) for name in names]
        response = await self._ask(doing, lambda: DescribeConfigsRequest(resources, False))
        found = {}
        for code, message, _, name, entries in response.resources:
            if code == _UNKNOWN_TOPIC:
                continue
            if code:
                raise translated(kafka.for_code(code)(message), doing)
            found[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        return found

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Raises ConfigurationError naming the topic for what the broker refuses."""
        if not specs:
            return
        doing = f"creating {', '.join(spec.name for spec in specs)}"
        wanted = [_creation(spec) for spec in specs]
        response = await self._ask(
            doing,
            lambda: CreateTopicsRequest(wanted, self._request_ms, False),
            node=self._controller,
            codes=_topic_codes,
        )
        self._raise_refused(doing, response.topic_errors, ignore=_ALREADY_EXISTS)
        await self._until(doing, lambda: self._usable_everywhere([spec.name for spec in specs]))

    async def delete_topics(self, names: Collection[str]) -> None:
        """Those that do not exist are ignored."""
        if not names:
            return
        doing = f"deleting {', '.join(sorted(names))}"
        response = await self._ask(
            doing,
            lambda: DeleteTopicsRequest(sorted(names), self._request_ms),
            node=self._controller,
            codes=lambda answer: [row[1] for row in answer.topic_error_codes],
        )
        self._raise_refused(doing, response.topic_error_codes, ignore=_UNKNOWN_TOPIC)
        await self._until(doing, lambda: self._gone_everywhere(sorted(names)))

    async def delete_records(self, before: Mapping[Partition, int]) -> None:
        doing = f"deleting records of {', '.join(sorted(map(str, before)))}"

        async def attempt() -> None:
            for node, topics in (await self._by_leader(before)).items():
                response = await self._client.ask(DeleteRecordsRequest(topics, self._request_ms), node=node)
                for topic, rows, *_more in response.topics:
                    for index, _low, code, *_tags in rows:
                        if code:
                            raise kafka.for_code(code)(f"{topic}-{index}")

        if before:
            await self._retried(doing, attempt)

    async def _by_leader(self, before: Mapping[Partition, int]) -> dict[int, list[tuple[str, list[tuple[int, int]]]]]:
        response = await self._client.ask(TopicIdMetadataRequest(sorted({part.topic for part in before})))
        leaders = {
            Partition(row.name, index): leader for row in _topic_rows(response) for index, leader in row.leaders.items()
        }
        requests: defaultdict[int, defaultdict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for partition, offset in before.items():
            leader = leaders.get(partition)
            if leader is None:
                raise ConfigurationError(f"{partition} does not exist")
            if leader < 0:
                raise kafka.LeaderNotAvailableError(str(partition))
            requests[leader][partition.topic].append((partition.index, offset))
        return {leader: list(topics.items()) for leader, topics in requests.items()}

    async def group_offsets(self, group: str) -> dict[Partition, Committed]:
        node: list[int] = []

        async def send(request: Any) -> Any:
            if not node:
                node.append(await self._coordinator(group))
            return await self._client.ask(request, node=node[0])

        return await committed_offsets(send, group, None, coordinator_lost=node.clear, deadline_ms=self._deadline_ms)

    async def group_members(self, group: str) -> list[str]:
        """A member's id is its instance or client id and a random tail, which is left out."""

        async def attempt() -> list[str]:
            response = await self._client.ask(DescribeGroupsRequest([group]), node=await self._coordinator(group))
            found = []
            for code, _, _, _, _, members, *_more in response.groups:
                if code and code != _GROUP_NOT_FOUND:
                    raise kafka.for_code(code)(group)
                found += [f"{_RANDOM_TAIL.sub('', member[0])} at {member[2].lstrip('/')}" for member in members]
            return sorted(found)

        return await self._retried(f"asking who is in group {group!r}", attempt)

    async def delete_group(self, group: str) -> None:
        doing = f"deleting group {group!r}"

        async def attempt() -> None:
            response = await self._client.ask(DeleteGroupsRequest([group]), node=await self._coordinator(group))
            for _, code in response.results:
                if code == _NON_EMPTY_GROUP:
                    raise ConfigurationError(f"{doing}: it has members; stop them first")
                if code and code != _GROUP_NOT_FOUND:
                    raise kafka.for_code(code)(group)

        await self._retried(doing, attempt)

    async def _coordinator(self, group: str) -> int:
        response = await self._client.ask(FindCoordinatorRequest(group, 0))
        if response.error_code:
            raise kafka.for_code(response.error_code)(group)
        return int(response.coordinator_id)

    # -- asking ---------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        doing: str,
        request: Callable[[], Any],
        *,
        node: Callable[[], int | None] = lambda: None,
        codes: Callable[[Any], Iterable[int]] = lambda _: (),
    ) -> Any:
        """`codes`: errors of the answer, of which the retriable ones ask again."""

        async def attempt() -> Any:
            response = await self._client.ask(request(), node=node())
            for code in codes(response):
                kind = kafka.for_code(code)
                if code and code not in (_UNKNOWN_TOPIC, _ALREADY_EXISTS) and getattr(kind, "retriable", False):
                    raise kind(doing)
            return response

        return await self._retried(doing, attempt)

    async def _retried(self, doing: str, attempt: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._deadline_ms / 1000
        while True:
            try:
                async with asyncio.timeout_at(until):
                    return await attempt()
            except TopicsError:
                raise
            except TimeoutError:
                raise BrokerUnavailableError(f"{doing}: no answer in {self._deadline_ms} ms") from None
            except (kafka.KafkaError, OSError) as error:
                retriable = isinstance(error, OSError) or error.retriable
                if not retriable or loop.time() + self._backoff_s >= until:
                    raise translated(error, doing) from error
                if not isinstance(error, OSError) and error.invalid_metadata:
                    self._client.force_metadata_update()
            await asyncio.sleep(self._backoff_s)

    async def _until(self, doing: str, done: Callable[[], Awaitable[bool]]) -> None:
        async def attempt() -> None:
            if not await done():
                raise kafka.LeaderNotAvailableError("not every broker knows yet")

        await self._retried(doing, attempt)

    async def _usable_everywhere(self, names: list[str]) -> bool:
        for node in self._nodes():
            response = await self._client.ask(TopicIdMetadataRequest(names), node=node)
            for row in _topic_rows(response):
                if row.code or not row.leaders or min(row.leaders.values()) < 0:
                    return False
        return True

    async def _gone_everywhere(self, names: list[str]) -> bool:
        for node in self._nodes():
            response = await self._client.ask(TopicIdMetadataRequest(names), node=node)
            if any(row.code != _UNKNOWN_TOPIC for row in _topic_rows(response)):
                return False
        return True

    def _nodes(self) -> list[int]:
        return [broker.nodeId for broker in self._client.cluster.brokers()]

    def _controller(self) -> int | None:
        controller = self._client.cluster.controller
        return None if controller is None else int(controller.nodeId)

    def _raise_refused(self, doing: str, answers: Iterable[Sequence[Any]], *, ignore: int) -> None:
        for answer in answers:
            name, code = answer[0], answer[1]
            if code and code != ignore:
                message = answer[2] if len(answer) > 2 and answer[2] else kafka.for_code(code).__name__
                raise translated(kafka.for_code(code)(f"topic {name!r}: {message}"), doing)


class _TopicRow:
    """A topic of a Metadata answer of any version."""

    def __init__(self, row: Sequence[Any], version: int) -> None:
        if version >= 10:
            self.code, self.name, self.topic_id, self.internal, partitions = row[:5]
        else:
            self.code, self.name, self.internal, partitions = row[:4]
            self.topic_id = ""
        self.leaders: dict[int, int] = {part[1]: part[2] for part in partitions}


def _topic_rows(response: Any) -> list[_TopicRow]:
    return [_TopicRow(row, response.API_VERSION) for row in response.topics]


def _topic_codes(response: Any) -> list[int]:
    """Brokers that are fenced for a moment (just started, or too busy to say that they live) are no wrong replication."""
    return [
        kafka.LeaderNotAvailableError.errno if row[1] == _REPLICATION and "fenced" in str(row[2:]) else row[1]
        for row in response.topic_errors
    ]


def _creation(spec: TopicSpec) -> Any:
    config = {"cleanup.policy": spec.cleanup, **spec.config}
    partitions = _DEFAULT if spec.partitions is None else spec.partitions
    replication = _DEFAULT if spec.replication is None else spec.replication
    return (spec.name, partitions, replication, [], sorted(config.items()))
