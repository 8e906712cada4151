"""`KafkaBroker`: the `Broker` protocol over a real cluster."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence

import aiokafka.errors as kafka

from ..batch import Partition
from ..broker import (
    Assignor,
    Committed,
    Isolation,
    RebalanceListener,
    TopicInfo,
    TopicSpec,
)
from ..errors import ConfigurationError
from .admin import KafkaAdmin
from .client import Client
from .consumer import KafkaGroupConsumer
from .log_limit import LogLimit
from .probe import why_unreachable
from .producer import KafkaProducer
from .reader import KafkaReader
from .settings import KafkaSettings
from .transactions import NO_MEMBER, TransactionMember


class KafkaBroker:
    """Producers, consumers and readers of one cluster, and its topics.

    Made with `KafkaSettings.of({...})` or a mapping of Kafka's names. Everything it opens has its own connections, and is
    to be stopped by who opened it. A transactional producer finds the group member its offsets belong to among the
    consumers of the same broker object.
    """

    def __init__(self, settings: KafkaSettings | Mapping[str, object]) -> None:
        self._settings = settings if isinstance(settings, KafkaSettings) else KafkaSettings.of(settings)
        self._client: Client | None = None
        self._logs = LogLimit()
        self._consumers: weakref.WeakSet[KafkaGroupConsumer] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"KafkaBroker({self._settings.bootstrap_servers!r}, {self._settings.security_protocol})"

    async def start(self) -> None:
        if self._client is not None:
            return
        self._settings.check()
        client = Client(self._settings)
        self._logs.install()
        try:
            await client.bootstrap()
        except (kafka.KafkaError, OSError):
            await client.shut()
            self._logs.remove()
            raise await why_unreachable(self._settings) from None
        self._client = client

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.shut()
            self._logs.remove()

    def producer(self, *, transactional_id: str | None = None) -> KafkaProducer:
        return KafkaProducer(self._settings, transactional_id, self._member)

    def reader(self, *, isolation: Isolation = "read_committed") -> KafkaReader:
        return KafkaReader(self._settings, isolation)

    def consumer(
        self,
        *,
        group: str,
        topics: Collection[str],
        assignor: Assignor,
        listener: RebalanceListener,
        instance_id: str | None = None,
        isolation: Isolation = "read_committed",
    ) -> KafkaGroupConsumer:
        consumer = KafkaGroupConsumer(
            self._settings,
            group=group,
            topics=topics,
            assignor=assignor,
            listener=listener,
            instance_id=instance_id,
            isolation=isolation,
            on_stop=self._consumers.discard,
        )
        self._consumers.add(consumer)
        return consumer

    def _member(self, group: str, partitions: Collection[Partition]) -> TransactionMember:
        for consumer in self._consumers:
            if consumer.group == group and consumer.owns(partitions):
                member = consumer.member()
                return member.generation, member.member_id, member.instance_id
        return NO_MEMBER

    async def describe_topics(self, names: Collection[str]) -> dict[str, TopicInfo]:
        return await self._admin().describe_topics(names)

    async def list_topics(self) -> list[str]:
        return await self._admin().list_topics()

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._admin().create_topics(specs)

    async def delete_topics(self, names: Collection[str]) -> None:
        await self._admin().delete_topics(names)

    async def delete_records(self, before: Mapping[Partition, int]) -> None:
        await self._admin().delete_records(before)

    async def group_offsets(self, group: str) -> dict[Partition, Committed]:
        return await self._admin().group_offsets(group)

    async def group_members(self, group: str) -> list[str]:
        return await self._admin().group_members(group)

    async def delete_group(self, group: str) -> None:
        await self._admin().delete_group(group)

    def _admin(self) -> KafkaAdmin:
        if self._client is None:
            raise ConfigurationError(f"{self!r} is not started")
        return KafkaAdmin(self._client, self._settings)
