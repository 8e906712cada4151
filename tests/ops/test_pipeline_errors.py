# ruff: noqa: E501 - a table has a row a line
"""A YAML pipeline that is wrong: every error begins with file and line, and names the right word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.ops.errors import PipelineFileError
from millstream.ops.pipeline_yaml.build import load_pipeline, pipeline_of
from millstream.ops.pipeline_yaml.tree import DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX, tree_of

RIGHT = """\
app: shop
guarantee: exactly_once
commit_interval: 500ms
settings: {start_from: latest}
topics:
  clicks:
    key: user
    event_time: ts
    out_of_order: 2s
    schema: {user: string, page: string, price: float, ts: timestamp_ms}
  orders:
    schema: {user: string, order: string, at: timestamp_ms}
streams:
  - from: clicks
    where: price > 0
    window: {tumbling: 10s, by: user, grace: 5s, emit: final}
    aggregate: {n: count(), total: sum(price)}
    to: totals
  - from: clicks
    interval_join: {with: orders, on: user, lower: 0s, upper: 5m}
    as: joined
  - from: joined
    with: {dear: price * 2}
    select: [user, dear]
    to: {topic: dear, key: user}
"""

# What stands in the right file | what stands there instead | the error, after "pipeline.yaml:".
_WRONG = r"""
guarantee:           | garantee:            | 2: 'garantee' is not a key of a pipeline; did you mean 'guarantee'?
exactly_once         | exactly_onse         | 2: 'guarantee': expected one of exactly_once, at_least_once, got 'exactly_onse'; did you mean 'exactly_once'?
500ms                | soon                 | 3: 'commit_interval': 'soon' is not a duration; write a number and ms, s, m, h or d, as in '10s' or '1h30m'
500ms                | 0ms                  | 3: commit_interval must be at least 1ms, got 0
start_from:          | start_form:          | 4: 'start_form' is not a setting; did you mean 'start_from'?
app: shop            | app: "a b"           | 1: app 'a b': a name has 1 to 100 characters of a-z, A-Z, 0-9, '.', '_' and '-'
app: shop            | app:                 | 1: 'app': expected a text, got nothing
app: shop            | app: [shop]          | 1: 'app': expected a text, got a list
key: user            | kee: user            | 7: 'kee' is not a key of a topic; did you mean 'key'?
key: user            | key: usr             | 7: topic 'clicks': key column 'usr' is not in the schema (user, page, price, ts)
event_time: ts       | event_time: t        | 8: topic 'clicks': event_time column 't' is not in the schema (user, page, price, ts)
out_of_order: 2s     | out_of_order: -2s    | 6: topic 'clicks': out_of_order must not be negative, got -2000
page: string         | page: strin          | 10: column 'page': no type 'strin'; did you mean 'string'? Types: string, int, int32, float, float32, bool, bytes, timestamp_ms, datetime
out_of_order: 2s     | partitions: none     | 9: 'partitions': expected a whole number from 1 up, got 'none'
out_of_order: 2s     | codec: jsn           | 9: no codec 'jsn'; did you mean 'json'? Codecs: arrow, json, raw, text
out_of_order: 2s     | on_bad_record: drop  | 9: 'on_bad_record': expected one of dead_letter, skip, fail, got 'drop'
- from: clicks       | - form: clicks       | 14: 'form' is not a key of a stream; did you mean 'from'?
- from: clicks       | - from: clics        | 14: no topic and no stream 'clics'; did you mean 'clicks'?
where: price > 0     | group_by: user       | 15: 'window' and 'group_by' exclude each other: the key of windows is their 'by'
where: price > 0     | where: prise > 0     | 15: where: no column 'prise'; did you mean 'price'? Columns there are: user, page, price, ts
where: price > 0     | where: price >       | 15: where: 'price >' is not an SQL expression: unable to parse 'price >' as Expr
where: price > 0     | where: price + 1     | 15: filter: the predicate must be a yes or no, got [Float64] from [(col("price")) + (dyn int: 1)]
where: price > 0     | where: now() > ts    | 15: where: 'now' would give other results in a replay; take a column of the row instead
where: price > 0     | where: sum(price) > 1 | 15: where: sum() spans rows; that is the business of 'window' and 'aggregate'
where: price > 0     | where: uper(user) = 'A' | 15: where: uper() is not a function of one row; did you mean 'upper'?
where: price > 0     | where: (select 1) = 1 | 15: where: 'select' is a subquery
where: price > 0     | where: price > 0; drop table x | 15: where: an expression has no comments and no ';'
tumbling: 10s        | tumblin: 10s         | 16: 'tumblin' is not a key of a window; did you mean 'tumbling'?
tumbling: 10s        | tumbling: 10 weeks   | 16: 'tumbling': '10 weeks' is not a duration; write a number and ms, s, m, h or d, as in '10s' or '1h30m'
tumbling: 10s        | hopping: 10s         | 16: a hopping window needs 'hop', as in hopping: {size: 10s, hop: 10s}
tumbling: 10s        | cumulative: 10s      | 16: a cumulative window needs 'step', as in cumulative: {size: 10s, step: 10s}
tumbling: 10s        | cumulative: {size: 10s, step: 3s} | 16: cumulative: the size (10s) must be a multiple of the step (3s), such as 9s or 12s
tumbling: 10s        | count: 10s           | 16: 'count': expected a whole number from 1 up, got '10s'
tumbling: 10s        | count: {partial: true} | 16: a count window needs 'n', as in count: {n: 10}
tumbling: 10s        | count: 10            | 17: window count 10: grace=5s is of event time, by which no row is late; leave it out
by: user             | by: usr              | 16: window by=: no column 'usr'. Columns there are: user, page, price, ts
by: user, grace      | grace                | 16: a window needs 'by', the columns of its key
grace: 5s, emit      | emit                 | 16: emit="final" needs grace=, as in grace="5s": a window is given once, so say how long it waits
emit: final          | emit: final, every: 0s | 16: every must be longer than 0, got 0s; leave it out to have none early, or one at each commit
emit: final          | emit: final, every: often | 16: 'every': 'often' is not a duration; write a number and ms, s, m, h or d, as in '10s' or '1h30m'
emit: final          | emit: finally        | 16: 'emit': expected one of update, final, got 'finally'; did you mean 'final'?
aggregate:           | agregate:            | 17: 'agregate' is not a key of a stream; did you mean 'aggregate'?
sum(price)           | sum(prise)           | 17: 'total': no column 'prise'; did you mean 'price'? Columns there are: user, page, price, ts
sum(price)           | sum(page)            | 17: window tumbling 10s, total=sum(page): sum takes integers up to 64 bits with a sign, and floats, got a column of String
sum(price)           | smu(price)           | 17: no reducer 'smu'; did you mean 'sum'? Reducers: approx_distinct, argmax, argmin, collect, collect_set, count, count_distinct, first, histogram, last, max, mean, min, quantile, std, sum, top_k, var
sum(price)           | price                | 17: 'price' is not a reducer; write name(column), as in sum(price), or count()
sum(price)           | "argmax(page, prise)" | 17: 'total': no column 'prise'; did you mean 'price'? Columns there are: user, page, price, ts
sum(price)           | "quantile(price, 2)" | 17: quantile takes q as a number from 0.0 to 1.0, as in quantile(price, 0.95); got 2
sum(price)           | quantile(price, 2)   | 17: 'quantile(price' is not a reducer; write name(column), as in sum(price), or count(); in {braces} a call with a comma needs quotes around it
to: totals           | to: "a b"            | 18: topic 'a b': a name has 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'
to: totals           | to: totals\n    to: x | 19: 'to' stands here twice, first on line 18
with: orders         | with: odrers         | 20: no topic and no stream 'odrers'; did you mean 'orders'?
on: user             | om: user             | 20: 'om' is not a key of an interval_join; did you mean 'on'?
on: user, lower      | lower                | 20: an interval_join needs 'on'
lower: 0s            | lower: 6m            | 20: interval_join: lower (6m) is above upper (5m): nothing could ever match; the bounds are right.time minus left.time
as: joined           | as: clicks           | 21: 'clicks' is taken by another topic
    as: joined\n     |                      | 19: a stream needs 'to' (a topic) or 'as' (a name for other streams), else nobody sees it
from: joined         | from: joint          | 22: no topic and no stream 'joint'; did you mean 'joined'?
{dear: price * 2}    | {name: upper(user)}  | 23: 'with' cannot make a column called 'name'; 'select' can
[user, dear]         | [user, dera]         | 24: select: no column 'dera'; did you mean 'dear'? Columns there are: user, page, price, ts, order, at, dear
key: user}           | key: usr}            | 25: topic 'dear', key: no column 'usr'. Columns there are: user, dear
app: shop            | app: &a shop         | 1: anchors and aliases (&a, *a) are not taken; write it out
app: shop            | app: !!python/name:os.system x | 1: tags (tag:yaml.org,2002:python/name:os.system) are not taken
  - from: clicks     |  - from: clicks      | 15: is not YAML: mapping values are not allowed here
"""


def test_the_file_without_a_mistake_is_taken() -> None:
    app = pipeline_of(RIGHT)
    assert (app.name, app.settings.commit_interval_ms, app.settings.start_from) == ("shop", 500, "latest")
    assert [node.name for node in app.graph if node.name.startswith("to-")] == ["to-totals-1", "to-dear-1"]


@pytest.mark.parametrize("line", [line for line in _WRONG.strip("\n").splitlines() if line])
def test_a_mistake_is_named_with_file_and_line(line: str) -> None:
    right, wrong, expected = (part.rstrip(" ").replace("\\n", "\n") for part in line.split(" | "))
    if not line.startswith("  "):  # where the table's own padding stands, it is part of neither
        wrong = wrong.lstrip(" ")
    assert right in RIGHT
    with pytest.raises(PipelineFileError) as raised:
        pipeline_of(RIGHT.replace(right, wrong, 1))
    assert str(raised.value) == f"pipeline.yaml:{expected.strip()}"


_WHOLE = {
    "": "1: is empty; a pipeline begins with 'app: <name>'",
    "- a": "1: must be a mapping of keys, got a list",
    "app: x": "1: a pipeline needs 'streams' or 'documents'",
    "streams: []": "1: a pipeline needs 'app'",
    "app: x\nstreams: 3": "2: 'streams': expected a list of streams ('- from: ...'), got '3'",
    "app: x\nstreams:\n  - 3": "3: expected a stream such as 'from: clicks', got '3'",
    "app: x\n? [a]\n: 1": "2: a key must be a word",
    "app: x\n\tstreams: []": "2: is not YAML: found character '\\t' that cannot start any token",
    "app: x\ntopics:\n  a b: {}\nstreams: []": "3: topic 'a b': a name has 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'",
    "a: &a [1]\nb: [*a, *a]": "1: anchors and aliases (&a, *a) are not taken; write it out",
}


@pytest.mark.parametrize(("content", "expected"), _WHOLE.items())
def test_a_file_of_another_shape(content: str, expected: str) -> None:
    with pytest.raises(PipelineFileError) as raised:
        pipeline_of(content)
    assert str(raised.value) == f"pipeline.yaml:{expected}"


def test_limits_of_size_depth_and_number() -> None:
    """Before anything is built: a hostile file costs no more than reading it."""
    for content, told in [
        ("a: " + "x" * FILE_BYTES_MAX, f"is larger than {FILE_BYTES_MAX // 1024} KiB"),
        ("a: " + "[" * 50_000, f"is nested deeper than {DEPTH_MAX} levels"),
        ("a: [" + "1," * NODES_MAX + "]", f"has more than {NODES_MAX} values"),
    ]:
        with pytest.raises(PipelineFileError) as raised:
            tree_of(content)
        assert told in str(raised.value)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(b"app: x\n# \xff\n")
    with pytest.raises(PipelineFileError) as raised:
        load_pipeline(file)
    assert str(raised.value) == f"{file}:2: is not UTF-8 text"


def _is_app_or_error_with_a_line(content: str) -> None:
    told = "pipeline.yaml:1: "
    try:
        pipeline_of(content)
    except PipelineFileError as error:
        told = str(error)
    assert re.match(r"pipeline\.yaml:\d+: ", told)


@given(st.text(max_size=200) | st.sampled_from(RIGHT.split("\n")).map(lambda line: RIGHT.replace(line, line[:-1], 1)))
def test_no_text_ends_in_anything_but_an_app_or_an_error_with_a_line(content: str) -> None:
    _is_app_or_error_with_a_line(content)


@given(st.integers(0, len(RIGHT) - 1), st.characters(codec="utf-8"))
def test_a_character_changed_anywhere_is_an_app_or_an_error_with_a_line(position: int, character: str) -> None:
    content = RIGHT[:position] + character + RIGHT[position + 1 :]
    _is_app_or_error_with_a_line(content)
