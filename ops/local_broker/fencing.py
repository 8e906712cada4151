"""A single node that was killed comes back as one that its controller has fenced.

Otherwise it finds itself leader of everything by what its metadata say from before, is fenced when its old session lapses, and is
elected again. In between its transaction coordinator begins to write the markers of transactions that were ended when it
died, and where it does so in the moment without a leader, Kafka 4.3 takes the topics for deleted and leaves the markers out:
a commit that was acknowledged never becomes visible, and its offsets stay held back (error 88). See docs/decisions/0033.

So the controller runs alone first, with a short session timeout, until it has fenced the broker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .config import render
from .errors import BrokerFailed
from .process import POLL_S, NodeProcess
from .secured import write_private

FENCED = b"Fencing broker"
"""What the controller logs when it decides to; the record is in its log a moment later."""
LOGGED = "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.controller.ReplicationControlManager=info"
SETTINGS = "controller.properties"
_METADATA = "__cluster_metadata-0"
_ALONE = {
    "process.roles": "controller",
    "broker.session.timeout.ms": "100",
    "broker.heartbeat.interval.ms": "50",
    "metadata.max.idle.interval.ms": "50",  # a record that says nothing, to see that those before it are written
}
_OF_BROKERS = frozenset({"advertised.listeners", "inter.broker.listener.name"})


def was_killed(data: Path) -> bool:
    """Whether the node of this data folder has run, and did not end in good order."""
    return (data / _METADATA).exists() and not (data / ".kafka_cleanshutdown").exists()


def fence(process: NodeProcess, java: Sequence[str], settings: Mapping[str, str], deadline: float) -> None:
    """Runs the controller until it has fenced the broker. Raises `BrokerFailed` where it ends or is late."""
    write_private(process.directory / SETTINGS, render(alone(settings)))
    process.launch([java[0], LOGGED, *java[1:]], detached=False, settings=SETTINGS)
    try:
        process.wait_logged(FENCED, deadline)
        _wait_written(process, process.directory / "data" / _METADATA, deadline)
    finally:
        process.ask_to_end(hard=True)
        process.terminate(deadline)


def alone(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a node without its broker."""
    names = settings["controller.listener.names"].split(",")
    listeners = [one for one in settings["listeners"].split(",") if one.partition("://")[0] in names]
    kept = {name: value for name, value in settings.items() if name not in _OF_BROKERS}
    return {**kept, "listeners": ",".join(listeners), **_ALONE}


def _wait_written(process: NodeProcess, folder: Path, deadline: float) -> None:
    """Two more writes: the first may be one that was under way."""
    for _ in range(2):
        size = _size(folder)
        while _size(folder) == size:
            if not process.runs_for(POLL_S) or time.monotonic() > deadline:
                raise BrokerFailed(f"the controller wrote nothing. The end of {process.log}:\n{process.log_tail()}")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.log"))
