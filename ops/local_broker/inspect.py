"""What `millstream broker status` tells of a running broker: its topics, its size on disk, its age."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ANSWER_TIMEOUT_S = 5


def count_topics(bootstrap: str, security: Mapping[str, str]) -> int | None:
    """How many topics of users there are (Kafka's own begin with two underscores); None where it does not answer."""
    from aiokafka.errors import KafkaError

    try:
        names = asyncio.run(asyncio.wait_for(_list_topics(bootstrap, security), ANSWER_TIMEOUT_S))
    except (KafkaError, OSError, TimeoutError):
        return None
    return sum(not name.startswith("__") for name in names)


async def _list_topics(bootstrap: str, security: Mapping[str, str]) -> list[str]:
    from aiokafka.admin import AIOKafkaAdminClient

    client: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **client_arguments(security))
    await client.start()
    try:
        return list(await client.list_topics())
    finally:
        await client.close()


def client_arguments(security: Mapping[str, str]) -> dict[str, Any]:
    """aiokafka's arguments for a local broker's `security`."""
    if not security:
        return {}
    return {
        "security_protocol": security["security.protocol"],
        "sasl_mechanism": security["sasl.mechanism"],
        "sasl_plain_username": security["sasl.username"],
        "sasl_plain_password": security["sasl.password"],
        "ssl_context": ssl.create_default_context(cafile=security["ssl.ca.location"]),
    }


def disk_bytes(directory: Path) -> int:
    """Bytes a folder takes on disk; Kafka's index files are longer than that, being sparse."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except OSError:  # Kafka removed it meanwhile
            continue
    return total


def age_s(pid_file: Path) -> float | None:
    """Seconds since the pid file was written, that is, since the node was started."""
    try:
        return max(0.0, time.time() - pid_file.stat().st_mtime)
    except OSError:
        return None
