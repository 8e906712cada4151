"""The `gateway` of a pipeline file: how it is served over HTTP. Who may ask (tokens) is no matter of a file: MILLSTREAM_GATEWAY_TOKENS.

gateway:
  port: 8080            # `millstream run` has a gateway where there is a port
  host: 127.0.0.1
  index: true           # look chunks up in this process
  timeout: 60s
  body_bytes_max: 33554432
  cors_origins: https://chat.example.com
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .readers import duration, flag, mapping, text, whole
from .tree import Entry, Reader, read_tree

KEYS: Final[dict[str, tuple[str, Reader]]] = {
    "port": ("gateway_port", whole),
    "host": ("gateway_host", text),
    "index": ("gateway_index", flag),
    "timeout": ("gateway_timeout_ms", duration),
    "body_bytes_max": ("gateway_body_bytes_max", whole),
    "concurrency_max": ("gateway_concurrency_max", whole),
    "streams_max": ("gateway_streams_max", whole),
    "late_answers_max": ("gateway_late_answers_max", whole),
    "late_answers_bytes_max": ("gateway_late_answers_bytes_max", whole),
    "late_answers_age_max": ("gateway_late_answers_age_max_ms", duration),
    "requests_per_minute_max": ("gateway_requests_per_minute_max", whole),
    "burst_requests_max": ("gateway_burst_requests_max", whole),
    "cors_origins": ("gateway_cors_origins", text),
}
"""The setting of a run that each key is, and its reader."""


def gateway_of(entry: Entry) -> dict[str, object]:
    """Settings of a run. Raises PipelineFileError."""
    given = mapping(entry, "a mapping such as {port: 8080}")
    given.check_keys(list(KEYS), "gateway")
    return {KEYS[one.key][0]: KEYS[one.key][1](one) for one in given}


def gateway_of_file(file: Path) -> dict[str, object]:
    """Empty where the file says nothing of it."""
    entry = read_tree(file).get("gateway")
    return {} if entry is None else gateway_of(entry)
