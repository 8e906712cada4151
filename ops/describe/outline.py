"""What is shown of a topology: boxes and arrows, the same for text, JSON and the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from ...topics.duration import duration_text
from ...topics.topic import Topic
from ...workers.app import App
from ...workers.graph import Graph, Repartition, Sink, Source, Work
from ...workers.naming import changelog_topic, repartition_topic
from ...workers.operator import CoPartitioned
from ...workers.operators.global_join import GlobalJoin
from ...workers.startup import store_partitions
from ...workers.task import store_names
from ...workers.topology import SubTopology, Topology

Kind = Literal["topic", "internal", "step"]

COPARTITIONED: Final = "co-partitioned"
_SHORT: Final = ("window", "right minus left", "within", "direction", "where", "how")
"""Details of steps that say most."""

_STORES_MAX: Final = 3
"""Lines for the stores of a step."""


@dataclass(frozen=True, slots=True)
class Box:
    """A topic of the app's, an internal topic, or a step."""

    id: str
    kind: Kind
    name: str
    what: str
    """In a few words: the kind of the step, `topic`, or how it is read."""
    details: tuple[tuple[str, str], ...] = ()
    stores: tuple[str, ...] = ()
    """Stores that a step keeps, each with a changelog topic."""
    sub: str = ""
    """The sub-topology a step runs in; of a topic the one that reads it first, else that writes it."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What stands under the name in the picture: what it is, what it goes by, what it keeps."""
        stores = [f"store: {store}" for store in self.stores]
        if len(stores) > _STORES_MAX:
            stores[_STORES_MAX - 1 :] = [f"store: and {len(stores) - _STORES_MAX + 1} more"]
        return tuple(line for line in (self.what, self.brief, self.copartitioned, *stores) if line)

    @property
    def brief(self) -> str:
        """The details by which it is known at a glance."""
        told = dict(self.details)
        if self.kind != "step":
            return ", ".join(f"{name} {told[name]}" for name in ("key", "partitions") if name in told)
        by = next((f"by {told[name]}" for name in ("by", "on", "key") if name in told), "")
        return ", ".join(part for part in (next((told[name] for name in _SHORT if name in told), ""), by) if part)

    @property
    def copartitioned(self) -> str:
        """Of a join: by what and into how many partitions its inputs are cut."""
        return dict(self.details).get(COPARTITIONED, "")


@dataclass(frozen=True, slots=True)
class Outline:
    """Arrows are pairs of ids, in the order rows go."""

    app: str
    guarantee: str
    commit_interval_ms: int
    subs: tuple[tuple[str, int], ...]
    """Name and number of tasks."""
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[str, str], ...]
    changelogs: tuple[str, ...]

    def box(self, box_id: str) -> Box:
        return next(box for box in self.boxes if box.id == box_id)

    def after(self, box_id: str) -> list[str]:
        return [target for source, target in self.arrows if source == box_id]

    def as_json(self) -> dict[str, Any]:
        """Plain values, for `--format json`."""
        plain = asdict(self)
        plain["subs"] = [{"name": name, "tasks": tasks} for name, tasks in self.subs]
        plain["boxes"] = [{**box, "details": dict(box["details"])} for box in plain["boxes"]]
        return plain


def outline_of(app: App) -> Outline:
    """Of an app as it would run where no topic exists yet. Raises PlanError."""
    topology = app.plan()
    stores = list(store_partitions(topology))
    boxes: dict[str, Box] = {}
    arrows: dict[tuple[str, str], None] = {}
    for box, inputs in _boxes(topology, stores):
        boxes.setdefault(box.id, box)
        arrows.update(dict.fromkeys((source, box.id) for source in inputs))
    return Outline(
        app=app.name,
        guarantee=app.settings.guarantee,
        commit_interval_ms=app.settings.commit_interval_ms,
        subs=tuple((sub.name, sub.partitions) for sub in topology.subs),
        boxes=tuple(boxes.values()),
        arrows=tuple(arrows),
        changelogs=tuple(changelog_topic(app.name, store) for store in stores),
    )


def _boxes(topology: Topology, stores: list[str]) -> Iterator[tuple[Box, list[str]]]:
    """Every box with the ids of those whose rows it takes."""
    for sub in topology.subs:
        ids = {node.name: _topic_id(node.topic.name) for node in sub.sources}
        ids |= {node.name: f"step:{node.name}" for node in sub.works}
        for node in sub.nodes:
            inputs = [ids[port.node] for port in node.inputs] if not isinstance(node, Source) else []
            if isinstance(node, Work) and isinstance(node.step, GlobalJoin):
                table = node.step.table
                yield _topic(table, table.key, topology, sub.name, "global table"), []
                inputs.append(_topic_id(table.name))
            if isinstance(node, Work):
                yield _step(topology.graph, node, sub, stores), inputs
            elif isinstance(node, Repartition):
                name = repartition_topic(topology.app, node.name)
                details = (("key", ", ".join(node.key)), ("partitions", str(topology.partition_counts[name])))
                yield Box(_topic_id(name), "internal", name, "repartition topic", details, sub=sub.name), inputs
            elif not _is_internal(topology, node.topic.name):
                key = node.key if isinstance(node, Sink) else node.topic.key
                yield _topic(node.topic, key, topology, sub.name), inputs


def _topic_id(name: str) -> str:
    return f"topic:{name}"


def _is_internal(topology: Topology, name: str) -> bool:
    return any(name == one.name for one in topology.internal_topics)


def _step(graph: Graph, node: Work, sub: SubTopology, stores: list[str]) -> Box:
    operator = node.step.build([graph.schema(port) for port in node.inputs])
    own = tuple(name for name in store_names(node.name, operator.states) if name in stores)
    details = (*node.step.describe().items(), *_copartitioned(node, sub))
    return Box(f"step:{node.name}", "step", node.name, node.step.kind, details, own, sub.name)


def _copartitioned(node: Work, sub: SubTopology) -> list[tuple[str, str]]:
    """How the inputs of a join are cut, so that equal keys meet."""
    if not isinstance(node.step, CoPartitioned) or len(node.inputs) < 2:
        return []
    keys = dict.fromkeys(", ".join(node.step.partitioned_by(index)) for index in range(len(node.inputs)))
    partitions = "1 partition" if sub.partitions == 1 else f"{sub.partitions} partitions"
    return [(COPARTITIONED, f"{partitions} by {' = '.join(keys)}")]


def _topic(topic: Topic, key: tuple[str, ...], topology: Topology, sub: str, what: str = "topic") -> Box:
    details = {
        "partitions": str(topology.partition_counts.get(topic.name, topic.partitions or 1)),
        "key": ", ".join(key),
        "event_time": topic.event_time or "",
        "out_of_order": duration_text(topic.out_of_order_ms) if topic.out_of_order_ms else "",
        "codec": topic.codec,
        "dead_letters": topic.dead_letters or "",
        "columns": ", ".join(f"{name} {str(kind).lower()}" for name, kind in topic.schema or ()),
    }
    return Box(
        _topic_id(topic.name),
        "topic",
        topic.name,
        what,
        tuple((name, told) for name, told in details.items() if told),
        sub=sub,
    )
