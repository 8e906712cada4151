"""Prometheus metrics: an `Instrument` whose registry is its own, so that two workers in one process do not mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .metric_table import BY_NAME, METRICS, Kind, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

LABEL_SETS_MAX: Final = 500
"""Different label values a metric keeps apart; further ones are counted together under the value `other`."""

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the buckets of durations."""


class PrometheusInstrument:
    """Never raises. What is not in the table is counted as `millstream_metrics_ignored_total`, and its name kept in `ignored`.

    Labels that are not in the table are left out: their values are counted together. `metrics`: rows of the table that there are here.
    """

    def __init__(self, metrics: Sequence[Metric] = METRICS) -> None:
        self.registry = CollectorRegistry()
        self.ignored: set[str] = set()
        rows = dict.fromkeys((*metrics, BY_NAME["metrics_ignored"]))
        self._metrics = {metric.name: _made(metric, self.registry) for metric in rows}
        self._children: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}
        self._label_sets: dict[str, int] = {}

    def count(self, name: str, amount: int | float = 1, **labels: str) -> None:
        known, told = _as_in_table(name, labels)
        child = self._child(known, "counter", told)
        if child is not None and amount >= 0:
            child.inc(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        child = self._child(name, "gauge", labels)
        if child is not None:
            child.set(value)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        child = self._child(name, "histogram", labels)
        if child is not None:
            child.observe(seconds)

    def all_of(self, name: str, label: str, values: Mapping[str, float]) -> None:
        """The values of a gauge by its only label; those it had under other values of the label become 0."""
        gone = [labels[0][1] for known, labels in self._children if known == name and labels[0][1] not in values]
        for value, number in [*values.items(), *((one, 0.0) for one in gone)]:
            self.gauge(name, number, **{label: value})

    def exposition(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _child(self, name: str, kind: Kind, labels: Mapping[str, str]) -> Any:
        key = (name, tuple(sorted(labels.items())))
        child = self._children.get(key)
        return child if child is not None else self._new_child(key, kind, labels)

    def _new_child(self, key: tuple[str, tuple[tuple[str, str], ...]], kind: Kind, labels: Mapping[str, str]) -> Any:
        name = key[0]
        metric = BY_NAME.get(name)
        if metric is None or metric.kind != kind or name not in self._metrics:
            if len(self.ignored) < LABEL_SETS_MAX:
                self.ignored.add(name)
            self._metrics["metrics_ignored"].inc()
            return None
        values = [str(labels.get(label, "")) for label in metric.labels]
        if self._label_sets.get(name, 0) >= LABEL_SETS_MAX:
            return self._metrics[name].labels(*("other" for _ in values))
        self._label_sets[name] = self._label_sets.get(name, 0) + 1
        child = self._metrics[name].labels(*values) if values else self._metrics[name]
        self._children[key] = child
        return child


def _as_in_table(name: str, labels: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """A step counts by words of its own, `late_rows.partition_woke`: a reason of `late_rows`, or a `step_events`."""
    word, dot, reason = name.partition(".")
    if word == "late_rows":
        return word, {**labels, "reason": reason or "late"}
    if set(labels) == {"step"} and (dot or name not in BY_NAME):
        return "step_events", {**labels, "event": name}
    return name, labels


def _made(metric: Metric, registry: CollectorRegistry) -> Any:
    name, labels = f"millstream_{metric.name}", metric.labels
    if metric.kind == "counter":
        return Counter(name, metric.help, labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(name, metric.help, labels, registry=registry)
    return Histogram(name, metric.help, labels, registry=registry, buckets=SECONDS)
