"""Which member of its group a worker is, when nobody says: the same after a restart, another for every other process.

One process works in a state folder at a time (it holds a lock), so host and folder name a process. In a StatefulSet the
host's name ends in the pod's ordinal. A container that gets another name at each start is another member each time: let it
leave when it stops (`leave_on_stop`), or give it an `instance_id`.
"""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..workers.settings import AppSettings

_HOST_CHARACTERS_MAX: Final = 100
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9._-]")


def instance_id_of(state_dir: Path, host: str) -> str:
    """`<host>-<8 hex digits of the folder>`, of characters that Kafka takes in a `group.instance.id`."""
    folder = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]
    return f"{_FOREIGN.sub('-', host)[:_HOST_CHARACTERS_MAX]}-{folder}"


def as_static_member(settings: AppSettings) -> AppSettings:
    """With an instance id, if it has none: a restart then moves nothing."""
    if settings.instance_id is not None:
        return settings
    return replace(settings, instance_id=instance_id_of(settings.state_dir, socket.gethostname()))
