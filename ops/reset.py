"""Forgets what an app knows: its group's offsets, its changelogs and repartition topics, its local state.

Output topics stay: what was written was written. With the app itself at hand its internal topics are known by name; with
only its name they are found by the pattern `<app>-*-changelog`, `<app>-*-repartition`, and those that belong to another
app whose name begins alike (`shop` and `shop-live`) are left alone, as that app has a group of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..state.errors import DiskError
from ..state.store import Database
from ..workers.app import App
from .errors import InputError

if TYPE_CHECKING:
    from ..topics.broker import Broker

ENDINGS = ("-changelog", "-repartition")


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """What would go."""

    app: str
    partitions: int
    """Partitions with a committed offset."""
    topics: tuple[str, ...]
    state: Path | None
    """The app's folder of local state, where there is one."""

    @property
    def empty(self) -> bool:
        return not (self.partitions or self.topics or self.state)

    def lines(self) -> Iterator[str]:
        yield f"offsets of group {self.app}: {self.partitions} partitions" if self.partitions else "offsets: none"
        yield f"topics: {', '.join(self.topics)}" if self.topics else "topics: none"
        yield f"local state: {self.state}" if self.state else "local state: none here"


def internal_names(app: App) -> list[str]:
    """Changelogs and repartition topics of an app. Raises PlanError."""
    from ..workers.naming import changelog_topic
    from ..workers.startup import store_partitions

    topology = app.plan()
    changelogs = [changelog_topic(app.name, store) for store in store_partitions(topology)]
    return [*changelogs, *(topic.name for topic in topology.internal_topics)]


async def plan_reset(broker: Broker, name: str, state_dir: Path, known: Sequence[str] | None = None) -> ResetPlan:
    """Looks, and changes nothing. `known`: names of the app's internal topics; None: found by the pattern."""
    there = await broker.list_topics()
    if known is None:
        topics = [topic for topic in there if await _is_of(broker, topic, name)]
    else:
        topics = [topic for topic in there if topic in known]
    folder = state_dir / name
    offsets = await broker.group_offsets(name)
    return ResetPlan(name, len(offsets), tuple(sorted(topics)), folder if folder.is_dir() else None)


async def _is_of(broker: Broker, topic: str, app: str) -> bool:
    if not topic.startswith(f"{app}-") or not topic.endswith(ENDINGS):
        return False
    parts = topic.split("-")
    longer = ["-".join(parts[:count]) for count in range(app.count("-") + 2, len(parts) - 1)]
    return not any([await broker.group_offsets(other) for other in longer])


async def perform_reset(broker: Broker, plan: ResetPlan) -> None:
    """State first: a worker that runs holds its lock, and nothing was done yet. Raises LockedError, ConfigurationError."""
    if plan.state is not None:
        _delete_state(plan.state, plan.app)
    if plan.partitions:
        await broker.delete_group(plan.app)
    if plan.topics:
        await broker.delete_topics(plan.topics)


def _delete_state(folder: Path, app: str) -> None:
    from ..state.directory import StateDirectory

    StateDirectory(folder, app, _nothing_opened).close()  # raises where a process works in it, or it is another app's
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise DiskError(f"{folder} cannot be deleted: {error.strerror}; delete it by hand") from error


def _nothing_opened(folder: Path) -> Database:
    raise InputError(f"{folder} is about to be deleted")
