"""Every metric there is: its name, kind, labels and meaning. docs/reference/metrics.md is made from this table.

Names are given here as an `Instrument` is told them; Prometheus sees `millstream_<name>`, with `_total` behind a counter.
Labels are few and bounded: topics, steps and reasons of the app, never keys, offsets or partitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def exposed(self) -> str:
        return f"millstream_{self.name}{'_total' if self.kind == 'counter' else ''}"


METRICS: Final = (
    Metric("records_in", "counter", ("topic",), "Records read."),
    Metric("records_out", "counter", ("topic",), "Records written to output topics."),
    Metric(
        "rejected_records",
        "counter",
        ("topic", "error", "step"),
        "Records that could not be worked on, each a dead letter, skipped, or a stop, by the topic's policy.",
    ),
    Metric(
        "late_rows",
        "counter",
        ("step", "reason"),
        "Rows too late for all their windows, or for every partner of a join.",
    ),
    Metric("late_window_rows", "counter", ("step",), "Pairs of a row and a window it came too late for."),
    Metric(
        "rows_in_no_window",
        "counter",
        ("step",),
        "Rows in the gaps of hopping windows whose hop is longer than the size.",
    ),
    Metric("step_events", "counter", ("step", "event"), "Whatever else a step counts, by its own word."),
    Metric("changelog_records", "counter", (), "Records written to changelog topics."),
    Metric("restored_records", "counter", (), "Changelog records read to restore state."),
    Metric("commits", "counter", ("outcome",), "Commits, by outcome: `done`, `aborted`, `unknown`, `fenced`."),
    Metric("rebalances", "counter", (), "Rebalances of the consumer group this worker went through."),
    Metric(
        "broker_errors", "counter", ("error",), "Requests that failed and were tried again, by the class of the error."
    ),
    Metric(
        "calls", "counter", ("step", "outcome"), "Calls that wait (models, endpoints), by outcome: `done`, `failed`."
    ),
    Metric("metrics_ignored", "counter", (), "Values that were told under a name or label that is not in this table."),
    Metric("worker_state", "gauge", ("state",), "1 for the state the worker is in, 0 for the others."),
    Metric("tasks", "gauge", ("phase",), "Tasks of this worker, by phase."),
    Metric("lag_records", "gauge", ("topic",), "Records of the topic's partitions of this worker not read yet."),
    Metric(
        "watermark_seconds", "gauge", ("sub_topology",), "The smallest watermark of its tasks, seconds since the epoch."
    ),
    Metric("state_bytes", "gauge", ("step",), "Memory that a step's state takes."),
    Metric("pending_calls", "gauge", ("step",), "Calls under way."),
    Metric("broker_connected", "gauge", (), "1 while the broker answers, 0 while it does not."),
    Metric("commit_seconds", "histogram", (), "Time from the decision to commit to its outcome."),
    Metric("process_seconds", "histogram", ("sub_topology",), "Time one batch of records took."),
    Metric("restore_seconds", "histogram", (), "Time from the assignment of a shard until its state was there."),
    Metric("call_seconds", "histogram", ("step",), "Time a call took."),
)

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}


def metrics_table() -> str:
    """The table of docs/reference/metrics.md."""
    lines = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.exposed}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines)
