"""The pages a worker serves: `/health` (is the process alive), `/ready` (does it do its work), `/metrics`.

`/health` is 200 as long as the event loop answers, also while the broker is away: a restart would not help. `/ready` is
200 once all that was assigned is restored and running, else 503 with the state. Both tell the worker's statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from .http import Response, Route
from .metrics import CONTENT_TYPE, PrometheusInstrument


class Watched(Protocol):
    """What is asked of a worker."""

    @property
    def ready(self) -> bool: ...

    def statistics(self) -> Any:
        """A frozen dataclass with a field `state`."""
        ...


def routes_of(worker: Watched, instrument: PrometheusInstrument) -> dict[str, Route]:
    """For `HttpServer`."""
    return {
        "/health": lambda: _report(worker, 200),
        "/ready": lambda: _report(worker, 200 if worker.ready else 503),
        "/metrics": lambda: Response(instrument.exposition(), content_type=CONTENT_TYPE),
    }


def _report(worker: Watched, status: int) -> Response:
    told = {"ready": worker.ready, **plain(worker.statistics())}
    return Response(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS), status)


def plain(value: Any) -> Any:
    """As JSON has it: dataclasses as objects, keys as text, everything unknown as its text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value) if one.repr}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(one) for one in items]
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)
    return str(value) if isinstance(value, Path) else repr(value)
