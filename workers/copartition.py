"""Inputs of a join whose topics have different partition counts: the plan puts the smaller ones behind a repartition topic.

Equal keys meet only where both sides have the same number of partitions, cut by the same key. That they are cut by the key is
seen to while the graph is built (`StreamBase.partitioned`); how many partitions there are is known when the plan is made, for
it depends on the topics that exist. So this is a step of planning: a graph in, a graph with more repartitions out. The largest
side stays as it is, since its topic's count is the one that a repartition topic can be given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .errors import PlanError
from .graph import Graph, Node, Port, Repartition, Source, Work
from .naming import free_name
from .operator import CoPartitioned


def copartitioned(graph: Graph, counts: Mapping[str, int]) -> Graph:
    """The same graph where everything fits. `counts`: partitions of outside topics. Raises PlanError for what cannot be mended."""
    changed = Graph(dict(graph.nodes), graph.globals)
    for node in graph:
        if isinstance(node, Work) and len(node.inputs) > 1:
            found = [_count(changed, port, counts) for port in node.inputs]
            largest = max((count for count in found if count is not None), default=None)
            if node.step.kind != "merge" and any(count not in (None, largest) for count in found):
                changed = _with_repartitions(changed, node, found, largest)
    return changed


def possible_repartitions(graph: Graph) -> list[str]:
    """Names of all the nodes that `copartitioned` might add, whatever the partition counts are."""
    works = [node for node in graph if isinstance(node, Work)]
    return [
        f"{_label(work, index)}-1"
        for work in works
        if isinstance(work.step, CoPartitioned)
        for index in range(len(work.inputs))
    ]


def _label(work: Work, index: int) -> str:
    assert isinstance(work.step, CoPartitioned), "asked before"
    return f"{work.name}-by-{'-'.join(work.step.partitioned_by(index))}"


def _count(graph: Graph, port: Port, counts: Mapping[str, int]) -> int | None:
    """Partitions of what reaches a port; None: a repartition topic's, which can be any."""
    node = graph.nodes[port.node]
    if isinstance(node, Repartition):
        return None
    if isinstance(node, Source):
        return counts[node.topic.name]
    found = {_count(graph, one, counts) for one in node.inputs}
    return max((count for count in found if count is not None), default=None)


def _with_repartitions(graph: Graph, work: Work, found: list[int | None], largest: int | None) -> Graph:
    if not isinstance(work.step, CoPartitioned):
        raise PlanError(
            f"step {work.name!r} joins topics of different partition counts ({', '.join(map(str, found))}), so equal keys do "
            f"not meet, and {work.step.kind} does not say by which columns they could be repartitioned; recreate a topic"
        )
    inputs = list(work.inputs)
    added: list[Repartition] = []
    for index, count in enumerate(found):
        if count not in (None, largest):
            columns = work.step.partitioned_by(index)
            taken = {**graph.nodes, **{one.name: one for one in added}}
            name = free_name(_label(work, index), taken)
            added.append(Repartition(name, (work.inputs[index],), columns, graph.schema(work.inputs[index])))
            inputs[index] = Port(name)
    return _rebuilt(graph, work, replace(work, inputs=tuple(inputs)), added)


def _rebuilt(graph: Graph, old: Work, new: Work, added: list[Repartition]) -> Graph:
    """With the new nodes just before the one that reads them."""
    nodes: dict[str, Node] = {}
    for name, node in graph.nodes.items():
        if name == old.name:
            nodes |= {one.name: one for one in added}
        nodes[name] = new if name == old.name else node
    return Graph(nodes, graph.globals)
