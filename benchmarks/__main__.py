"""`make bench`: the jobs of `docs/benchmarks.md` on a local broker; prints them and writes `build/bench.json`."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from millstream.ops.local_broker import LocalBroker
from millstream.topics.batch import Partition
from millstream.topics.broker import Broker, TopicSpec
from millstream.topics.kafka.broker import KafkaBroker

from .clicks import PARTITIONS, Clicks
from .failover import results as failover_results
from .freshness import results as freshness_results
from .keys import results as keys_results
from .peers.run import PEERS, run_peer
from .recall import results as recall_results
from .recall import too_low
from .recovery import results as recovery_results
from .retrieval import results as retrieval_results
from .retrieval_quality import results_of_environment
from .serving import results as serving_results
from .sharded import results as sharded_results
from .stages import line
from .visits import Visits
from .words import Words

EVENTS = int(os.environ.get("EVENTS", "3000000"))
TARGETS = {
    "tumbling_at_least_once": 2.5,
    "tumbling_exactly_once": 3.0,
    "pass_through": 1.5,
    "session": 2.5,
    "wordcount": 1.0,
    "interval_join": 3.5,
}
JOBS = [*TARGETS, "pass_through_bytes", "tumbling_500ms_at_least_once", "tumbling_500ms_exactly_once"]
JOIN_EVENTS_SHARE = 2 / 3
"""Of the events of the other jobs: two million, as it is measured elsewhere."""
EXACTLY_ONCE_COST_PERCENT_MAX = 15
"""More CPU than at-least-once, both with a commit every 500 ms."""
OUT = Path("build/bench.json")


@dataclass(frozen=True)
class Result:
    """One figure, as it stands in `build/bench.json`."""

    name: str
    value: float
    unit: str
    better: str
    target: float | None


def machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


class Input(Protocol):
    """What a job reads."""

    @property
    def events(self) -> int: ...

    async def produce(self, broker: Broker) -> None: ...


def inputs_of(names: Iterable[str]) -> dict[str, Input]:
    """By job; those that read the same share one."""
    clicks: Input = Clicks.generate(EVENTS)
    others: dict[str, Callable[[], Input]] = {
        "wordcount": lambda: Words.generate(EVENTS),
        "interval_join": lambda: Visits.generate(int(EVENTS * JOIN_EVENTS_SHARE)),
    }
    return {name: others[name]() if name in others else clicks for name in names}


async def produce(bootstrap: str, given: Iterable[Input]) -> None:
    broker = KafkaBroker({"bootstrap.servers": bootstrap, "compression.type": "lz4"})
    await broker.start()
    for one in given:
        await one.produce(broker)
    await broker.stop()


async def produce_for_peer(bootstrap: str, clicks: Clicks, topic: str, output: str) -> None:
    broker = KafkaBroker({"bootstrap.servers": bootstrap, "compression.type": "lz4"})
    await broker.start()
    await clicks.produce(broker, topic)
    await broker.create_topics([TopicSpec(output, PARTITIONS)])
    await broker.stop()


async def read_values(bootstrap: str, topic: str) -> list[bytes | None]:
    broker = KafkaBroker({"bootstrap.servers": bootstrap})
    await broker.start()
    reader = broker.reader()
    await reader.start()
    partitions = [Partition(topic, index) for index in range(PARTITIONS)]
    ends = await reader.end_offsets(partitions)
    reader.assign(dict.fromkeys(partitions, 0))
    values: list[bytes | None] = []
    while any(reader.position(partition) < ends[partition] for partition in partitions):
        for fetch in await reader.poll(timeout_ms=500, records_max=200_000):
            values.extend(fetch.values)
    await reader.stop()
    await broker.stop()
    return values


def check(name: str, values: list[bytes | None], given: Input) -> str:
    """The output against the truth; raises AssertionError where they differ."""
    if name.startswith("pass_through"):
        assert len(values) == given.events, (len(values), given.events)
        return f"{len(values):,} records out"
    if isinstance(given, Words | Visits):
        return given.check(values)
    assert isinstance(given, Clicks), "the rest reads clicks"
    return check_windows(values, given.sessions() if name == "session" else given.truth())


def check_windows(values: list[bytes | None], truth: pl.DataFrame) -> str:
    rows = pl.read_ndjson(b"\n".join(value for value in values if value is not None))
    if "diff" in rows.columns:  # Pathway takes a result back before it gives the next
        rows = rows.filter(pl.col("diff") > 0)
    last = rows.group_by("user_id", "window_start", maintain_order=True).last()
    both = truth.join(last, on=["user_id", "window_start"], how="full", suffix="_got")
    wrong = both.filter(
        pl.col("n").ne_missing(pl.col("n_got"))
        | ((pl.col("total") - pl.col("total_got")).abs() > 1e-6).fill_null(value=True)
    )
    assert wrong.height == 0, f"{wrong.height} of {truth.height} results are wrong: {wrong.head(3)}"
    return f"{truth.height:,} results right, {rows.height:,} updates"


def run_peers(bootstrap: str, clicks: Clicks) -> list[Result]:
    """The tumbling-window job on the peers, on the same input (the slow ones on its beginning), held against the same truth."""
    results = []
    for peer in PEERS:
        events = min(peer.events_max, clicks.frame.height)
        part, topic, output = Clicks(clicks.frame[:events]), f"clicks-{peer.name}", f"totals-{peer.name}"
        asyncio.run(produce_for_peer(bootstrap, part, topic, output))
        told = run_peer(peer, bootstrap, topic, output, events)
        if isinstance(told, str):
            print(f"{peer.name:26} {told}", flush=True)
            continue
        checked = check(peer.name, asyncio.run(read_values(bootstrap, output)), part)
        per_event = told.cpu_s / events * 1e6
        rate = events / told.wall_s
        print(
            f"{peer.name:26} {per_event:6.2f} us CPU/event  {rate:>10,.0f} events/s  of {events:,} events   {checked}",
            flush=True,
        )
        results.append(Result(f"peer_{peer.name}", round(per_event, 3), "us_cpu/event", "lower", None))
    return results


def as_installed() -> dict[str, str]:
    """The environment without a word that keeps Python from storing what it compiled: a deployment compiles once."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_job(name: str, bootstrap: str, given: Input) -> list[Result]:
    output = f"{name.replace('_', '-')}-{time.time_ns() % 1_000_000}"
    command = [sys.executable, "-m", "benchmarks.job", name, bootstrap, output]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=as_installed())
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    checked = check(name, asyncio.run(read_values(bootstrap, output)), given)
    events = given.events
    per_event = told["cpu_s"] / events * 1e6
    rate, peak = events / told["wall_s"], f"{told['peak_mib']:>6,.0f} MiB peak"
    commits = f"commits p50 {told['commit_p50_ms']:.0f} ms, p99 {told['commit_p99_ms']:.0f} ms"
    print(f"{name:28} {per_event:5.2f} us CPU/event  {rate:>9,.0f} events/s  {peak}  {commits}  {checked}", flush=True)
    results = [Result(name, round(per_event, 3), "us_cpu/event", "lower", TARGETS.get(name))]
    if "500ms" in name:
        results += [
            Result(f"{name}_commit_{at}", told[f"commit_{at}_ms"], "ms", "lower", None) for at in ("p50", "p99")
        ]
    return results


def exactly_once_cost(results: list[Result]) -> list[Result]:
    """What exactly-once costs more, where both jobs were run."""
    cpu = {result.name: result.value for result in results}
    once, least = cpu.get("tumbling_500ms_exactly_once"), cpu.get("tumbling_500ms_at_least_once")
    if once is None or least is None:
        return []
    percent = round((once / least - 1) * 100, 1)
    print(f"exactly-once costs {percent} % more CPU than at-least-once, with a commit every 500 ms", flush=True)
    return [Result("exactly_once_cost", percent, "%", "lower", EXACTLY_ONCE_COST_PERCENT_MAX)]


def told(rows: list[dict[str, Any]]) -> list[Result]:
    """Rows of another part of the benchmark, printed."""
    results = [Result(**row) for row in rows]
    for result in results:
        print(f"{result.name:34} {result.value:12,.2f} {result.unit}", flush=True)
    return results


def main(names: list[str]) -> None:
    about = machine()
    print(f"{about['cores']} cores, {about['memory_gib']} GiB, {about['cpu']}; {EVENTS:,} events", flush=True)
    given = inputs_of(names)
    with LocalBroker() as broker:
        asyncio.run(produce(broker.bootstrap, {id(one): one for one in given.values()}.values()))
        results = [result for name in names for result in run_job(name, broker.bootstrap, given[name])]
        results += exactly_once_cost(results)
        if os.environ.get("PEERS"):
            results += run_peers(broker.bootstrap, Clicks.generate(EVENTS))
    print("By stage, without network, event loop and start of the process:", flush=True)
    for name in ("tumbling_at_least_once", "pass_through"):
        print(line(name), flush=True)
    results += told(recovery_results())
    results += told(failover_results())
    results += told(retrieval_results())
    recalls = recall_results()
    results += told(recalls)
    results += told(results_of_environment())
    results += told(serving_results())
    results += told(freshness_results())
    results += told(sharded_results())
    OUT.parent.mkdir(exist_ok=True)
    print("By the number of keys and the length of the history:", flush=True)
    found = {"machine": about, "results": [asdict(result) for result in results], "keys": keys_results(runs=1)}
    OUT.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(too_low(recalls))


if __name__ == "__main__":
    main(sys.argv[1:] or JOBS)
