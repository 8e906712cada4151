"""aiokafka's connection pool with an end: once shut it opens nothing and waits for nothing.

The stock client reconnects whenever something asks, so a background task of a dropped producer would go on for ever.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from typing import Any, Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.api import Request
from aiokafka.protocol.metadata import MetadataRequest

from ..errors import AuthorizationError, BrokerUnavailableError, ConfigurationError
from .settings import KafkaSettings

log = logging.getLogger("aiokafka")

_BOOTSTRAP: Final = ("bootstrap", ConnectionGroup.DEFAULT)


class Client(AIOKafkaClient):  # type: ignore[misc]
    """Connections to the brokers of one cluster."""

    def __init__(self, settings: KafkaSettings, *, request_timeout_ms: int | None = None) -> None:
        super().__init__(**settings.client_arguments(request_timeout_ms=request_timeout_ms))
        self._shut = False

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        if self._shut:
            raise KafkaConnectionError("the client is closed")
        return await super()._get_conn(node_id, group=group, no_hint=no_hint)

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        """As the stock one, but never lets the broker create a topic because somebody misspelt its name."""
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        if _BOOTSTRAP in self._conns:
            nodes.append("bootstrap")
        random.shuffle(nodes)
        request = MetadataRequest(None if topics is None else list(topics), allow_auto_topic_creation=False)
        for node in nodes:
            connection = await self._get_conn(node)
            if connection is None:
                continue
            try:
                metadata = await connection.send(request)
            except (KafkaError, TimeoutError) as error:
                log.warning("node %s did not answer a metadata request: %r", node, error)
                continue
            if not metadata.brokers:
                return False
            cluster_metadata.update_metadata(metadata)
            if _BOOTSTRAP in self._conns and self.cluster.brokers():
                self._conns.pop(_BOOTSTRAP).close()
            return True
        log.warning("no node of %s answered a metadata request", nodes)
        cluster_metadata.failed_update(None)
        await asyncio.sleep(self._retry_backoff)
        return False

    def force_metadata_update(self) -> asyncio.Future[bool]:
        if self._shut:
            raise KafkaConnectionError("the client is closed")
        result: asyncio.Future[bool] = super().force_metadata_update()
        return result

    def offers(self, api_key: int, version: int) -> bool:
        """Whether a connected broker speaks this version of the request."""
        for connection in self._conns.values():
            lowest, highest = connection._versions.get(api_key, (0, -1))
            if lowest <= version <= highest:
                return True
        return False

    async def partitions_of(self, topic: str, *, doing: str, patience_ms: int = 1_000) -> frozenset[int]:
        """The topic's partitions, asked for where they are not known yet.

        Raises ConfigurationError when brokers that answer have not known the topic for `patience_ms`,
        BrokerUnavailableError when none has answered for a request timeout, AuthorizationError.
        """
        loop = asyncio.get_running_loop()
        asked = loop.time()
        missing_since: float | None = None
        while not (known := self.cluster.partitions_for_topic(topic)):
            if topic in self.cluster.unauthorized_topics:
                raise AuthorizationError(f"{doing}: no right to describe topic {topic!r}; ask for it")
            self._topics.add(topic)
            answered = await self._answered_update(asked + self._request_timeout_ms / 1000)
            now = loop.time()
            if answered:
                missing_since = missing_since or now
                if now - missing_since > patience_ms / 1000 and not self.cluster.partitions_for_topic(topic):
                    raise ConfigurationError(f"{doing}: topic {topic!r} does not exist; create it first")
            elif now - asked > self._request_timeout_ms / 1000:
                raise BrokerUnavailableError(f"{doing}: no broker answered what topic {topic!r} is")
            if not self.cluster.partitions_for_topic(topic):
                await asyncio.sleep(self._retry_backoff)
        return frozenset(known)

    async def ask_about(self, topics: Collection[str]) -> None:
        """Asks once for those that are not known yet: the stock client finds that out by failing, and waits before it asks."""
        unknown = {topic for topic in topics if not self.cluster.partitions_for_topic(topic)}
        if unknown:
            self._topics.update(unknown)
            await self._answered_update(asyncio.get_running_loop().time() + self._request_timeout_ms / 1000)

    async def _answered_update(self, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                return bool(await self.force_metadata_update())
        except (KafkaError, TimeoutError):
            return False

    async def ask(self, request: Request[Any], *, node: int | None = None) -> Any:
        """Send to the node, or to any."""
        target = self.get_random_node() if node is None else node
        return await self.send("bootstrap" if target is None else target, request)

    async def shut(self, *, deadline_ms: int = 2_000) -> None:
        """Close every connection; gives up waiting for them at the deadline."""
        if self._shut:
            return
        self._shut = True
        closing = asyncio.ensure_future(self.close())
        await asyncio.wait([closing], timeout=deadline_ms / 1000)
        if not closing.done():
            closing.cancel()
        elif not closing.cancelled():
            closing.exception()  # what its background task died of does not matter any more
