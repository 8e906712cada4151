"""The contract suite over the memory broker."""

from __future__ import annotations

import pytest

from millstream.topics.memory import MemoryBroker, MemorySettings
from tests.contracts.broker_contract import ReadingContract, TopicsContract, WritingContract
from tests.contracts.group_contract import GroupContract
from tests.contracts.transaction_contract import FencingContract, TransactionalOffsetsContract, TransactionContract


@pytest.fixture
async def broker() -> MemoryBroker:
    broker = MemoryBroker(settings=MemorySettings(rebalance_timeout_ms=2_000))
    await broker.start()
    return broker


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
