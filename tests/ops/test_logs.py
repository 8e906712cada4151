"""Logs: readable or JSON, secrets out, the same message a few times a minute."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from millstream.ops.logs import REPEATS_MAX, Repeats, configure_logs


def _logged(log_format: str, **options: Any) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    configure_logs(log_format, stream=stream, **options)
    return logging.getLogger("millstream.test"), stream


def test_json_lines_carry_what_extra_gave() -> None:
    log, stream = _logged("json")
    log.warning("shard %d is late", 3, extra={"topic": "clicks"})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "millstream.test", "message": "shard 3 is late", "topic": "clicks"}


def test_an_exception_stands_in_one_json_line() -> None:
    log, stream = _logged("json")
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("that failed")
    assert json.loads(stream.getvalue())["exception"].endswith("ValueError: no")


def test_console_lines_say_time_level_and_part() -> None:
    log, stream = _logged("console")
    log.info("ready", extra={"topic": "clicks"})
    assert stream.getvalue()[8:] == " info     test  ready  topic=clicks\n"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_secrets_are_taken_out_wherever_they_stand(log_format: str) -> None:
    """In the message, its arguments, the extras and a traceback."""
    log, stream = _logged(log_format, secrets=['hun"ter2'])
    try:
        raise ValueError('user:hun"ter2@kafka')
    except ValueError:
        log.exception('as hun"ter2 with %s', 'hun"ter2', extra={"url": 'sasl://hun"ter2'})
    assert "ter2" not in stream.getvalue()
    assert stream.getvalue().count("***") == 5  # the traceback shows the raising line too


def test_debug_lines_only_where_asked_for() -> None:
    log, stream = _logged("console", level="info")
    log.debug("detail")
    assert stream.getvalue() == ""


def test_a_second_configuration_replaces_the_first() -> None:
    _log, first = _logged("console")
    log, second = _logged("console")
    log.info("once")
    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)


def test_a_repeated_message_is_shown_five_times_a_minute_then_summed_up() -> None:
    """The text before the arguments are filled in is what repeats; another text is not held back."""
    now = [0.0]
    repeats = Repeats(lambda: now[0])

    def record(text: str) -> logging.LogRecord:
        return logging.LogRecord("millstream", logging.WARNING, "", 0, text, (now[0],), None)

    shown = [repeats.filter(record("lost %s")) for _ in range(100)]
    assert (sum(shown), repeats.filter(record("found %s"))) == (REPEATS_MAX, True)
    now[0] = 61
    again = record("lost %s")
    assert (repeats.filter(again), again.__dict__["repeated"]) == (True, 95)
