"""Where the fixture `kafka` takes its broker from: what is given, else a container, else one of ours.

The container branch runs against a fake Docker engine (`fake_engine.py`), in a test run of its own, since
testcontainers and docker read their settings once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker.fake_engine import FakeEngine
from tests.broker.shared import engine_answers, start_broker

ROOT = Path(__file__).parents[2]
FIXTURE_TEST = "tests/broker/test_fixture.py::test_a_record_written_is_read_back"


def run_pytest(**environ: str) -> str:
    """The output of a test run that asks for `kafka` once, in an environment changed so."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", FIXTURE_TEST],
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k != "MILLSTREAM_TEST_BROKERS"}, **environ},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    return done.stdout


def test_a_given_address_is_taken_as_it_is() -> None:
    running = start_broker({"MILLSTREAM_TEST_BROKERS": "10.0.0.1:9092,10.0.0.2:9092"})
    assert (running.bootstrap, running.kind) == ("10.0.0.1:9092,10.0.0.2:9092", "MILLSTREAM_TEST_BROKERS")


def test_no_engine_answers_at_a_socket_nobody_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nobody.sock'}")
    assert not engine_answers()


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "image"), [("redpanda", "redpandadata/redpanda"), ("kafka", "confluentinc/cp-kafka")])
def test_a_container_is_used_where_an_engine_answers(
    kind: str, image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with FakeEngine(tmp_path_factory.mktemp("e")) as engine:
        output = run_pytest(DOCKER_HOST=engine.url, TESTCONTAINERS_RYUK_DISABLED="true", MILLSTREAM_TEST_CONTAINER=kind)
    assert f"kafka: testcontainers, {image}" in output
    assert [name.split(":")[0] for name in engine.images] == [image]
    assert engine.containers == {}
