"""Formats the data folders of nodes, once by Kafka's own tool and then by copy.

Formatting starts a JVM (1 s), so a formatted folder is kept in the cache as a template. A copy gets its own cluster
id, directory id and node id in `meta.properties`; the bootstrap records beside it name none of these.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from .config import Ports, properties, render
from .errors import BrokerFailed
from .jars import KAFKA_VERSION, cache_directory, cache_lock
from .secured import Secrets

FORMAT_TIMEOUT_S = 60


def kafka_uuid() -> str:
    """A random id in Kafka's spelling, which never begins with a dash (its tools would read a flag)."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return text


def template(java: Sequence[str]) -> Path:
    """The formatted folder in the cache, made at the first call."""
    folder = cache_directory() / f"formatted-{KAFKA_VERSION}"
    with cache_lock(cache_directory(), "format"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            settings = folder / "server.properties"
            settings.write_text(render(properties(1, folder, [Ports(1, 2, 3)])))
            format_storage(java, settings, [])
            (folder / "complete").touch()
    return folder / "data"


def secured_template(java: Sequence[str], secrets: Secrets) -> Path:
    """A formatted folder that knows the passwords, made beside them; for the first start of one cluster."""
    folder = secrets.directory / "formatted"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    settings = folder / "server.properties"
    settings.write_text(render(properties(1, folder, [Ports(1, 2, 3)])))
    secrets.write_scram_arguments()
    try:
        format_storage(java, settings, [f"@{secrets.scram_arguments}"])
    finally:
        secrets.scram_arguments.unlink()
    return folder / "data"


def format_storage(java: Sequence[str], settings: Path, arguments: Sequence[str]) -> None:
    """Runs Kafka's `StorageTool format`. Raises `BrokerFailed` with what it said."""
    command = [*java, "kafka.tools.StorageTool", "format", "-t", kafka_uuid(), "-c", str(settings), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    if done.returncode:
        raise BrokerFailed(f"Kafka could not format its storage:\n{(done.stdout + done.stderr)[-2000:]}")


def copy_formatted(source: Path, target: Path, *, node_id: int, cluster_id: str) -> None:
    """Copies a formatted folder for one node of a cluster, by way of a rename: it is whole or not there."""
    part = target.with_name("data.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    identity = {"version": "1", "cluster.id": cluster_id, "node.id": str(node_id), "directory.id": kafka_uuid()}
    (part / "meta.properties").write_text(render(identity))
    part.rename(target)
