"""The private parts of aiokafka 0.14 that are used: an upgrade that changes one fails here, with its name."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, Subscription, SubscriptionState, TopicPartitionState
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch
from aiokafka.producer.transaction_manager import TransactionManager, TransactionState
from aiokafka.record.default_records import DefaultRecordBatch

SIGNATURES = [
    (AIOKafkaClient._get_conn, "(self, node_id, *, group=<ConnectionGroup.DEFAULT: 0>, no_hint=False)"),
    (AIOKafkaClient._metadata_update, "(self, cluster_metadata, topics)"),
    (AIOKafkaClient.force_metadata_update, "(self)"),
    (Fetcher._proc_fetch_request, "(self, assignment, node_id, request)"),
    (Fetcher._get_actions_per_node, "(self, assignment)"),
    (Fetcher._retrieve_offsets, "(self, timestamps, timeout_ms=None)"),
    (Fetcher._create_fetch_waiter, "(self)"),
    (Fetcher._notify, "(self, future)"),
    (Fetcher.seek_to, "(self, tp, offset)"),
    (GroupCoordinator._send_req, "(self, request)"),
    (GroupCoordinator._do_heartbeat, "(self)"),
    (GroupCoordinator._push_error_to_user, "(self, exc)"),
    (GroupCoordinator.reset_generation, "(self)"),
    (GroupCoordinator.commit_offsets, "(self, assignment, offsets)"),
    (GroupCoordinator.ensure_coordinator_known, "(self)"),
    (SubscriptionState.abort_waiters, "(self, exc)"),
    (TopicPartitionState.consumed_to, "(self, position: 'int')"),
    (sender.Sender._fail_all, "(self, task)"),
    (sender.Sender._do_add_partitions_to_txn, "(self, tps)"),
    (sender.Sender._do_txn_offset_commit, "(self, offsets, group_id)"),
    (sender.Sender._do_txn_commit, "(self, commit_result)"),
    (sender.Sender._find_coordinator, "(self, coordinator_type, coordinator_key)"),
    (sender.AddPartitionsToTxnHandler.handle_response, "(self, resp)"),
    (sender.TxnOffsetCommitHandler.create_request, "(self)"),
    (sender.TxnOffsetCommitHandler.handle_response, "(self, resp)"),
    (sender.EndTxnHandler.do, "(self, node_id)"),
    (MessageAccumulator._append_batch, "(self, builder, tp)"),
    (MessageAccumulator.fail_all, "(self, exception)"),
    (MessageAccumulator.flush_for_commit, "(self)"),
    (MessageBatch.__init__, "(self, tp, builder, ttl, linger_time)"),
    (TransactionManager.add_offsets_to_txn, "(self, offsets, group_id)"),
    (TransactionManager.fatal_error, "(self, exc)"),
    (TransactionManager.error_transaction, "(self, exc)"),
]

SOURCES = [
    (AIOKafkaClient, ["self._conns", "self._retry_backoff", "self._metadata_max_age_ms", "self._topics", "self._request_timeout_ms"]),
    (Fetcher, ["self._records", "self._fetch_waiters", "self._wait_consume_future", "self._prefetch_backoff", "self._isolation_level",
               "self._check_crcs", "self._subscriptions", "self._client"]),
    (GroupCoordinator, ["self._closing", "self._coordination_task", "self._group_instance_id", "self._retry_backoff_ms",
                        "self.generation", "self.member_id"]),
    (Subscription, ["_reassignment_in_progress", "assignment"]),
    (Assignment, ["state_value", "tps", "active"]),
    (TopicPartitionState, ["self.highwater", "self.lso", "has_valid_position", "position"]),
    (sender.Sender, ["self._txn_manager", "self._message_accumulator", "self.client"]),
    (MessageAccumulator, ["self._exception"]),
    (MessageBatch, ["self._drain_waiter", "self.future", "_builder.record_count()", "_builder._set_producer_state(",
                    "_builder._build()", "_builder.closed()"]),
    (TransactionManager, ["self._transaction_waiter", "def wait_for_transaction_end", "def is_fatal_error"]),
]  # fmt: skip


def test_the_version_is_the_one_read():
    assert version("aiokafka").startswith("0.14.")


@pytest.mark.parametrize(("function", "signature"), SIGNATURES, ids=lambda given: getattr(given, "__qualname__", ""))
def test_signatures(function, signature):
    assert signature == str(inspect.signature(function))


@pytest.mark.parametrize(("owner", "names"), SOURCES, ids=lambda given: getattr(given, "__name__", ""))
def test_attributes(owner, names):
    """Attributes made in `__init__` are looked for in the source: making one needs a connection."""
    source = inspect.getsource(owner)
    assert [] == [name for name in names if name not in source]


def test_states_and_batches():
    assert {"READY", "IN_TRANSACTION", "ABORTABLE_ERROR"} <= set(TransactionState.__members__)
    assert hasattr(DefaultRecordBatch, "__iter__")
