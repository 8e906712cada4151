# ruff: noqa: E501 - a table has a row a line
"""As-of and window joins in a pipeline file: what they give, and what is told of mistakes."""

from __future__ import annotations

import re

import pytest

from millstream import Driver
from millstream.ops.errors import PipelineFileError
from millstream.ops.pipeline_yaml.build import pipeline_of

RIGHT = """\
app: market
topics:
  trades: {key: stock, event_time: ts, schema: {stock: string, shares: int, ts: timestamp_ms}}
  quotes: {key: stock, event_time: ts, schema: {stock: string, price: float, ts: timestamp_ms}}
  late: {schema: {stock: string, shares: int, ts: timestamp_ms, price: float, ts_right: timestamp_ms, late_reason: string}}
streams:
  - from: trades
    asof_join: {with: quotes, on: stock, direction: nearest, tolerance: 10s, how: inner, grace: 1s, late_to: late}
    to: priced
  - from: trades
    window_join: {with: quotes, on: stock, window: {hopping: {size: 10s, hop: 5s}}, how: left}
    to: beside
"""

WRONG = r"""
direction: nearest    | direction: nearby    | 8: 'direction': expected one of backward, forward, nearest, got 'nearby'
tolerance: 10s, how   | how                  | 8: asof_join: direction='nearest' needs a tolerance, as in tolerance='10s'
tolerance: 10s        | tolerence: 10s       | 8: 'tolerence' is not a key of an asof_join; did you mean 'tolerance'?
how: inner            | how: outer           | 8: 'how': expected one of left, inner, got 'outer'
grace: 1s             | ttl: 1s              | 8: asof_join: direction='nearest' frees by its tolerance; leave out ttl
with: quotes, on: stock, dir | on: stock, dir | 8: an asof_join needs 'with'
window: {hopping: {size: 10s, hop: 5s}}, | | 11: a window_join needs 'window'
hopping: {size: 10s, hop: 5s}            | cumulative: {size: 10s, step: 5s} | 11: window_join: no join in cumulative 10s, step 5s: cumulative windows are for aggregations
hopping: {size: 10s, hop: 5s}            | count: 5 | 11: window_join: no join in count 5
hopping: {size: 10s, hop: 5s}            | hoping: 5s | 11: 'hoping' is not a key of a window; did you mean 'hopping'?
hopping: {size: 10s, hop: 5s}            | hopping: {size: 10s} | 11: a hopping window needs 'hop'
{hopping: {size: 10s, hop: 5s}}          | {session: 5s, tumbling: 5s} | 11: a window is one of count, cumulative, hopping, session, sliding, tumbling, as in {tumbling: 10s}; got 2
{hopping: {size: 10s, hop: 5s}}          | 10s | 11: 'window': expected a window such as {tumbling: 10s}, got '10s'
"""


def test_a_file_with_both() -> None:
    driver = Driver(pipeline_of(RIGHT))
    driver.send("quotes", [{"stock": "tea", "price": price, "ts": ts} for price, ts in ((1.0, 1_000), (2.0, 6_000))])
    driver.send("trades", [{"stock": "tea", "shares": 3, "ts": 4_000}])
    driver.end()
    assert [(row["shares"], row["price"]) for row in driver.rows("priced")] == [(3, 2.0)]
    assert sorted((row["window_start"], row["price"]) for row in driver.rows("beside")) == [
        (-5_000, 1.0),
        (0, 1.0),
        (0, 2.0),
    ]


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_a_mistake_is_told_with_its_line(line: str) -> None:
    old, new, message = (cell.strip() for cell in line.split("|"))
    assert RIGHT.count(old) == 1
    with pytest.raises(PipelineFileError, match=re.escape(message)):
        pipeline_of(RIGHT.replace(old, new))
