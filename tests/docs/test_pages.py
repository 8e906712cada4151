"""Every example of the guide, the reference, the pages on time and documents is run, in its page's order, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from millstream.ops.local_broker import LocalBroker
from millstream.ops.pipeline_yaml.build import pipeline_of
from millstream.ops.settings import RunSettings
from tests.docs.pages import Block, blocks_of, needs_broker
from tests.docs.records import differences

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*DOCS.glob("guide/*.md"), *DOCS.glob("reference/*.md"), DOCS / "time.md", DOCS / "rag.md"])
LANGUAGES = {"python", "yaml", "toml", "console", "text", "json"}


def _named(page: Path) -> str:
    return str(page.relative_to(DOCS))


def _pages(*, broker: bool) -> list[Path]:
    return [page for page in PAGES if needs_broker(blocks_of(page)) == broker]


@pytest.mark.parametrize("page", _pages(broker=False), ids=_named)
def test_the_examples_of_a_page(page: Path, tmp_path: Path) -> None:
    _run_page(page, tmp_path, brokers="127.0.0.1:1")


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", _pages(broker=True), ids=_named)
def test_the_examples_of_a_page_that_starts_a_broker(page: Path, tmp_path: Path) -> None:
    """On a broker of its own, which stands for the one the page starts: topics are called as in the page."""
    with LocalBroker() as broker:
        _run_page(page, tmp_path, brokers=broker.bootstrap)


def test_the_examples_of_the_readme(tmp_path: Path) -> None:
    """Its Python and its YAML; `make demo` and `make test` have tests of their own, the other commands are the quickstart's."""
    for block in blocks_of(DOCS.parent / "README.md"):
        if block.language in {"python", "yaml"}:
            _run_block(block, tmp_path, {**os.environ, "MILLSTREAM_BROKERS": "127.0.0.1:1"}, f"README.md:{block.line}")


def _run_page(page: Path, folder: Path, *, brokers: str) -> None:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{ours.get('PATH', '')}"
    environment = {**ours, "PATH": path, "MILLSTREAM_BROKERS": brokers, "COLUMNS": "200"}
    for block in blocks_of(page):
        place = f"{page.name}:{block.line}"
        _run_block(block, folder, environment, place)


def _run_block(block: Block, folder: Path, environment: dict[str, str], place: str) -> None:
    assert block.language in LANGUAGES, f"{place}: what is a block of {block.language}?"
    if block.file:
        (folder / block.file).write_text(block.body)
    _CHECKS.get(block.language, _nothing)(block, folder, environment, place)


def _python(block: Block, folder: Path, environment: dict[str, str], place: str) -> None:
    script = f"import {block.file.removesuffix('.py')}" if block.file else block.body
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{place}: {done.stderr}"


def _yaml(block: Block, _folder: Path, _environment: dict[str, str], place: str) -> None:
    assert pipeline_of(block.body, place).plan().subs


def _toml(block: Block, folder: Path, _environment: dict[str, str], _place: str) -> None:
    (folder / "settings.toml").write_text(block.body)
    assert RunSettings.of(file=folder / "settings.toml", environment={}) != RunSettings()


def _console(block: Block, folder: Path, environment: dict[str, str], place: str) -> None:
    commands = block.commands()
    for number, (command, expected) in enumerate(commands, 1):
        if command.startswith("millstream broker"):
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        printed = done.stdout + done.stderr
        fails = "fails" in block.words and number == len(commands)
        assert (done.returncode != 0) == fails, f"{place}: {command}\n{printed}"
        assert [line for line in expected if line not in printed] == [], f"{place}: {command}\n{printed}"


def _nothing(_block: Block, _folder: Path, _environment: dict[str, str], _place: str) -> None:
    """Text is there to be read."""


def _json(block: Block, _folder: Path, _environment: dict[str, str], place: str) -> None:
    """All of it is JSON; of a record of a topic each field is one that a worker knows."""
    record = next((word.removeprefix("record=") for word in block.words if word.startswith("record=")), None)
    json.loads(block.body)
    assert record is None or differences(record, block.body) == {}, place


_CHECKS = {"python": _python, "yaml": _yaml, "toml": _toml, "console": _console, "json": _json}


def test_a_wrong_record_would_be_seen() -> None:
    assert differences("queries", '{"question": "x", "modus": "standing"}') == {"modus": "standing"}
    assert differences("queries", '{"question": "x", "mode": "standing"}') == {}
