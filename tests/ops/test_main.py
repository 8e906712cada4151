"""The command line as a stranger meets it: help, errors as one paragraph, exit codes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.ops import commands
from millstream.ops.errors import PipelineFileError, SettingsError
from millstream.ops.exit_codes import exit_code_of
from millstream.ops.main import _paragraph, main
from millstream.state.errors import DiskError, LockedError
from millstream.topics.errors import AmbiguousError, BrokerUnavailableError, SchemaError
from millstream.workers.errors import InvariantError, PlanError, UserFunctionError

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def millstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`main()` in a folder of its own, with no variables of ours: gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("MILLSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MILLSTREAM_DEBUG", "")
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["millstream", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


_COMMANDS = sorted({path.stem for path in Path(commands.__path__[0]).glob("[a-z]*.py")})


def test_help_lists_every_command_with_what_it_does(millstream: Command) -> None:
    code, out, _ = millstream("--help")
    assert code == 0
    assert [word for word in _COMMANDS if f"│ {word} " not in out] == []
    assert "Exit status: 0 done, 1 a fault, 2 usage or configuration, 3 the broker cannot be reached." in out


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_has_help(command: str, millstream: Command) -> None:
    code, out, _ = millstream(command, "--help")
    assert (code, "Usage: millstream" in out) == (0, True)


_HEAVY = ("polars", "pyarrow", "numpy", "aiokafka", "rocksdict", "onnxruntime", "yaml", "starlette")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """`millstream --help` and a typing error answer at once: no data frame library is loaded for them."""
    probe = (
        "import sys; from millstream.ops import main; from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(main.app, ['--help']).exit_code == 0\n"
        f"print([name for name in {_HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


_MISTAKES = """
rnu x.py                           | 2 | no command 'rnu'; did you mean 'run'?
run                                | 2 | Missing argument 'TARGET'
run nope.py                        | 2 | error: no file 'nope.py'
run p.yaml --http-port 99999       | 2 | error: --set http_port: expected a whole number from 0 to 65535, got 99999
run p.yaml --set polls=1           | 2 | error: --set: no setting 'polls'
run p.yaml --set polls             | 2 | error: --set polls: write NAME=VALUE, as in --set poll_records_max=10000
run bad.yaml                       | 2 | error: bad.yaml:1: 'ap' is not a key of a pipeline; did you mean 'app'?
describe p.yaml -o no/such/f.svg   | 2 | error: --output 'no/such/f.svg' cannot be written: No such file or directory
describe p.yaml --format png       | 2 | Invalid value for '--format'
batch p.yaml --input t -o out      | 2 | error: --input 't': write TOPIC=FILE, as in --input clicks=clicks.jsonl
batch p.yaml --input t=x -o out    | 2 | error: --input 't=x': no file 'x'
batch p.yaml --input t=p.yaml -o o | 2 | error: topic 't' declares no event_time, and a file has no record timestamps
topics --brokers 127.0.0.1:1       | 3 | error: 127.0.0.1:1: no TCP connection
topics --brokers nowhere           | 2 | error: --set brokers: expected 'host:port'
produce t a:1 --brokers 127.0.0.1:1 | 3 | error: 127.0.0.1:1: no TCP connection
produce t --file none.jsonl        | 2 | error: --file 'none.jsonl' cannot be read: No such file or directory
run p.yaml --brokers 127.0.0.1:1 --set connect_timeout=0 | 3 | error: 127.0.0.1:1: no TCP connection
"""


@pytest.mark.parametrize("line", _MISTAKES.strip().splitlines())
def test_a_mistake_is_one_paragraph_and_an_exit_code(line: str, tmp_path: Path, millstream: Command) -> None:
    """Command | exit code | what is said. No traceback."""
    command, expected, told = (part.strip() for part in line.split(" | "))
    (tmp_path / "p.yaml").write_text("app: shop\ntopics: {t: {schema: {a: int}}}\nstreams: [{from: t, to: u}]\n")
    (tmp_path / "bad.yaml").write_text("ap: shop\n")
    code, _, err = millstream(*command.split())
    assert (code, "Traceback" in err) == (int(expected), False)
    assert told in err.replace("\n", " ")


def test_debug_shows_the_traceback(millstream: Command) -> None:
    code, _, err = millstream("--debug", "run", "nope.py")
    assert (code, "Traceback" in err) == (2, True)


def test_a_password_is_in_no_error(millstream: Command) -> None:
    code, out, err = millstream("topics", MILLSTREAM_SASL_PASSWORD="hunter2", MILLSTREAM_BROKERS="127.0.0.1:1")
    assert (code, "hunter2" in out + err) == (3, False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), 2),
        (PipelineFileError("x"), 2),
        (SchemaError("x"), 2),
        (PlanError("x"), 2),
        (LockedError("x"), 2),
        (BrokerUnavailableError("x"), 3),
        (AmbiguousError("x"), 1),
        (DiskError("x"), 1),
        (UserFunctionError("x"), 1),
        (InvariantError("x"), 1),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_exit_codes_follow_the_class_of_the_error(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code


def test_an_unexpected_error_says_where() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        told = _paragraph(error, known=False)
    assert "ZeroDivisionError: by zero" in told
    assert "--debug shows the traceback" in told.replace("\n", " ")


def test_batch_writes_a_file_for_each_output_topic(tmp_path: Path, millstream: Command) -> None:
    """And says what was not worked on."""
    (tmp_path / "p.yaml").write_text(
        "app: shop\ntopics: {t: {event_time: a, schema: {a: int}}}\nstreams: [{from: t, where: a > 1, to: u}]\n"
    )
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"a": 2}\nnot json\n{"a": 3}\n')
    code, out, err = millstream("batch", "p.yaml", "--input", "t=t.jsonl", "-o", "out")
    assert (code, out) == (0, "2 rows to out/u.jsonl\n")
    assert (tmp_path / "out" / "u.jsonl").read_text() == '{"a":2}\n{"a":3}\n'
    assert "1 rejected_records" in err


def test_describe_writes_a_picture(tmp_path: Path, millstream: Command) -> None:
    (tmp_path / "p.yaml").write_text("app: shop\ntopics: {t: {schema: {a: int}}}\nstreams: [{from: t, to: u}]\n")
    assert millstream("describe", "p.yaml", "--format", "svg", "-o", "p.svg")[:2] == (0, "written to p.svg\n")
    assert (tmp_path / "p.svg").read_text().startswith("<svg ")
