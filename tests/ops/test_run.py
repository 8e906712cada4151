"""`millstream run`: a worker from its settings to its end, in this process over memory and as a process over Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millstream import App, count, tumbling
from millstream.ops.consume import records_of
from millstream.ops.errors import SettingsError
from millstream.ops.produce import Row, send
from millstream.ops.run import run_app, wait_for
from millstream.ops.settings import RunSettings
from millstream.topics.broker import TopicSpec
from millstream.topics.errors import BrokerUnavailableError
from millstream.topics.memory import MemoryBroker

DEADLINE_S = 60


def _shop() -> App:
    app = App("shop")
    clicks = app.topic("clicks", {"user": "string", "ts": "timestamp_ms"}, key="user", event_time="ts", partitions=2)
    app.stream(clicks).window(tumbling("10s"), by="user").agg(n=count()).to("totals")
    return app


async def _values(broker: MemoryBroker, topic: str) -> list[object]:
    records = records_of(broker, topic, 1, from_beginning=True, until_end=True, limit=None)
    return [json.loads(record.value or b"null") async for record in records]


async def test_a_bounded_run_works_everything_off_and_ends(tmp_path: Path) -> None:
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([TopicSpec("clicks", 2)])
    await send(broker, "clicks", 2, [Row(b"ada", b'{"user":"ada","ts":%d}' % time_ms) for time_ms in (1, 2, 3)])
    settings = RunSettings.of(code={"until_end": True, "state_dir": tmp_path, "http_port": 0}, environment={})
    await run_app(_shop(), settings, broker)
    assert await _values(broker, "totals") == [{"user": "ada", "window_start": 0, "window_end": 10_000, "n": 3}]
    assert (tmp_path / "shop" / "millstream.json").exists()


async def test_the_state_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    """Whatever ends a run, the next one can begin in the same process."""
    settings = RunSettings.of(code={"state_dir": tmp_path, "http_port": 0, "http_host": "256.1.1.1"}, environment={})
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"cannot listen on 256\.1\.1\.1"):
            await run_app(_shop(), settings, MemoryBroker())


async def test_a_broker_that_does_not_answer_in_time_ends_it() -> None:
    broker = MemoryBroker()
    broker.faults.unreachable = True
    with pytest.raises(BrokerUnavailableError):
        await wait_for(broker, 0)


_PIPELINE = """
app: {app}
topics:
  {clicks}: {{key: user, event_time: ts, partitions: 2, schema: {{user: string, ts: timestamp_ms}}}}
streams:
  - from: {clicks}
    window: {{tumbling: 10s, by: user}}
    aggregate: {{n: count()}}
    to: {totals}
"""


@pytest.fixture
def names(unique: Callable[[str], str]) -> dict[str, str]:
    return {name: unique(name) for name in ("app", "clicks", "totals")}


@pytest.fixture
def start(kafka: str, tmp_path: Path, names: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `millstream` in a folder with p.yaml; what still runs at the end is killed."""
    (tmp_path / "p.yaml").write_text(_PIPELINE.format(**names))
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "millstream.ops.main", *arguments],
            cwd=tmp_path,
            env={**ours, "MILLSTREAM_BROKERS": kafka},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _done(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    return out


def _line_with(process: subprocess.Popen[str], text: str) -> str:
    """Reads stderr up to a line with the text; pytest's own timeout bounds the wait."""
    assert process.stderr is not None
    read = []
    for line in process.stderr:
        read.append(line)
        if text in line:
            return line
    raise AssertionError(f"ended without {text!r}: {''.join(read)}")


@pytest.mark.kafka
def test_a_newcomer_needs_no_other_tool(start: Callable[..., subprocess.Popen[str]], names: dict[str, str]) -> None:
    """produce, run to the end, consume."""
    start_ms = int(time.time()) // 10 * 10_000  # of today: a broker keeps records a week by their event time
    rows = [
        f'{user}:{{"user": "{user}", "ts": {start_ms + second * 1_000}}}'
        for user in ("ada", "bob")
        for second in (1, 2, 12)
    ]
    _done(start("produce", names["clicks"], *rows, "--partitions", "2"))
    _done(start("run", "p.yaml", "--until-end"))
    out = _done(start("consume", names["totals"], "--from-beginning", "--until-end", "--format", "value"))
    results = [json.loads(line) for line in out.splitlines()]
    assert sorted((row["user"], row["window_start"], row["n"]) for row in results) == [
        ("ada", start_ms, 2),
        ("ada", start_ms + 10_000, 1),
        ("bob", start_ms, 2),
        ("bob", start_ms + 10_000, 1),
    ]


@pytest.mark.kafka
def test_a_worker_serves_its_pages_and_stops_on_sigterm(start: Callable[..., subprocess.Popen[str]]) -> None:
    """The first signal commits and stops with status 0."""
    worker = start("run", "p.yaml", "--http-port", "0", "--log-format", "json")
    told = json.loads(_line_with(worker, "listening on"))["message"]
    address = told.split("http://")[1].split(":")[1].split("/")[0].strip(",")
    base = f"http://127.0.0.1:{address.rstrip(':')}"
    deadline = time.monotonic() + DEADLINE_S
    while _status(f"{base}/ready") != 200:
        assert time.monotonic() < deadline, "never ready"
    assert _status(f"{base}/health") == 200
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        assert "millstream_worker_ready 1.0\n" in answer.read().decode()
    worker.send_signal(signal.SIGTERM)
    _out, err = worker.communicate(timeout=DEADLINE_S)
    assert (worker.returncode, "Traceback" in err) == (0, False)
    assert "worker stopped" in err


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


_STUCK = """
import threading
from millstream import App, topic

app = App("{app}")

def stuck(row):
    print("stuck", flush=True)
    threading.Event().wait()

app.stream(topic("{clicks}", {{"user": "string"}})).map(stuck).to("{totals}")
"""


@pytest.mark.kafka
def test_a_second_signal_stops_at_once(
    start: Callable[..., subprocess.Popen[str]], names: dict[str, str], tmp_path: Path
) -> None:
    """Even where a function of the user's never returns."""
    (tmp_path / "stuck.py").write_text(_STUCK.format(**names))
    _done(start("produce", names["clicks"], '{"user": "ada"}'))
    worker = start("run", "stuck.py")
    assert worker.stdout is not None
    assert worker.stdout.readline() == "stuck\n"
    worker.send_signal(signal.SIGTERM)
    _line_with(worker, "once more stops at once")
    worker.send_signal(signal.SIGTERM)
    _out, err = worker.communicate(timeout=DEADLINE_S)
    assert worker.returncode == 128 + signal.SIGTERM
    assert "stopped at once" in err


@pytest.mark.kafka
def test_two_workers_of_one_folder_are_refused(start: Callable[..., subprocess.Popen[str]]) -> None:
    """The second one says who holds the folder and what to do."""
    first = start("run", "p.yaml")
    _line_with(first, "generation")
    second = start("run", "p.yaml")
    _out, err = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 2
    assert f"in use by process {first.pid}" in err
    first.send_signal(signal.SIGINT)
    assert first.wait(DEADLINE_S) == 0
