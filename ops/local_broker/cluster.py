"""A local Kafka of one or three nodes, as an object.

    with LocalBroker() as broker:
        print(broker.bootstrap)                        # 127.0.0.1:PORT, data gone at the end

    broker = LocalBroker(Path("data"), port=9092)      # data stays
    broker.start(); broker.kill(); broker.restart(); broker.stop()

The folder holds `cluster.json` (what this cluster is) and `node-1`, `node-2`, ... It is bound to loopback, has no
limits on who may do what unless `secured`, and is made for one machine: no production use.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from .classes import ClassArchive
from .config import HOST, Ports, properties, render
from .errors import AlreadyRunning, BrokerFailed, DirectoryUnusable, LocalBrokerError, PortTaken
from .fencing import fence, was_killed
from .jars import KAFKA_VERSION, cache_directory, kafka_jars
from .java import find_java
from .process import NodeProcess
from .secured import ADMIN, Secrets, write_private
from .storage import copy_formatted, kafka_uuid, secured_template, template

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 20
START_ATTEMPTS_MAX = 3
JVM_FLAGS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",  # says when it serves
)
"""Memory and start-up before peak speed; without slf4j-simple's level Kafka logs 300 lines at each start."""


@dataclass(frozen=True)
class Plan:
    """What a cluster is, as kept in `cluster.json`."""

    version: str
    nodes: int
    secured: bool
    cluster_id: str
    ports: tuple[Ports, ...]

    @classmethod
    def read(cls, directory: Path) -> Plan | None:
        """The plan kept in a folder, or None where no cluster was ever started there."""
        try:
            kept = json.loads((directory / "cluster.json").read_text())
            return cls(**{**kept, "ports": tuple(Ports(**ports) for ports in kept["ports"])})
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DirectoryUnusable(
                f"{directory / 'cluster.json'} is not readable ({error}). Next: remove {directory} to begin anew."
            ) from error

    def write(self, directory: Path) -> None:
        """Keeps the plan in the folder."""
        (directory / "cluster.json").write_text(json.dumps(asdict(self), indent=2) + "\n")


class LocalBroker:
    """A real Apache Kafka on this machine, for demos and tests.

    `directory` None means a temporary one, removed by `stop`. `port` 0 means any free one; node *i* of several
    listens on `port + i`. `properties` are Kafka's own broker settings and win over ours. A broker ends with this
    Python process, however that ends, unless `detached`.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int = 0,
        nodes: int = 1,
        secured: bool = False,
        properties: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> None:
        if nodes < 1:
            raise ValueError(f"nodes={nodes}: a broker has at least one node")
        self._given = directory
        self.directory = Path() if directory is None else directory.absolute()
        self.nodes = nodes
        self.secured = secured
        self._port = port
        self._properties = dict(properties or {})
        self._detached = detached
        self._plan: Plan | None = None
        self._processes: list[NodeProcess] = []
        self._archive: ClassArchive | None = None

    @property
    def bootstrap(self) -> str:
        """The addresses clients connect to, comma-separated. Raises `LocalBrokerError` before `start`."""
        return ",".join(f"{HOST}:{ports.client}" for ports in self._started_plan.ports)

    @property
    def security(self) -> Mapping[str, str]:
        """What a client must set beside the address, by Kafka's names: all rights; empty where not secured."""
        return self.security_of(ADMIN)

    def security_of(self, user: str) -> Mapping[str, str]:
        """The same for `admin`, who may do everything, or `guest`, who may do nothing until an ACL says so."""
        return Secrets(self.directory).client(user) if self.secured else {}

    @property
    def _started_plan(self) -> Plan:
        if self._plan is None:
            raise LocalBrokerError("the broker was not started; call start() or use it as a context manager")
        return self._plan

    def start(self) -> Self:
        """Starts every node and returns when clients can use them.

        Raises `JavaMissing`, `JarsUnavailable`, `JarRefused`, `PortTaken`, `AlreadyRunning`, `DirectoryUnusable`
        or `BrokerFailed`.
        """
        self._open_directory()
        java = self._java()
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            self._plan = self._make_plan()
            try:
                self._launch(java, range(self.nodes))
                break
            except BaseException as error:  # an interrupt, too, must not leave half a cluster behind
                self._end_processes()
                # A port that was free a moment ago can be taken by anybody before Kafka binds it.
                again = isinstance(error, BrokerFailed) and "Address already in use" in str(error) and not self._port
                if not again or attempt == START_ATTEMPTS_MAX:
                    self._remove_temporary()
                    raise
        return self

    @classmethod
    def attach(cls, directory: Path) -> Self | None:
        """The broker an earlier process started in that folder, running or not; None where there never was one."""
        plan = Plan.read(directory)
        if plan is None:
            return None
        broker = cls(directory, nodes=plan.nodes, secured=plan.secured, detached=True)
        broker._plan = plan
        broker._processes = [NodeProcess(broker.directory / f"node-{node + 1}") for node in range(plan.nodes)]
        return broker

    def stop(self) -> None:
        """Ends every node in good order; removes the data where the folder was temporary. May be called twice."""
        self._end_processes()
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        if self._given is None and self._plan is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self._plan = None

    def wait(self) -> None:
        """Blocks until a node has ended, which no one asked for: raises `BrokerFailed` with the end of its log."""
        while all(process.runs_for(1.0) for process in self._processes):
            continue
        raise BrokerFailed("Kafka ended by itself:\n" + "".join(process.log_tail() for process in self._processes))

    def restart(self) -> None:
        """Starts the nodes that do not run, on the same ports with the same data; for after `kill`, too."""
        down = [i for i, process in enumerate(self._processes) if process.pid is None]
        if len(down) == 0:
            self._end_processes()
            down = list(range(self.nodes))
        self._launch(self._java(), down)

    def kill(self, node: int = 0) -> None:
        """SIGKILL to a node (from 0): what a crash or a power cut does to it."""
        self._processes[node].kill()

    def pause(self, node: int = 0) -> None:
        """SIGSTOP to a node: it holds its connections and answers nothing from the return on."""
        self._processes[node].pause()

    def resume(self, node: int = 0) -> None:
        """SIGCONT to a paused node."""
        self._processes[node].send(signal.SIGCONT)

    def pids(self) -> list[int | None]:
        """The pid of each node, None where it does not run."""
        return [process.pid for process in self._processes]

    @property
    def processes(self) -> Sequence[NodeProcess]:
        """The nodes' processes, for `millstream broker status`; empty before `start`."""
        return tuple(self._processes)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def _java(self) -> list[str]:
        java = find_java()
        class_path = os.pathsep.join(str(jar) for jar in kafka_jars())
        self._archive = ClassArchive(cache_directory(), java)
        return [str(java.launcher), *JVM_FLAGS, "-cp", class_path]

    def _open_directory(self) -> None:
        if self._given is None:
            self.directory = Path(tempfile.mkdtemp(prefix="millstream-kafka-"))
        with _writable(self.directory):
            for node in range(self.nodes):
                (self.directory / f"node-{node + 1}").mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.directory if self._given is None else None
        folders = [self.directory / f"node-{node + 1}" for node in range(self.nodes)]
        self._processes = [NodeProcess(folder, temporary=temporary) for folder in folders]
        for process in self._processes:
            if process.pid is not None:
                raise AlreadyRunning(
                    f"a broker runs in {self.directory} (pid {process.pid}). "
                    f"Next: use it, or `millstream broker stop --dir {self.directory}`."
                )

    def _make_plan(self) -> Plan:
        kept = Plan.read(self.directory)
        if kept and (kept.version, kept.nodes, kept.secured) != (KAFKA_VERSION, self.nodes, self.secured):
            raise DirectoryUnusable(
                f"{self.directory} holds a broker of {kept.nodes} node(s), secured={kept.secured}, Kafka "
                f"{kept.version}; asked for {self.nodes}, secured={self.secured}, Kafka {KAFKA_VERSION}. "
                "Next: ask for the same, or choose another directory."
            )
        cluster_id = kept.cluster_id if kept else kafka_uuid()
        plan = Plan(KAFKA_VERSION, self.nodes, self.secured, cluster_id, self._choose_ports(kept))
        with _writable(self.directory):
            plan.write(self.directory)
        return plan

    def _choose_ports(self, kept: Plan | None) -> tuple[Ports, ...]:
        wanted = [self._port + node for node in range(self.nodes)] if self._port else []
        for port in wanted:
            if not port_is_free(port):
                raise PortTaken(
                    f"port {port} on {HOST} is taken by another program. Next: stop it, or choose another --port."
                )
        if kept and not wanted and all(port_is_free(port) for ports in kept.ports for port in asdict(ports).values()):
            return kept.ports
        free = iter(free_ports(3 * self.nodes))
        return tuple(
            Ports(wanted[node] if wanted else next(free), next(free), next(free)) for node in range(self.nodes)
        )

    def _launch(self, java: Sequence[str], which: Sequence[int]) -> None:
        plan = self._started_plan
        with _writable(self.directory):
            for node in which:
                self._prepare(java, node, plan)
        deadline = time.monotonic() + START_TIMEOUT_S
        scratch = None if self._detached or self.nodes > 1 or self.secured else self._class_scratch
        flags = self._archive.flags(scratch) if self._archive else []
        command = [java[0], *flags, *java[1:]]
        if self.nodes == 1 and was_killed(self._processes[0].directory / "data"):
            fence(self._processes[0], command, self._settings(0, plan), deadline)
        for node in which:
            self._processes[node].launch(command, detached=self._detached)
        for node in which:
            self._processes[node].wait_started(deadline)

    def _prepare(self, java: Sequence[str], node: int, plan: Plan) -> None:
        folder = self._processes[node].directory
        if self.secured:
            Secrets(self.directory).ensure(java[0])
        write_private(folder / "server.properties", render(self._settings(node, plan)))
        if not (folder / "data").exists():
            copy_formatted(self._template(java), folder / "data", node_id=node + 1, cluster_id=plan.cluster_id)

    def _settings(self, node: int, plan: Plan) -> dict[str, str]:
        secured = Secrets(self.directory).node_settings(plan.ports[node]) if self.secured else {}
        return properties(node + 1, self._processes[node].directory, plan.ports, extra={**secured, **self._properties})

    def _template(self, java: Sequence[str]) -> Path:
        if not self.secured:
            return template(java)
        kept = Secrets(self.directory).directory / "formatted" / "data"
        return kept if kept.exists() else secured_template(java, Secrets(self.directory))

    def _end_processes(self) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in self._processes:
            # The last node of several waits 5 s for a quorum that is gone; nobody reads what a temporary one writes then.
            process.ask_to_end(hard=self._given is None and self.nodes > 1)
        for process in self._processes:
            process.terminate(deadline)
        if self._archive and self._processes and self._processes[0].ended_regularly:
            self._archive.keep(self._class_scratch)

    @property
    def _class_scratch(self) -> Path:
        return self.directory / "node-1" / "classes.archive"


@contextmanager
def _writable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DirectoryUnusable(
            f"cannot write to {directory}: {error.strerror or error}. Next: choose a folder you own, on a disk with room."
        ) from error


def port_is_free(port: int) -> bool:
    """Whether a listener could bind that loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """That many different free loopback ports."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
