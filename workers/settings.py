"""How an app runs, as one frozen value. `ops` fills it from code, environment and flags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..topics.duration import Duration, duration_ms
from .errors import PlanError
from .naming import checked

Guarantee = Literal["exactly_once", "at_least_once"]
StartFrom = Literal["earliest", "latest"]

STANDBY_REPLICAS_MAX = 16
"""There are never more than one for each other worker; a larger number is a mistake."""

DEFAULT_COMMIT_INTERVAL_MS = {"exactly_once": 100, "at_least_once": 1_000}


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Build it with `AppSettings.of`, which takes text and checks it."""

    name: str
    """The consumer group, the prefix of internal topics and of transactional ids."""
    guarantee: Guarantee = "exactly_once"
    commit_interval_ms: int = 100
    start_from: StartFrom = "earliest"
    """Where a partition without a committed offset begins."""
    state_dir: Path = Path(".millstream/state")
    checkpoint_interval_ms: int = 10_000
    checkpoint_bytes_max: int = 64 * 1024 * 1024
    join_buffer_bytes_max: int = 256 * 1024 * 1024
    """Memory of the rows that one task keeps for one interval join; what is beyond it is in scratch files in `state_dir`."""
    poll_records_max: int = 50_000
    """Records worked on at a time, over all partitions of a worker."""
    poll_timeout_ms: int = 50
    watermark_interval_ms: int = 1_000
    advance_when_idle: bool = False
    max_drift_ms: int | None = None
    """An input further ahead in event time than this of one that still has records is held back."""
    wait_for_inputs_ms: int = 200
    """How long records wait for those of another input of their task that is not caught up, to take the oldest first."""
    retry_backoff_ms: int = 100
    retry_backoff_ms_max: int = 5_000
    instance_id: str | None = None
    """Static membership (`group.instance.id`): a restart causes no rebalance. None: a dynamic member; `millstream run` and
    `millstream.run` give each process one of its own (`ops/identity.py`)."""
    leave_on_stop: bool = False
    """Whether a static member leaves the group when it stops, for good and not for a restart. A dynamic one always does."""
    standby_replicas: int = 0
    """Warm copies of each shard's state, kept by other workers: a failover then restores a tail only."""
    startup_timeout_ms: int = 60_000
    """How long the broker may be out of reach while a worker starts."""
    internal_replication: int | None = None
    """Of changelog and repartition topics; None: the broker's default."""
    create_topics: bool = True
    """Whether missing input and output topics are created; internal ones always are."""

    @classmethod
    def of(
        cls, name: str, *, guarantee: str = "exactly_once", commit_interval: Duration | None = None, **others: object
    ) -> AppSettings:
        """Raises PlanError naming the setting."""
        if guarantee not in DEFAULT_COMMIT_INTERVAL_MS:
            raise PlanError(f"guarantee {guarantee!r}: expected 'exactly_once' or 'at_least_once'")
        default = DEFAULT_COMMIT_INTERVAL_MS[guarantee]
        interval = default if commit_interval is None else duration_ms(commit_interval, name="commit_interval")
        if interval < 1:
            raise PlanError(f"commit_interval must be at least 1ms, got {commit_interval!r}")
        if others.get("standby_replicas", 0) not in range(STANDBY_REPLICAS_MAX + 1):
            raise PlanError(f"standby_replicas must be 0 to {STANDBY_REPLICAS_MAX}, got {others['standby_replicas']!r}")
        chosen: Guarantee = "exactly_once" if guarantee == "exactly_once" else "at_least_once"
        base = cls(checked(name, "app"), chosen, interval)
        try:
            return replace(base, **others)  # type: ignore[arg-type]
        except TypeError as error:
            raise PlanError(f"app {name!r}: {error}") from error

    @property
    def exactly_once(self) -> bool:
        return self.guarantee == "exactly_once"
