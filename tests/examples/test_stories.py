"""The examples with a story: over the broker that ships for tests, and as anybody runs them, on a Kafka of their own."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest

from examples.stage import Stage, Untrue, in_memory, play

ROOT = Path(__file__).parents[2]
PIPELINES = {"support_desk": "pipeline.py", "document_watch": "pipeline.yaml", "iot": "pipeline.yaml"}
WRONG = {
    "support_desk": (
        "articles/refunds.md",
        "four working days",
        "six working days",
        "a draft from the article on refunds",
    ),
    "document_watch": ("regulations/noise.md", "terrace until 22:00", "terrace until 21:00", "the first answers"),
    "iot": ("manuals/p-200.md", "model: P-200", "model: P-300", "advice from the manual of its model"),
}
"""By example: a file, what in it is replaced by what, and what must then be untrue."""


def _story(name: str) -> Any:
    return import_module(f"examples.{name}.__main__").story


@pytest.mark.parametrize("name", PIPELINES)
async def test_it_comes_out_as_it_is_told(name: str) -> None:
    async with in_memory(ROOT / "examples" / name, PIPELINES[name]) as stage:
        await _story(name)(stage)


@pytest.mark.parametrize("name", PIPELINES)
async def test_it_would_be_noticed_if_it_came_out_otherwise(name: str) -> None:
    """Negative control: one file says something else, which has to be found wrong."""
    file, before, after, untrue = WRONG[name]
    async with in_memory(ROOT / "examples" / name, PIPELINES[name], {file: (before, after)}) as stage:
        with pytest.raises(Untrue, match=untrue):
            await _story(name)(stage)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize("name", PIPELINES)
def test_it_is_one_command(name: str) -> None:
    """With Kafka and a worker of its own; afterwards both are gone."""
    command = [sys.executable, "-m", f"examples.{name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All as it should be" in done.stdout


@pytest.mark.slow
@pytest.mark.kafka
def test_terminated_it_takes_everything_with_it() -> None:
    """In the middle of its story: Kafka (with its watchdog) and the worker are gone."""
    command = [sys.executable, "-m", "examples.document_watch"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("revision 0" in line for line in process.stdout)
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(started) >= 3
    assert psutil.wait_procs(started, timeout=10)[1] == []


@pytest.mark.slow
@pytest.mark.kafka
def test_what_is_untrue_ends_with_another_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.yaml").write_text("app: none\ndocuments: {embedder: hashing}\n")

    async def story(stage: Stage) -> None:
        stage.expect("the documents say so", (await stage.client.ask("Why?")).no_answer, False)

    assert play(tmp_path, "pipeline.yaml", story) == 1
    assert "the documents say so: expected False, got True" in capsys.readouterr().out


@pytest.mark.parametrize("name", PIPELINES)
def test_it_can_be_read_in_one_sitting(name: str) -> None:
    for file in (ROOT / "examples" / name).glob("*.*"):
        assert len(file.read_text().splitlines()) <= 150, file
