"""Deciding is apart from doing: only the shell waits, reads clocks and draws numbers.

Ruff's banned-api list (pyproject.toml) catches the imports, and names the substitute; here is what it cannot see: `await`.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.shape.tree import files, parse, short

# The shell. Everything else in topics, state and workers is plain functions of its inputs.
# rag's calls (embedders, LLMs, sources) wait, and its operators do not.
SHELL = (
    "topics/broker.py",  # the protocol whose methods wait
    "topics/memory.py",
    "topics/memory/",
    "topics/kafka/",
    "topics/bridge.py",
    "topics/ensure.py",  # creates and checks topics at start
    "topics/source.py",
    "topics/sources/",
    "topics/sink.py",
    "topics/sinks/",
    "workers/app.py",  # `await app.run()`
    "workers/attempts.py",  # awaits a user's function
    "workers/batch_run.py",
    "workers/calls.py",  # awaits what a step asked for
    "workers/changelog_reader.py",  # reads to the end while a shard is restored
    "workers/clock.py",
    "workers/driver.py",
    "workers/fingerprint_topic.py",  # reads and writes what is kept of an app's stores
    "workers/global_tables.py",  # follows topics
    "workers/operator.py",  # the protocol AsyncOperator
    "workers/lingering.py",  # waits for what steps share to be closed
    "workers/membership.py",  # hears of rebalances
    "workers/outbox.py",  # acknowledgements
    "workers/shard_runtime.py",  # performs a shard's instructions
    "workers/recovery.py",  # reads what a shard's state is restored from
    "workers/startup.py",  # topics are found and created
    "workers/opening.py",  # asks for ends and topics before the worker joins
    "workers/standby.py",  # follows changelogs
    "workers/threads.py",  # waits for work in a thread
    "workers/worker.py",
)


def _is_shell(path: Path) -> bool:
    return short(path).startswith(SHELL)


def _waits(path: Path) -> list[str]:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    return [f"{short(path)}:{node.lineno}" for node in ast.walk(parse(path)) if isinstance(node, waiting)]


def test_deciding_code_never_waits() -> None:
    """No `async` and no `await` in topics, state and workers but for the shell: it returns an instruction, the shell awaits it."""
    deciding = [path for path in files("topics", "state", "workers", suffix=".py") if not _is_shell(path)]
    assert [place for path in deciding for place in _waits(path)] == []


def _globals(path: Path) -> list[str]:
    return [f"{short(path)}:{node.lineno}" for node in ast.walk(parse(path)) if isinstance(node, ast.Global)]


def test_nothing_is_kept_in_a_global() -> None:
    """No `global` statement: the graph is an argument, settings are values, components are objects."""
    package = files("topics", "state", "workers", "rag", "ops", suffix=".py")
    assert [place for path in package for place in _globals(path)] == []
