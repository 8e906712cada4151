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
        "Records that could not be worked on: each a dead letter, skipped, or a stop, by the topic's policy.",
    ),
    Metric(
        "late_rows",
        "counter",
        ("step", "reason"),
        "Rows too late for all their windows, for partners of a join, or for a pattern. Reason `late`, or `partition_woke`: "
        "behind the task's watermark only, as their partition had been idle.",
    ),
    Metric("late_rows_joined", "counter", ("step",), "Late rows of a join that found a partner all the same."),
    Metric(
        "join_spilled_bytes",
        "counter",
        ("step",),
        "Rows of a join that went to scratch files, as the memory of `join_buffer_bytes_max` was full.",
    ),
    Metric("late_window_rows", "counter", ("step",), "Pairs of a row and a window it came too late for."),
    Metric(
        "rows_in_no_window",
        "counter",
        ("step",),
        "Rows in the gaps of hopping windows whose hop is longer than their size.",
    ),
    Metric("step_events", "counter", ("step", "event"), "Whatever else a step counts, by its own word."),
    Metric(
        "shard_failures",
        "counter",
        ("instruction",),
        "Times a shard was taken again after an error, by what it was doing.",
    ),
    Metric("metrics_ignored", "counter", (), "Values that were told under a name that is not in this table."),
    Metric("broker_unavailable", "gauge", (), "1 while the broker cannot be reached."),
    Metric("worker_state", "gauge", ("state",), "1 for the state the worker is in, 0 for those it was in before."),
    Metric("worker_ready", "gauge", (), "1 while all that was assigned is being worked on; what /ready says."),
    Metric("shards", "gauge", ("phase",), "Shards of this worker, by what they are doing."),
    Metric("lag_records", "gauge", ("topic",), "Records of this worker's partitions that are not worked off."),
    Metric(
        "watermark_seconds",
        "gauge",
        ("sub_topology",),
        "The smallest watermark of its tasks here, seconds since the epoch.",
    ),
    Metric("waiting_rows", "gauge", (), "Rows whose calls (models, endpoints) are under way."),
    Metric(
        "restore_records_left", "gauge", ("store", "shard"), "Changelog records to be read before the shard can work."
    ),
    Metric(
        "standby_records_behind",
        "gauge",
        ("shard",),
        "Changelog records that our warm copy of the shard does not have yet.",
    ),
    Metric("restore_seconds_left", "gauge", ("store", "shard"), "About how long that takes at the rate so far."),
    Metric("restored_records", "counter", ("store",), "Changelog records read to bring states back."),
    Metric("commit_seconds", "histogram", (), "Time the broker took for a commit."),
    Metric(
        "commit_cycle_seconds",
        "histogram",
        (),
        "Time from when a commit was due until it was done: state written, records acknowledged, offsets, the commit itself.",
    ),
    Metric(
        "acknowledge_seconds",
        "histogram",
        (),
        "Time from the end of a commit's work until every record of it was acknowledged.",
    ),
    Metric("restore_seconds", "histogram", (), "Time the changelogs of a shard took to read."),
)

GATEWAY_METRICS: Final = (
    Metric(
        "gateway_requests",
        "counter",
        ("route", "status"),
        "Requests that a gateway answered, by the route as OpenAPI has it; route `none` for what there is not.",
    ),
    Metric(
        "gateway_request_seconds",
        "histogram",
        ("route",),
        "Time from a request's head to the head of its answer; of a stream that is its first event.",
    ),
    Metric("gateway_questions_open", "gauge", (), "Questions whose answers a gateway waits for, standing ones too."),
    Metric("gateway_timeouts", "counter", ("route",), "Requests that had no answer within `gateway_timeout_ms`."),
    Metric(
        "gateway_late_answers", "counter", (), "Answers that were asked for by their id after that, and were there."
    ),
)
"""Those of a gateway, on a `/metrics` of its own."""

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in (*METRICS, *GATEWAY_METRICS)}


def metrics_table() -> str:
    """The table of docs/reference/metrics.md."""
    lines = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    for metric in (*METRICS, *GATEWAY_METRICS):
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.exposed}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines)
