"""A broker whose group coordinator takes seconds to load after a restart: `__consumer_offsets` is made fat, its loading slow.

While it loads it answers OffsetFetch with COORDINATOR_LOAD_IN_PROGRESS (14) at the top level, which aiokafka 0.14 takes for
"nothing was committed": workers that believe it begin at the beginning.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from millstream.ops.local_broker import LocalBroker
from tests.scenarios.judge import SILENT, reading

SLOW = {
    "offsets.topic.num.partitions": "1",  # so that every group's offsets are in the fat one
    "offsets.load.buffer.size": "1",  # one record batch a read
    "offsets.topic.segment.bytes": str(1 << 30),  # compaction would make it thin again
}
COMMITS = 12_000
PARTITIONS = 50
LOAD_IN_PROGRESS = 14
_PROBE_S = 0.02
_ASK_S = 120


@contextmanager
def fat_broker() -> Iterator[LocalBroker]:
    with LocalBroker(properties=SLOW) as broker:
        fatten(broker.bootstrap)
        yield broker


def fatten(bootstrap: str, commits: int = COMMITS) -> None:
    """Many commits of another group, of many partitions each."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": SILENT})
    admin.create_topics([NewTopic("fat", PARTITIONS, 1)])["fat"].result()
    consumer = reading(bootstrap, "fat")
    for number in range(commits):
        consumer.commit(offsets=_offsets(number), asynchronous=True)
    consumer.commit(offsets=_offsets(commits), asynchronous=False)  # answered after all before it
    consumer.close()


def _offsets(offset: int) -> list[TopicPartition]:
    return [TopicPartition("fat", index, offset) for index in range(PARTITIONS)]


class LoadingProbe:
    """Asks the coordinator for offsets from a thread, from `start` until it has loaded after having refused."""

    def __init__(self, address: str, group: str) -> None:
        host, _, port = address.partition(":")
        self._place = (host, int(port))
        self._request = _offset_fetch(group)
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self.refused = 0
        """Answers that said it is loading."""
        self.loading_s = 0.0

    def start(self) -> None:
        self._thread.start()

    def wait_loaded(self) -> None:
        self._thread.join(_ASK_S)
        assert not self._thread.is_alive(), f"the coordinator has not loaded in {_ASK_S} s"

    def _run(self) -> None:
        waiting, first = threading.Event(), 0.0
        while True:
            error = self._ask()
            if error == LOAD_IN_PROGRESS:
                first = first or time.monotonic()
                self.refused += 1
            elif error == 0:
                self.loading_s = time.monotonic() - first if first else 0.0
                return
            waiting.wait(_PROBE_S)

    def _ask(self) -> int | None:
        """The top-level error; None: nobody answers."""
        try:
            with socket.create_connection(self._place, 5) as connection, connection.makefile("rb") as answers:
                connection.sendall(self._request)
                (length,) = struct.unpack(">i", answers.read(4))
                return int(struct.unpack(">h", answers.read(length)[-2:])[0])
        except (OSError, struct.error):
            return None


def _offset_fetch(group: str) -> bytes:
    """OffsetFetch version 2 for all partitions; its answer ends with the top-level error."""
    name = group.encode()
    body = struct.pack(">hhihh", 9, 2, 1, -1, len(name)) + name + struct.pack(">i", -1)
    return struct.pack(">i", len(body)) + body
