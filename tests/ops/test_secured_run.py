"""Logging in by the environment alone, on a cluster with TLS, SCRAM and ACLs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.ops.local_broker import LocalBroker


def _millstream(
    broker: LocalBroker, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    named = {f"MILLSTREAM_{name.replace('.', '_').upper()}": value for name, value in broker.security.items()}
    return subprocess.run(
        [sys.executable, "-m", "millstream.ops.main", *arguments],
        cwd=folder,
        env={**ours, "MILLSTREAM_BROKERS": broker.bootstrap, **named, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.kafka
def test_rows_go_in_and_out_of_a_secured_cluster(
    secured_kafka: LocalBroker, unique: Callable[[str], str], tmp_path: Path
) -> None:
    topic = unique("clicks")
    done = _millstream(secured_kafka, tmp_path, "produce", topic, "a:1")
    assert (done.returncode, done.stderr) == (0, f"made topic {topic} with 1 partition\n1 record to {topic}\n")
    read = ("consume", topic, "--from-beginning", "--until-end", "--format", "value")
    assert _millstream(secured_kafka, tmp_path, *read).stdout == "1\n"


@pytest.mark.kafka
def test_a_wrong_password_is_said_and_not_shown(secured_kafka: LocalBroker, tmp_path: Path) -> None:
    """Configuration, so status 2; neither the wrong password nor a traceback is printed."""
    done = _millstream(secured_kafka, tmp_path, "topics", MILLSTREAM_SASL_PASSWORD="hunter2")
    assert (done.returncode, "hunter2" in done.stderr, "Traceback" in done.stderr) == (2, False, False)
    assert done.stderr.startswith("error: ")
