"""Patterns in a pipeline file: what is said of mistakes, and that they run."""

from __future__ import annotations

import pytest

from millstream import Driver
from millstream.ops.pipeline_yaml.build import pipeline_of
from tests.ops.mistakes import is_named

_FILE = """app: shop
topics:
  orders: {key: id, event_time: ts, schema: {id: string, ts: timestamp_ms}}
  payments: {key: id, event_time: ts, schema: {id: string, ts: timestamp_ms}}
streams:
  - from: orders
    deduplicate: {by: id, within: 10m}
    not_followed_by: {with: payments, by: id, within: 15m}
    to: unpaid
  - from: orders
    followed_by: {with: payments, by: id, within: 15m, suffix: _paid}
    to: paid
"""


def test_patterns_of_a_file_run() -> None:
    driver = Driver(pipeline_of(_FILE))
    driver.send("orders", [{"id": name, "ts": ts} for name, ts in (("a", 0), ("b", 1), ("b", 2))])
    driver.send("payments", [{"id": "a", "ts": 5}])
    driver.end()
    assert driver.rows("unpaid") == [{"id": "b", "ts": 1}]
    assert driver.rows("paid") == [{"id": "a", "ts": 0, "ts_paid": 5}]


# What is written instead of what, and what is said.
_MISTAKES = """
{by: id, within: 10m}           | {by: id}                          | 7: 'deduplicate' needs 'within'...
{by: id, within: 10m}           | {by: id, within: soon}            | 7: 'within':...
{by: id, within: 10m}           | {by: ip, within: 10m}             | 7: deduplicate, by=: no column 'ip'...
{by: id, within: 10m}           | {by: id, within: 10m, keep: last} | 7: 'keep'...
{by: id, within: 10m}           | id                                | 7: 'deduplicate': expected a mapping such as...
with: payments, by: id, within: 15m}  | with: payment, by: id, within: 15m}  | 8: no topic and no stream 'payment'...
by: id, within: 15m, suffix     | by: id, witin: 15m, suffix        | 11: 'witin' is not a key of 'followed_by'; did you mean 'within'?
"""


@pytest.mark.parametrize("line", _MISTAKES.strip().splitlines())
def test_a_mistake_is_told_with_its_line(line: str) -> None:
    is_named(_FILE, line)
