"""The client's log is held down to one line of a kind in a while."""

from __future__ import annotations

import logging

from millstream.topics.kafka.log_limit import LogLimit


def record(text: str, *, at_s: float, level: int = logging.ERROR) -> logging.LogRecord:
    made = logging.LogRecord("aiokafka", level, __file__, 1, text, ("x",), None)
    made.created = at_s
    return made


def test_a_repeated_line_passes_once_and_then_says_how_many_were_held():
    limit = LogLimit(interval_ms=10_000)
    passed = [limit.filter(record("cannot connect to %s", at_s=100 + second)) for second in range(10)]
    assert [True] + [False] * 9 == passed
    later = record("cannot connect to %s", at_s=110)
    assert limit.filter(later)
    assert "cannot connect to x (and 9 more like it in the last 10 s)" == later.getMessage()


def test_other_lines_are_not_held():
    limit = LogLimit()
    assert limit.filter(record("a %s", at_s=1_000))
    assert limit.filter(record("b %s", at_s=1_000))


def test_the_number_of_texts_kept_is_bounded():
    limit = LogLimit(texts_max=10)
    assert all(limit.filter(record(f"{number} %s", at_s=1_000)) for number in range(100))
    assert len(limit._last) <= 10


def test_installed_and_removed():
    limit = LogLimit()
    limit.install()
    assert limit in logging.getLogger("aiokafka.conn").filters
    limit.remove()
    assert limit not in logging.getLogger("aiokafka.conn").filters
