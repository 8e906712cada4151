"""Newer versions of a few requests than aiokafka 0.14 knows (its own: transactions v0, OffsetFetch v3, Metadata v5).

Used only where the broker offers them; field lists are those of Apache Kafka's message definitions.
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetFetchRequest_v1, OffsetFetchRequest_v2, OffsetFetchRequest_v3
from aiokafka.protocol.metadata import MetadataRequest_v4, MetadataRequest_v5
from aiokafka.protocol.transaction import TxnOffsetCommitRequest_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

OFFSET_FETCH = 9
TXN_OFFSET_COMMIT = 28
METADATA = 3


class OffsetFetchResponseV7(Response):  # type: ignore[misc]
    API_KEY = OFFSET_FETCH
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class OffsetFetchRequestV7(RequestStruct):  # type: ignore[misc]
    API_KEY = OFFSET_FETCH
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = OffsetFetchResponseV7
    SCHEMA = Schema(
        ("group_id", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class StableOffsetFetchRequest(
    Request[OffsetFetchRequest_v1 | OffsetFetchRequest_v2 | OffsetFetchRequest_v3 | OffsetFetchRequestV7]  # type: ignore[misc]
):
    """OffsetFetch; from version 7 on the answer is error 88 while a transaction's offsets are pending (KIP-447)."""

    API_KEY = OFFSET_FETCH

    def __init__(self, group: str, topics: list[tuple[str, list[int]]] | None) -> None:
        self._group = group
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class.API_VERSION < 7:
            return request_struct_class(self._group, self._topics)
        topics: Any = None if self._topics is None else [(topic, partitions, {}) for topic, partitions in self._topics]
        return request_struct_class(self._group, topics, True, {})


class TxnOffsetCommitResponseV3(Response):  # type: ignore[misc]
    API_KEY = TXN_OFFSET_COMMIT
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "errors",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partition_errors",
                    CompactArray(("partition", Int32), ("error_code", Int16), ("tags", TaggedFields)),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class TxnOffsetCommitRequestV3(RequestStruct):  # type: ignore[misc]
    API_KEY = TXN_OFFSET_COMMIT
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TxnOffsetCommitResponseV3
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("group_id", CompactString("utf-8")),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", CompactString("utf-8")),
        ("group_instance_id", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class MemberTxnOffsetCommitRequest(
    Request[TxnOffsetCommitRequest_v0 | TxnOffsetCommitRequestV3]  # type: ignore[misc]
):
    """Offsets of a transaction; from version 3 on with the group member they belong to (KIP-447)."""

    API_KEY = TXN_OFFSET_COMMIT

    def __init__(
        self,
        producer: tuple[str, str, int, int],
        member: tuple[int, str, str | None],
        topics: list[tuple[str, list[tuple[int, int, str]]]],
    ) -> None:
        """`producer`: transactional id, group, producer id, epoch. `member`: generation, member id, instance id.
        `topics`: partition, offset and metadata by topic."""
        self._producer = producer
        self._member = member
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class.API_VERSION < 3:
            return request_struct_class(*self._producer, self._topics)
        topics: Any = [
            (topic, [(partition, offset, -1, metadata, {}) for partition, offset, metadata in rows], {})
            for topic, rows in self._topics
        ]
        return request_struct_class(*self._producer, *self._member, topics, {})


class _Uuid(Int64):  # type: ignore[misc]
    """Sixteen bytes, as hexadecimal text."""

    @classmethod
    def encode(cls, value: Any) -> bytes:
        return bytes.fromhex(value) if value else bytes(16)

    @classmethod
    def decode(cls, data: Any) -> Any:
        return data.read(16).hex()


class MetadataResponseV10(Response):  # type: ignore[misc]
    API_KEY = METADATA
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequestV10(RequestStruct):  # type: ignore[misc]
    API_KEY = METADATA
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponseV10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdMetadataRequest(
    Request[MetadataRequest_v4 | MetadataRequest_v5 | MetadataRequestV10]  # type: ignore[misc]
):
    """Metadata that never creates a topic; from version 10 on with topic ids (KIP-516). None: all topics."""

    API_KEY = METADATA

    def __init__(self, topics: list[str] | None) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class.API_VERSION < 10:
            return request_struct_class(self._topics, False)
        topics: Any = None if self._topics is None else [("", name, {}) for name in self._topics]
        return request_struct_class(topics, False, False, False, {})
