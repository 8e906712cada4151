"""One broker for all workers of a run: started at the first request, once, and its failure told to who asks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.broker.shared import Running, SharedBroker, ask


class Starter:
    """Counts starts and stops."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.started = self.stopped = 0

    def __call__(self) -> Running:
        self.started += 1
        if self.started <= self.failures:
            raise RuntimeError(f"no luck {self.started}")
        return Running("127.0.0.1:1", "made up", self.stop)

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def starter() -> Starter:
    return Starter()


@pytest.fixture
def shared(starter: Starter) -> Iterator[SharedBroker]:
    broker = SharedBroker(starter)
    yield broker
    broker.close()


def test_many_workers_get_one_broker(shared: SharedBroker, starter: Starter) -> None:
    path = shared.serve()
    assert shared.serve() == path
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, [path] * 8)) == {"127.0.0.1:1"}
    shared.close()
    assert (starter.started, starter.stopped) == (1, 1)


def test_nothing_starts_where_nobody_asks(shared: SharedBroker, starter: Starter) -> None:
    shared.serve()
    assert shared.summary() is None
    shared.close()
    assert (starter.started, starter.stopped) == (0, 0)


def test_the_summary_names_the_broker(shared: SharedBroker) -> None:
    shared.bootstrap()
    summary = shared.summary()
    assert summary is not None
    assert summary.startswith("kafka: made up at 127.0.0.1:1, started in ")


def test_a_failed_start_is_told_to_the_worker(shared: SharedBroker, starter: Starter) -> None:
    starter.failures = 1
    path = shared.serve()
    with pytest.raises(RuntimeError, match="did not start: RuntimeError: no luck 1"):
        ask(path)
    assert ask(path) == "127.0.0.1:1"
