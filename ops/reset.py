"""Forgets what an app knows: its group's offsets, its changelogs, repartition topics and fingerprint, its local state.

Topics the app reads and writes stay: what was written was written. With the app itself at hand its internal topics are known
by name; with only its name they are found by the pattern `<app>-*-changelog`, `<app>-*-repartition`, and those that belong to
another app whose name begins alike (`shop` and `shop-live`) are left alone, as that app has a group of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..state.errors import DiskError
from ..state.store import Database
from ..topics.batch import Partition
from ..topics.broker import Committed
from ..workers.app import App, outside_topics
from ..workers.copartition import possible_repartitions
from ..workers.naming import changelog_topic, fingerprint_topic, repartition_topic
from .errors import InputError
from .offsets import commit_offsets

if TYPE_CHECKING:
    from ..topics.broker import Broker

ENDINGS = ("-changelog", "-repartition")


@dataclass(frozen=True, slots=True)
class Known:
    """Names that only the code of an app can tell."""

    internal: frozenset[str]
    inputs: frozenset[str]
    """Topics it reads."""
    outside: frozenset[str]
    """Topics it reads or writes, dead letters included."""

    @classmethod
    def of(cls, app: App) -> Known:
        """Raises PlanError."""
        from ..workers.startup import store_partitions

        topology = app.plan()
        internal = {topic.name for topic in topology.internal_topics} | {fingerprint_topic(app.name)}
        internal |= {repartition_topic(app.name, name) for name in possible_repartitions(app.graph)}
        changelogs = {changelog_topic(app.name, store) for store in store_partitions(topology)}
        topics = outside_topics(app.graph)
        dead = {topic.dead_letters for topic in topics if topic.dead_letters}
        inputs = frozenset(topology.source_topics) - internal
        return cls(frozenset(internal | changelogs), inputs, frozenset(topic.name for topic in topics) | dead)


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """What would go, and where the app would begin."""

    app: str
    offsets: Mapping[Partition, Committed] = field(default_factory=dict)
    """Committed now."""
    topics: tuple[str, ...] = ()
    state: Path | None = None
    """The app's folder of local state, where there is one."""
    members: tuple[str, ...] = ()
    """Who works in the group: then nothing can be reset."""
    starts: Mapping[Partition, int] = field(default_factory=dict)
    """Offsets to be committed afterwards; none: the app begins as its `start_from` says."""
    left: tuple[str, ...] = ()
    """Topics of the app that stay as they are, as far as they are known."""

    @property
    def empty(self) -> bool:
        return not (self.offsets or self.topics or self.state or self.starts)

    def lines(self) -> Iterator[str]:
        """What is shown before anybody is asked."""
        count = len(self.offsets)
        yield f"offsets of group {self.app}: {count} partition{'' if count == 1 else 's'}" if count else "offsets: none"
        yield f"topics to be deleted: {', '.join(self.topics)}" if self.topics else "topics to be deleted: none"
        yield f"local state to be deleted: {self.state}" if self.state else "local state: none here"
        for partition, offset in sorted(self.starts.items()):
            yield f"begins anew: {partition} at offset {offset}"
        yield f"left alone: {', '.join(self.left) or 'every topic the app reads or writes'}"

    def done(self) -> str:
        """What is shown afterwards."""
        state = "local state deleted" if self.state else "no local state here"
        begins = f", {len(self.starts)} new offsets committed" if self.starts else ""
        return f"done: {len(self.offsets)} offsets forgotten, {len(self.topics)} topics deleted, {state}{begins}"

    def check(self) -> None:
        """Raises InputError naming the members that are in the way."""
        if self.members:
            raise InputError(
                f"app {self.app!r} has workers: {', '.join(self.members)}; stop them first "
                "(Ctrl-C leaves the group at once; one that was ended in another way counts until its session times out, "
                "some seconds later)"
            )


async def plan_reset(
    broker: Broker, name: str, state_dir: Path, known: Known | None = None, to: str | None = None
) -> ResetPlan:
    """Looks, and changes nothing. `known`: what the app's code tells; None: internal topics are found by the pattern.

    `to`: where to begin afterwards: "earliest", "latest", or a time as ISO 8601. Raises InputError for anything else.
    """
    topics = await internal_topics(broker, name, known)
    offsets = await broker.group_offsets(name)
    folder = state_dir / name
    inputs = known.inputs if known else {one.topic for one in offsets} - set(topics)
    starts = await _starts(broker, name, inputs, to) if to is not None else {}
    left = {one.topic for one in offsets} | (known.outside if known else frozenset())
    return ResetPlan(
        name,
        offsets,
        tuple(topics),
        folder if folder.is_dir() else None,
        tuple(await broker.group_members(name)),
        starts,
        tuple(topic for topic in sorted(await broker.list_topics()) if topic in left and topic not in topics),
    )


async def internal_topics(broker: Broker, name: str, known: Known | None) -> list[str]:
    """The app's changelogs, repartition topics and fingerprint, those that exist."""
    there = sorted(await broker.list_topics())
    if known is not None:
        return [topic for topic in there if topic in known.internal]
    return [topic for topic in there if await _is_of(broker, topic, name)]


async def _is_of(broker: Broker, topic: str, app: str) -> bool:
    if topic == fingerprint_topic(app):
        return True
    if not topic.startswith(f"{app}-") or not topic.endswith(ENDINGS):
        return False
    parts = topic.split("-")
    longer = ["-".join(parts[:count]) for count in range(app.count("-") + 2, len(parts) - 1)]
    return not any([await broker.group_offsets(other) for other in longer])


async def _starts(broker: Broker, name: str, inputs: Collection[str], to: str) -> dict[Partition, int]:
    found = await broker.describe_topics(inputs)
    partitions = [Partition(topic, index) for topic, info in sorted(found.items()) for index in range(info.partitions)]
    if not partitions:
        raise InputError(
            f"app {name!r} has committed no offset yet, so what it reads is not known; give its TARGET (file.py, "
            "pipeline.yaml) and not only its name"
        )
    reader = broker.reader()
    await reader.start()
    try:
        if to == "earliest":
            return await reader.begin_offsets(partitions)
        if to == "latest":
            return await reader.end_offsets(partitions)
        return await reader.offsets_at(partitions, time_ms(to))
    finally:
        await reader.stop()


def time_ms(text: str) -> int:
    """Milliseconds since the epoch of an ISO 8601 time; without a zone it is UTC. Raises InputError."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"--to {text!r}: expected earliest, latest, or a time as in 2026-11-25T08:00:00+01:00 (without a zone: UTC)"
        ) from error
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


async def perform_reset(broker: Broker, plan: ResetPlan) -> None:
    """State first: a worker that runs holds its lock, and nothing was done yet.

    Raises InputError, LockedError, ConfigurationError while somebody works.
    """
    plan.check()
    if plan.state is not None:
        _delete_state(plan.state, plan.app)
    if plan.offsets:
        await broker.delete_group(plan.app)
    if plan.topics:
        await broker.delete_topics(plan.topics)
    if plan.starts:
        starts = {partition: Committed(offset) for partition, offset in plan.starts.items()}
        await commit_offsets(broker, plan.app, starts)


def _delete_state(folder: Path, app: str) -> None:
    from ..state.directory import StateDirectory

    StateDirectory(folder, app, _nothing_opened).close()  # raises where a process works in it, or it is another app's
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise DiskError(f"{folder} cannot be deleted: {error.strerror}; delete it by hand") from error


def _nothing_opened(folder: Path) -> Database:
    raise InputError(f"{folder} is about to be deleted")
