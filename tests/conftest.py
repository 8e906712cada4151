"""Fixtures of every test: a real Kafka when one is asked for, names nobody else uses, the hypothesis profile."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from millstream.ops.local_broker import LocalBroker
from tests.broker.shared import SharedBroker, ask, default_start
from tests.postgres import Postgres

settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SHARED = pytest.StashKey[SharedBroker]()


def pytest_configure(config: pytest.Config) -> None:
    """The controller, or the only process, owns the broker; it starts nothing yet."""
    if not hasattr(config, "workerinput"):
        config.stash[SHARED] = SharedBroker(default_start)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells each xdist worker where to ask for the broker."""
    node.workerinput["broker_socket"] = node.config.stash[SHARED].serve()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line: which broker was used and how long it took to start."""
    line = config.stash[SHARED].summary() if SHARED in config.stash else None
    if line:
        terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the broker with the run."""
    if SHARED in config.stash:
        config.stash[SHARED].close()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Loggers are the process's: what a test configures (every use of the command line does) is taken off again."""
    loggers = [logging.getLogger(name) for name in (None, "millstream", "aiokafka")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in [one for one in logging.root.handlers if one.get_name() == "millstream"]:
        logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL with pgvector, one for each test process, named by the variable that `pgvector` looks into."""
    server = Postgres()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILLSTREAM_PGVECTOR_URI", server.uri)
        yield server
    server.end()


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> str:
    """The bootstrap address of a real Kafka, one for the whole run; use `unique` for topics and groups."""
    if worker := getattr(pytestconfig, "workerinput", None):
        return ask(worker["broker_socket"])
    return pytestconfig.stash[SHARED].bootstrap()


@pytest.fixture(scope="session")
def secured_kafka() -> Iterator[LocalBroker]:
    """A Kafka with SASL_SSL, SCRAM-SHA-512 and ACLs: `.bootstrap`, `.security` (all rights), `.security_of("guest")`."""
    with LocalBroker(secured=True) as broker:
        yield broker


@pytest.fixture(scope="module")
def three_kafkas() -> Iterator[LocalBroker]:
    """Three nodes to kill and pause; each worker has its own, so that no other test sees it. Leave all running."""
    with LocalBroker(nodes=3) as broker:
        yield broker


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes a name that no other test, worker or run uses: `unique("clicks")` -> "clicks-4f1c9a02be"."""
    suffix = uuid.uuid4().hex[:10]
    return lambda prefix: f"{prefix}-{suffix}"
