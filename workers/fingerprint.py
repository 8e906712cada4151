"""What an app's stores are, as values that are kept beside them, and whether new code may go on with what old code left.

    the plan --fingerprint_of--> {store: StoreFingerprint}       the code as it is
                                        |  judge  -> goes on: nothing changed, stores came, stores went
    <app>-fingerprint (topic) ----------+         -> FingerprintError: what changed, and the ways out
                                 the code that wrote the state

Only what determines the format and the meaning of a state counts: the kind of the step, the parameters its step declares
(`StateDefinition`), how many partitions it has and which topics reach it. A filter put before it, a commit interval or an
output topic are no concern of a store. Where it is kept: `fingerprint_topic.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..topics.duration import duration_text
from ..topics.schema import Schema
from .errors import FingerprintError
from .graph import Graph, Port, Source, Work
from .instrument import Silent
from .naming import changelog_topic
from .operator import DefinesState, StateDefinition
from .task import Task, TaskSettings, store_names
from .topology import SubTopology, Topology

FORMAT = 1
NEWER_VERSION = "written by a newer version of Millstream"


@dataclass(frozen=True, slots=True)
class StoreFingerprint:
    """One store. Two are interchangeable when all but their names are equal."""

    store: str
    step: str
    kind: str
    """Of the step, as in `describe`."""
    partitions: int
    topics: tuple[str, ...]
    """The app's own topics whose rows reach the step, sorted."""
    parameters: Mapping[str, str]
    limits: Mapping[str, int]
    """In ms. They may shrink: `StateDefinition`."""

    @property
    def digest(self) -> str:
        """Of what the bytes of a local database depend on."""
        told = [self.kind, self.partitions, sorted(self.parameters.items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def is_like(self, other: StoreFingerprint) -> bool:
        """The same under another name."""
        return self.digest == other.digest and (self.topics, self.limits) == (other.topics, other.limits)

    def to_bytes(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> StoreFingerprint:
        """Raises FingerprintError for what this version cannot read."""
        try:
            found: dict[str, Any] = json.loads(value)
            if found.pop("format") != FORMAT:
                raise ValueError(NEWER_VERSION)
            return cls(**{**found, "topics": tuple(found["topics"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FingerprintError(
                f"the description of a store cannot be read ({error}): {value[:80]!r}; run the version that wrote it, "
                "or begin anew: millstream reset"
            ) from error


def fingerprint_of(topology: Topology) -> dict[str, StoreFingerprint]:
    """Of every store of the plan, by its name."""
    return {one.store: one for sub in topology.subs for one in _stores_of(topology, sub)}


def _stores_of(topology: Topology, sub: SubTopology) -> Iterator[StoreFingerprint]:
    operators = Task(topology, sub, 0, TaskSettings(), Silent()).operators
    for work in sub.works:
        if stores := store_names(work.name, operators[work.name].states):
            defined = _definition(work, [topology.graph.schema(port) for port in work.inputs])
            topics = tuple(sorted(_topics_of(topology.graph, work.inputs)))
            for store in stores:
                yield StoreFingerprint(
                    store, work.name, work.step.kind, sub.partitions, topics, defined.parameters, defined.limits
                )


def _definition(work: Work, inputs: Sequence[Schema]) -> StateDefinition:
    """As the step declares it; of a step that does not, all it tells of itself."""
    step = work.step
    return step.state_definition(inputs) if isinstance(step, DefinesState) else StateDefinition(dict(step.describe()))


def _topics_of(graph: Graph, ports: Collection[Port]) -> set[str]:
    """Followed upstream, through repartition topics too."""
    nodes = [graph.nodes[port.node] for port in ports]
    return {name for node in nodes for name in _reaching(graph, node)}


def _reaching(graph: Graph, node: Any) -> set[str]:
    return {node.topic.name} if isinstance(node, Source) else _topics_of(graph, node.inputs)


# -- judging


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is different and does no harm."""

    came: tuple[str, ...] = ()
    """Stores that begin empty."""
    went: tuple[str, ...] = ()
    """Stores that no step has any more."""


def judge(
    app: str,
    known: Mapping[str, StoreFingerprint] | None,
    now: Mapping[str, StoreFingerprint],
    holding: Collection[str],
) -> Verdict:
    """`known`: as kept, None where nothing was ever kept; `holding`: stores whose changelog has records.

    A store without records can be anything. Raises FingerprintError with every difference that cannot be, and the ways out.
    """
    if known is None:
        return Verdict(tuple(now))
    bound = {name: one for name, one in known.items() if name in holding}
    gone = {name: one for name, one in bound.items() if name not in now}
    new = {name: one for name, one in now.items() if name not in bound}
    problems = [line for name, old in bound.items() if name in now for line in _changed(old, now[name], new)]
    problems += [line for old in gone.values() for line in _moved(old, new)]
    problems += [_left_over(app, one) for name, one in new.items() if name in holding]
    if problems:
        raise FingerprintError(_refusal(app, problems))
    return Verdict(tuple(name for name in now if name not in known), tuple(name for name in known if name not in now))


def _changed(old: StoreFingerprint, now: StoreFingerprint, new: Mapping[str, StoreFingerprint]) -> Iterator[str]:
    lines = [f"store {old.store!r}: {line}" for line in _differences(old, now)]
    yield from lines
    if lines:
        yield from (
            f"store {old.store!r}: what it was is step {one.step!r} now; name={old.step!r} on that step keeps the store"
            for one in new.values()
            if one.is_like(old)
        )


def _differences(old: StoreFingerprint, now: StoreFingerprint) -> Iterator[str]:
    if old.kind != now.kind:
        yield f"kind {old.kind} -> {now.kind}"
        return
    if old.partitions != now.partitions:
        yield f"{old.partitions} partitions -> {now.partitions}, as the topics it reads have: keys would not be found again"
    if gone := set(old.topics) - set(now.topics):
        yield f"rows of {', '.join(sorted(gone))} -> rows of {', '.join(now.topics)}"
    for name in dict.fromkeys([*old.parameters, *now.parameters]):
        before, after = old.parameters.get(name, "none"), now.parameters.get(name, "none")
        if before != after:
            yield f"{name} {before} -> {after}"
    for name, limit in now.limits.items():
        if limit > old.limits.get(name, limit):
            yield f"{name} {duration_text(old.limits[name])} -> {duration_text(limit)} (it can only become shorter)"


def _moved(old: StoreFingerprint, new: Mapping[str, StoreFingerprint]) -> Iterator[str]:
    like = next((one for one in new.values() if one.is_like(old)), None)
    if like is not None:
        yield (
            f"store {old.store!r} is gone, and {like.store!r} is the same under another name; "
            f"name={old.step!r} on that step keeps the store"
        )


def _left_over(app: str, one: StoreFingerprint) -> str:
    return (
        f"store {one.store!r} is new, and its changelog {changelog_topic(app, one.store)} holds records: an earlier version "
        "of the code had it, and others have run without it since; give the step another name="
    )


def _refusal(app: str, problems: Sequence[str]) -> str:
    told = "\n".join(f"  {line}" for line in dict.fromkeys(problems))
    return (
        f"app {app!r}: the code does not fit the state it left\n{told}\n"
        "put the code back as it was, or\n"
        f"  millstream reset {app}: forget offsets and state, and read everything again\n"
        f"  another app id, as in App('{app}-2'), app: {app}-2 in YAML: begin anew beside it\n"
        "  name= on a step, name: in YAML: the store of that name is kept; a new name begins with an empty store"
    )
