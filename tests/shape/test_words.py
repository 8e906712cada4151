"""Words and constructs that have no place in the repository.

The forbidden words are put together from pieces here, so that this file does not contain them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.shape.tree import files, package, parse, short

_TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".sh", ".html", ".css", ".js", ".txt", ".lock", ".in", ""}
# Text that other people wrote (vendored code, documents the parsers are tried on) says what it says.
_NOT_OUR_WORDS = ("LICENSE", "/vendor/", "/documents/", "/fixtures/")

# An address in the repository is one of these: standards, projects we point to, ourselves, and names reserved for examples (RFC 2606).
HOSTS = re.compile(
    r"""(?x) ^(?:
        localhost | 127\.\d+\.\d+\.\d+ | \[::1\] | 0\.0\.0\.0 | [\w-]+  # this machine, or a service's name in a compose file
      | (?:[\w-]+\.)*example(?:\.(?:com|org|net))? | (?:[\w-]+\.)*(?:test|invalid|local|internal)
      | (?:[\w-]+\.)*apache\.org | keepachangelog\.com | semver\.org | (?:www\.)?w3\.org | json-schema\.org | (?:docs\.)?python\.org
      | github\.com | arxiv\.org | (?:www\.)?rfc-editor\.org | datatracker\.ietf\.org | prometheus\.io | grafana\.com
      | api\.(?:openai|anthropic|cohere)\.com | generativelanguage\.googleapis\.com  # the providers' own
    )$"""
)

# The ban itself has to name what it bans.
_BANS = ("pyproject.toml", "CONTRIBUTING.md")

_WORDS = {
    "a path of one machine": r"(?<![\w.])/(?:root|home|" + "wo" + r"rk)/\w",
    "a tool of one workplace": r"(?<![\w.])\." + r"library\b|\bfarm" + r"-\w|\bissues " + r"show\b",
    "work left for later, with no issue to its name": r"\b(?:TO" + "DO|FIX" + "ME|XX" + r"X)\b",
    "a mock": r"\bunittest" + r"\.mock\b|\bMagic" + r"Mock\b",
}


def _texts() -> list[Path]:
    ours = [
        path
        for path in files()
        if path.suffix in _TEXT and not any(word in f"/{short(path)}" for word in _NOT_OUR_WORDS)
    ]
    return [path for path in ours if b"\0" not in path.read_bytes()[:1024]]


def _lines(pattern: str) -> list[str]:
    regex = re.compile(pattern)
    return [
        f"{short(path)}:{number}: {line.strip()[:100]}"
        for path in _texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if regex.search(line)
    ]


@pytest.mark.parametrize("what", _WORDS)
def test_no_forbidden_word(what: str) -> None:
    assert [line for line in _lines(_WORDS[what]) if not line.startswith(_BANS)] == [], what


def test_every_address_is_a_known_one() -> None:
    """No registry's or mirror's host and no address of a service that somebody happened to use."""
    found = [
        f"{short(path)}: {host}"
        for path in _texts()
        for host in re.findall(r"\bhttps?://([^\s/:'\"`<>(){}\\,?#%]+)", path.read_text(encoding="utf-8"))
        if not HOSTS.match(host)
    ]
    assert found == []


def _swallowed(path: Path) -> list[str]:
    """Handlers of everything that do nothing."""
    return [
        f"{short(path)}:{node.lineno}"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and all(_does_nothing(line) for line in node.body)
    ]


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
    )


def _does_nothing(line: ast.stmt) -> bool:
    return isinstance(line, ast.Pass | ast.Continue) or (
        isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    )


def test_no_error_is_swallowed() -> None:
    assert [place for path in [*package(), *files("tests", suffix=".py")] for place in _swallowed(path)] == []


def _sleeps(path: Path) -> list[str]:
    """Calls that wait a fixed time: `time.sleep(x)`, `asyncio.sleep(0.5)`. `asyncio.sleep(0)` only lets others run."""
    tree = parse(path)
    polls = {id(call) for node in ast.walk(tree) for call in _polling(node)}
    return [
        f"{short(path)}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_sleep(node) and id(node) not in polls and ast.unparse(node.args[0]) != "0"
    ]


def _polling(node: ast.AST) -> list[ast.AST]:
    """What is done between two looks: in a `while` that has a condition, below `asyncio.timeout`."""
    if not (isinstance(node, ast.AsyncWith) and any("asyncio.timeout" in ast.unparse(item) for item in node.items)):
        return []
    loops = [x for x in ast.walk(node) if isinstance(x, ast.While) and not isinstance(x.test, ast.Constant)]
    return [inner for loop in loops for inner in ast.walk(loop)]


def _is_sleep(call: ast.Call) -> bool:
    return ast.unparse(call.func) in {"time.sleep", "asyncio.sleep", "sleep"} and len(call.args) == 1


# Waiting for a real broker is polling until a deadline; it is written once.
_POLLS = ("tests/broker/", "tests/conftest.py", "tests/polling.py")


def test_no_test_sleeps() -> None:
    """Time is moved by hand; what happens outside is polled for, with a condition and a deadline."""
    tests = [path for path in files("tests", suffix=".py") if not short(path).startswith(_POLLS)]
    assert [place for path in tests for place in _sleeps(path)] == []
