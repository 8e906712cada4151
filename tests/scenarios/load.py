"""Orders at an even pace, from a thread: the load under which things are killed. Its count is also the clock of a scenario."""

from __future__ import annotations

import random
import threading
from typing import Any

import orjson
from confluent_kafka import Producer

from tests.scenarios.judge import SILENT
from tests.scenarios.orders import STEP_MS, USERS

TURNS_A_SECOND = 50


class Load:
    """Sends `rate` orders a second (as far as the machine and the broker allow) from `start` to `stop`."""

    def __init__(self, bootstrap: str, topic: str, rate: int, seed: int) -> None:
        # Idempotent: without it a retry of this client may change the order of a user's orders before they are even read.
        sending: dict[str, Any] = {"partitioner": "murmur2_random", "linger.ms": 5, "enable.idempotence": True}
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 1_000_000, "log_level": SILENT, **sending}
        )
        self._topic = topic
        self.rate = rate
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.sent = 0

    def start(self) -> None:
        self._thread.start()

    def wait_sent(self, more: int, deadline_s: float) -> None:
        """Until so many more orders were sent: as long as they take at the load's pace. Raises TimeoutError."""
        wanted, waiting = self.sent + more, threading.Event()
        for _ in range(int(deadline_s * TURNS_A_SECOND)):
            if self.sent >= wanted:
                return
            waiting.wait(1 / TURNS_A_SECOND)
        raise TimeoutError(f"{self.sent} of {wanted} orders were sent in {deadline_s} s")

    def stop(self) -> None:
        """Everything sent is acknowledged when it returns. Raises TimeoutError."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if left := self._producer.flush(120):
            raise TimeoutError(f"{left} orders were not acknowledged")

    def stop_now(self) -> None:
        """Sends no more; what is on its way is not waited for. May be called twice."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(1 / TURNS_A_SECOND):
            for _ in range(self.rate // TURNS_A_SECOND):
                self._send()
            self._producer.poll(0)

    def _send(self) -> None:
        """The next order; the events' time goes on by `STEP_MS` each."""
        user = f"user-{self._random.randrange(USERS)}"
        order = {"id": self.sent, "user": user, "amount": self._random.randrange(1000), "ts": self.sent * STEP_MS}
        self._producer.produce(self._topic, orjson.dumps(order), user)
        self.sent += 1
