"""Metrics: the table, the instrument, and that both know every name the code tells."""

from __future__ import annotations

import ast
import inspect

from prometheus_client.parser import text_string_to_metric_families

from millstream.ops import metrics
from millstream.ops.health import tell_statistics
from millstream.ops.metric_table import BY_NAME, METRICS
from millstream.ops.metrics import LABEL_SETS_MAX, PrometheusInstrument
from millstream.topics.batch import MIN_TIME, Partition
from millstream.workers.instrument import Instrument
from millstream.workers.statistics import ShardStatistics, TaskStatistics, WorkerStatistics
from tests.shape.tree import files, parse, short


def _samples(instrument: PrometheusInstrument) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(instrument.exposition().decode())
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
        if not one.name.endswith("_created")
    }


def test_what_is_told_is_shown() -> None:
    instrument: Instrument = PrometheusInstrument()
    instrument.count("records_in", 3, topic="clicks")
    instrument.count("records_in", 4, topic="clicks")
    instrument.gauge("broker_unavailable", 1)
    instrument.observe("commit_seconds", 0.02, shard="3")
    assert isinstance(instrument, PrometheusInstrument)
    samples = _samples(instrument)
    assert samples["millstream_records_in_total", (("topic", "clicks"),)] == 7
    assert samples["millstream_broker_unavailable", ()] == 1
    assert samples["millstream_commit_seconds_count", ()] == 1
    assert samples["millstream_commit_seconds_bucket", (("le", "0.025"),)] == 1
    assert samples["millstream_commit_seconds_bucket", (("le", "0.01"),)] == 0


def test_two_workers_in_one_process_do_not_mix() -> None:
    one, other = PrometheusInstrument(), PrometheusInstrument()
    one.count("records_in", 1, topic="clicks")
    assert ("millstream_records_in_total", (("topic", "clicks"),)) not in _samples(other)


def test_late_rows_have_their_reason_and_other_words_of_a_step_are_events() -> None:
    instrument = PrometheusInstrument()
    instrument.count("late_rows", 2, step="w")
    instrument.count("late_rows.partition_woke", 3, step="w")
    instrument.count("chunks_embedded", 5, step="ingest")
    samples = _samples(instrument)
    assert samples["millstream_late_rows_total", (("reason", "late"), ("step", "w"))] == 2
    assert samples["millstream_late_rows_total", (("reason", "partition_woke"), ("step", "w"))] == 3
    assert samples["millstream_step_events_total", (("event", "chunks_embedded"), ("step", "ingest"))] == 5


def test_a_name_that_is_not_in_the_table_is_counted_and_never_raises() -> None:
    instrument = PrometheusInstrument()
    instrument.gauge("surprise", 1)
    instrument.observe("records_in", 1)
    instrument.count("records_in", -1, topic="clicks")
    assert _samples(instrument)["millstream_metrics_ignored_total", ()] == 2
    assert instrument.ignored == {"surprise", "records_in"}


def test_labels_are_bounded() -> None:
    """However many topics there are, a metric has a few hundred rows: the rest is told together."""
    instrument = PrometheusInstrument()
    for number in range(LABEL_SETS_MAX + 50):
        instrument.count("records_in", 1, topic=f"t{number}")
    rows = {key: value for key, value in _samples(instrument).items() if key[0] == "millstream_records_in_total"}
    assert len(rows) == LABEL_SETS_MAX + 1
    assert rows["millstream_records_in_total", (("topic", "other"),)] == 50


def test_a_workers_statistics_become_gauges_and_what_is_gone_becomes_nought() -> None:
    instrument = PrometheusInstrument()
    tasks = (TaskStatistics("0_0", 5_000, 2), TaskStatistics("1_0", MIN_TIME, 0))
    shards = (
        ShardStatistics(0, "running", tasks, {Partition("clicks", 0): 7, Partition("orders", 0): 1}),
        ShardStatistics(1, "restoring", (TaskStatistics("0_1", 3_000, 1),), {Partition("clicks", 1): 5}),
    )
    tell_statistics(WorkerStatistics("shop", "running", 1, shards), instrument)
    samples = _samples(instrument)
    assert samples["millstream_lag_records", (("topic", "clicks"),)] == 12
    assert samples["millstream_watermark_seconds", (("sub_topology", "0"),)] == 3
    assert ("millstream_watermark_seconds", (("sub_topology", "1"),)) not in samples
    assert (samples["millstream_worker_ready", ()], samples["millstream_waiting_rows", ()]) == (0, 3)
    tell_statistics(WorkerStatistics("shop", "stopped", 1), instrument)
    samples = _samples(instrument)
    assert samples["millstream_worker_state", (("state", "running"),)] == 0
    assert samples["millstream_worker_state", (("state", "stopped"),)] == 1
    assert samples["millstream_shards", (("phase", "restoring"),)] == 0


def _told() -> dict[str, str]:
    """Names the package tells an instrument, with the place; a step's own words go through its context."""
    found = {}
    for path in files("topics", "state", "workers", "rag", suffix=".py"):
        for node in ast.walk(parse(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            receiver, name = ast.unparse(node.func.value), node.args[0]
            if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
                continue
            if receiver.endswith("instrument") and node.func.attr in {"count", "gauge", "observe"}:
                found[name.value] = f"{short(path)}:{node.lineno} {node.func.attr}"
            if node.func.attr == "_timed":
                found[f"{name.value}_seconds"] = f"{short(path)}:{node.lineno} observe"
    return found


def test_every_name_the_code_tells_is_in_the_table() -> None:
    kinds = {"count": "counter", "gauge": "gauge", "observe": "histogram"}
    told = _told()
    assert len(told) > 3
    wrong = [
        f"{name} ({place})"
        for name, place in told.items()
        if name not in BY_NAME or BY_NAME[name].kind != kinds[place.split()[1]]
    ]
    assert wrong == []


def test_every_metric_of_the_table_is_told_by_something() -> None:
    """A row that nothing fills would be a promise not kept."""
    package = "\n".join(path.read_text() for path in files("topics", "state", "workers", "rag", suffix=".py"))
    own = inspect.getsource(tell_statistics) + inspect.getsource(metrics)
    silent = [
        metric.name for metric in METRICS if f'"{metric.name}"' not in package + own and metric.name not in _told()
    ]
    assert silent == []
