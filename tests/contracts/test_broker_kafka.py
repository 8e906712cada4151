"""A real Kafka keeps the promises of a broker: the same suites as over the memory broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from millstream.topics.kafka import KafkaBroker
from tests.contracts.broker_contract import ReadingContract, TopicsContract, WritingContract
from tests.contracts.group_contract import GroupContract
from tests.contracts.transaction_contract import FencingContract, TransactionalOffsetsContract, TransactionContract

pytestmark = pytest.mark.kafka


@pytest.fixture
async def broker(kafka: str) -> AsyncIterator[KafkaBroker]:
    # Short times, because every group's last stop would otherwise leave the next test's join waiting for them.
    broker = KafkaBroker({"bootstrap.servers": kafka, "rebalance.timeout.ms": 3_000, "request.timeout.ms": 3_000})
    await broker.start()
    yield broker
    await broker.stop()


class TestTopics(TopicsContract):
    pass


class TestWriting(WritingContract):
    pass


class TestReading(ReadingContract):
    pass


class TestTransactions(TransactionContract):
    pass


class TestFencing(FencingContract):
    pass


class TestTransactionalOffsets(TransactionalOffsetsContract):
    pass


class TestGroups(GroupContract):
    pass
