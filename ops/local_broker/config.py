"""The text of a node's server.properties, and the few settings that make Kafka small and quick on one machine.

Measured: `log.cleaner.dedupe.buffer.size` saves most memory (128 MB by default).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"

SMALL = {
    "log.cleaner.dedupe.buffer.size": "1048577",
    "log.index.size.max.bytes": "1048576",
    "background.threads": "2",
    "num.io.threads": "2",
    "num.network.threads": "2",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # Results carry their event time, and examples begin in 1970: with the default of a week they would be gone in minutes.
    "log.retention.ms": "-1",
}


@dataclass(frozen=True)
class Ports:
    """The loopback ports of one node: for clients, for other brokers (secured mode only), for the controllers."""

    client: int
    internal: int
    controller: int


def properties(
    node_id: int, directory: Path, ports: Sequence[Ports], *, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The settings of node `node_id` (from 1) of a cluster whose nodes have these ports; `extra` wins."""
    mine = ports[node_id - 1]
    return {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.quorum.voters": ",".join(f"{i}@{HOST}:{p.controller}" for i, p in enumerate(ports, 1)),
        "listeners": f"PLAINTEXT://{HOST}:{mine.client},CONTROLLER://{HOST}:{mine.controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{mine.client}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(directory / "data"),
        **SMALL,
        **_replication(len(ports)),
        **(extra or {}),
    }


def render(settings: Mapping[str, str]) -> str:
    """The settings as a Java properties file."""
    return "".join(f"{key}={value.replace(chr(92), chr(92) * 2)}\n" for key, value in settings.items())


def _replication(nodes: int) -> dict[str, str]:
    factor, in_sync = (str(min(nodes, 3)), "2" if nodes > 2 else "1")
    settings = {
        "default.replication.factor": factor,
        "min.insync.replicas": in_sync,
        # A session that lapses moves leaders, so a slow machine gets time.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "replica.lag.time.max.ms": "3000",
    }
    for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        settings[f"{topic}.replication.factor"] = factor
    for topic in ("transaction.state.log", "share.coordinator.state.topic"):
        settings[f"{topic}.min.isr"] = in_sync
    return settings
