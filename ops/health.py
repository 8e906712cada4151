"""The pages a worker serves: `/health` (is the process alive), `/ready` (does it do its work), `/metrics`.

`/health` is 200 as long as the event loop answers, also while the broker is away: a restart would not help. `/ready` is
200 once all that was assigned is restored and running, else 503 with the state. Both tell the worker's statistics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from ..topics.batch import MAX_TIME, MIN_TIME
from ..workers.statistics import WorkerStatistics
from .http import Response, Route
from .metrics import CONTENT_TYPE, PrometheusInstrument


class Watched(Protocol):
    """What is asked of a worker."""

    @property
    def ready(self) -> bool: ...

    def statistics(self) -> WorkerStatistics: ...


def routes_of(worker: Watched, instrument: PrometheusInstrument) -> dict[str, Route]:
    """For `HttpServer`."""

    def metrics() -> Response:
        tell_statistics(worker.statistics(), instrument)
        return Response(instrument.exposition(), content_type=CONTENT_TYPE)

    return {
        "/health": lambda: _report(worker, 200),
        "/ready": lambda: _report(worker, 200 if worker.ready else 503),
        "/metrics": metrics,
    }


def tell_statistics(statistics: WorkerStatistics, instrument: PrometheusInstrument) -> None:
    """What is true now, as gauges; values of what is gone (a phase, a topic) become 0."""
    watermarks: dict[str, int] = {}
    lag: Counter[str] = Counter()
    for shard in statistics.shards:
        lag.update({partition.topic: records for partition, records in shard.lag.items()})
        for task in shard.tasks:
            sub = task.name.rpartition("_")[0]
            watermarks[sub] = min(task.watermark, watermarks.get(sub, MAX_TIME))
    instrument.all_of("worker_state", "state", {statistics.state: 1})
    instrument.all_of("shards", "phase", Counter(shard.phase for shard in statistics.shards))
    instrument.all_of("lag_records", "topic", lag)
    known = {sub: time / 1_000 for sub, time in watermarks.items() if MIN_TIME < time < MAX_TIME}
    instrument.all_of("watermark_seconds", "sub_topology", known)
    behind = {str(standby.shard): standby.records_behind for standby in statistics.standbys}
    instrument.all_of("standby_records_behind", "shard", behind)
    instrument.gauge("worker_ready", statistics.ready)
    instrument.gauge("waiting_rows", sum(task.waiting_rows for shard in statistics.shards for task in shard.tasks))


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
        return value if MIN_TIME < value < MAX_TIME else None
    return str(value) if isinstance(value, Path) else repr(value)
