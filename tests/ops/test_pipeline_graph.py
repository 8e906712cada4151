"""A pipeline in YAML and the same one in Python are one graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from millstream import (
    App,
    Driver,
    count,
    count_window,
    cumulative,
    hopping,
    last,
    max_,
    mean,
    min_,
    session,
    sum_,
    topic,
    tumbling,
)
from millstream.ops.describe.outline import outline_of
from millstream.ops.pipeline_yaml.build import pipeline_of
from millstream.ops.pipeline_yaml.windows import window_names
from millstream.workers.graph import Sink
from millstream.workers.stream import Stream

SCHEMA = {"user": "string", "page": "string", "price": "float", "qty": "int", "ts": "timestamp_ms"}

# SQL beside what one writes in Python for it.
_WHERE: list[tuple[str, pl.Expr]] = [
    ("price > 0", pl.col("price") > 0),
    ("qty >= 2 and price < 10", (pl.col("qty") >= 2) & (pl.col("price") < 10)),
    ("user in ('a', 'b')", pl.col("user").is_in(["a", "b"])),
    ("page like '/p/%'", pl.col("page").str.starts_with("/p/")),
    ("user is not null", pl.col("user").is_not_null()),
    ("not (price between 1 and 2)", ~pl.col("price").is_between(1, 2)),
]
_WITH: list[tuple[str, pl.Expr]] = [
    ("price * 2", pl.col("price") * 2),
    ("upper(user)", pl.col("user").str.to_uppercase()),
    ("coalesce(qty, 0)", pl.coalesce(pl.col("qty"), 0)),
    (
        "case when qty > 1 then 'many' else 'one' end",
        pl.when(pl.col("qty") > 1).then(pl.lit("many")).otherwise(pl.lit("one")),
    ),
]
_WINDOWS: list[tuple[dict[str, Any], Callable[[], Any]]] = [
    ({"tumbling": "10s"}, lambda: tumbling("10s")),
    ({"tumbling": {"size": "1d", "offset": "-2h"}}, lambda: tumbling("1d", offset="-2h")),
    ({"hopping": {"size": "1m", "hop": "10s"}}, lambda: hopping("1m", "10s")),
    ({"cumulative": {"size": "1h", "step": "10m"}}, lambda: cumulative("1h", "10m")),
    ({"count": 10}, lambda: count_window(10)),
    ({"count": {"n": 10, "partial": True}}, lambda: count_window(10, partial=True)),
    ({"session": "30s"}, lambda: session("30s")),
]
_AGGREGATES: list[tuple[str, Callable[[], Any]]] = [
    ("count()", count),
    ("count(qty)", lambda: count("qty")),
    ("sum(price)", lambda: sum_("price")),
    ("mean(price)", lambda: mean("price")),
    ("min(qty)", lambda: min_("qty")),
    ("max(qty)", lambda: max_("qty")),
    ("last(page)", lambda: last("page")),
]


def _topics() -> dict[str, Any]:
    clicks = {"schema": SCHEMA, "key": "user", "event_time": "ts", "out_of_order": "2s", "partitions": 3}
    return {
        "clicks": clicks,
        "orders": {"schema": {"user": "string", "total": "float", "at": "timestamp_ms"}, "partitions": 3},
    }


def _described(app: App) -> dict[str, Any]:
    """All that is said of an app, but for the text of expressions: SQL and Python write the same one in different ways."""
    told = outline_of(app).as_json()
    for box in told["boxes"]:
        if box["what"] in {"filter", "with_columns", "select"}:
            box["details"] = sorted(box["details"])
    return told


_options = st.fixed_dictionaries(
    {},
    optional={
        "where": st.sampled_from(_WHERE),
        "with": st.dictionaries(st.sampled_from(["extra", "price"]), st.sampled_from(_WITH[:1]), min_size=1),
        "window": st.sampled_from([one for one in _WINDOWS if next(iter(one[0])) in window_names()]),
        "by": st.sampled_from([["user"], ["page"], ["user", "page"]]),
        "grace": st.sampled_from(["0s", "5s"]),
        "emit": st.sampled_from(["update", "final"]),
        "every": st.just("2s"),
        "aggregate": st.dictionaries(st.sampled_from("abcd"), st.sampled_from(_AGGREGATES), min_size=1),
        "late_to": st.just("late"),
        "key_by": st.just(["page"]),
        "join": st.booleans(),
        "asof_join": st.fixed_dictionaries(
            {"on": st.sampled_from(["user", ["user"]]), "suffix": st.just("_asof"), "tolerance": st.just("1m")},
            optional={
                "direction": st.sampled_from(["backward", "forward", "nearest"]),
                "how": st.sampled_from(["left", "inner"]),
                "grace": st.just("5s"),
                "late_to": st.just("late-4"),
                "name": st.just("priced"),
            },
        ),
        "window_join": st.fixed_dictionaries(
            {"on": st.just("user"), "suffix": st.just("_beside")},
            optional={
                "how": st.sampled_from(["inner", "left", "right", "outer"]),
                "grace": st.just("5s"),
                "late_to": st.just("late-5"),
                "name": st.just("beside"),
            },
        ),
        "joined_in": st.sampled_from([one for one in _WINDOWS if not {"count", "cumulative"} & set(one[0])]),
        "deduplicate": st.fixed_dictionaries(
            {"by": st.sampled_from(["user", ["user", "page"]]), "within": st.just("10m")},
            optional={
                "keep": st.sampled_from(["first", "earliest"]),
                "grace": st.just("5s"),
                "late_to": st.just("late-1"),
            },
        ),
        "followed_by": st.fixed_dictionaries(
            {"by": st.just("user"), "within": st.just("5m")},
            optional={
                "grace": st.just("5s"),
                "suffix": st.just("_then"),
                "late_to": st.just("late-2"),
                "name": st.just("then"),
            },
        ),
        "not_followed_by": st.fixed_dictionaries(
            {"by": st.just("user"), "within": st.just("5m")},
            optional={"grace": st.just("5s"), "suffix": st.just("_never"), "late_to": st.just("late-3")},
        ),
    },
)


@given(_options, st.sampled_from(["exactly_once", "at_least_once"]))
def test_yaml_and_python_give_the_same_graph(chosen: dict[str, Any], guarantee: str) -> None:
    entry: dict[str, Any] = {"from": "clicks"}
    app = App("shop", guarantee=guarantee, commit_interval="500ms")
    declared = {name: topic(name, **options) for name, options in _topics().items()}
    stream = app.stream(declared["clicks"])
    if "deduplicate" in chosen:
        entry["deduplicate"] = chosen["deduplicate"]
        stream = stream.deduplicate(**chosen["deduplicate"])
    if chosen.get("join"):
        entry["interval_join"] = {"with": "orders", "on": "user", "lower": "0s", "upper": "5m", "grace": "1s"}
        stream = stream.interval_join(app.stream(declared["orders"]), on="user", lower="0s", upper="5m", grace="1s")
    stream = _joined(app, declared["orders"], stream, entry, chosen)
    stream = _patterned(app, declared["orders"], stream, entry, chosen)
    if "where" in chosen:
        entry["where"], predicate = chosen["where"]
        stream = stream.filter(predicate)
    if "with" in chosen:
        entry["with"] = {name: sql for name, (sql, _) in chosen["with"].items()}
        stream = stream.with_columns(**{name: expression for name, (_, expression) in chosen["with"].items()})
    if "key_by" in chosen:
        entry["key_by"] = chosen["key_by"]
        stream = stream.key_by(*chosen["key_by"])
    stream = _windowed(stream, entry, chosen)
    entry["to"] = "results"
    stream.to("results")
    written = {
        "app": "shop",
        "guarantee": guarantee,
        "commit_interval": "500ms",
        "topics": _topics(),
        "streams": [entry],
    }
    assert _described(pipeline_of(yaml.safe_dump(written, sort_keys=False))) == _described(app)


def _joined(app: App, orders: Any, stream: Stream, entry: dict[str, Any], chosen: dict[str, Any]) -> Stream:
    if "asof_join" in chosen:
        entry["asof_join"] = {"with": "orders", **chosen["asof_join"]}
        stream = stream.asof_join(app.stream(orders), **chosen["asof_join"])
    if {"window_join", "joined_in"} <= set(chosen) and "aggregate" not in chosen:
        written, window = chosen["joined_in"]
        entry["window_join"] = {"with": "orders", "window": written, **chosen["window_join"]}
        stream = stream.window_join(app.stream(orders), window(), **chosen["window_join"])
    return stream


def _patterned(app: App, orders: Any, stream: Stream, entry: dict[str, Any], chosen: dict[str, Any]) -> Stream:
    """Both, or one: with suffixes of their own, since columns of the same names are joined."""
    for key in ("followed_by", "not_followed_by"):
        if key in chosen:
            options = {"suffix": f"_{key}", **chosen[key]}
            entry[key] = {"with": "orders", **options}
            stream = getattr(stream, key)(app.stream(orders), **options)
    return stream


def _windowed(stream: Stream, entry: dict[str, Any], chosen: dict[str, Any]) -> Stream:
    if not {"window", "by", "aggregate"} <= set(chosen):
        return stream
    kind, window = chosen["window"]
    of_time = () if "count" in kind else ("grace", "every", "late_to")
    options = {name: chosen[name] for name in ("emit", *of_time) if name in chosen}
    if options.get("emit") == "final":
        options.setdefault("grace", "0s")
    entry["window"] = {**kind, "by": chosen["by"], **options}
    entry["aggregate"] = {name: written for name, (written, _) in chosen["aggregate"].items()}
    reducers = {name: made() for name, (_, made) in chosen["aggregate"].items()}
    return stream.window(window(), by=chosen["by"], **options).agg(**reducers)


@pytest.mark.parametrize(("sql", "expression"), [*_WHERE, *_WITH], ids=lambda one: one if isinstance(one, str) else "")
def test_an_sql_expression_gives_what_the_polars_expression_gives(sql: str, expression: pl.Expr) -> None:
    """Names of columns that SQL takes for functions of its own (`user`) are columns."""
    rows = [
        {"user": user, "page": page, "price": price, "qty": qty, "ts": 0}
        for user in ("a", "b", "c", None)
        for page in ("/p/1", "/")
        for price in (0.5, 1.5, None)
        for qty in (1, 2, None)
    ]

    def results(app: App) -> list[Any]:
        driver = Driver(app)
        driver.send("clicks", rows)
        driver.commit()
        return [row["x"] for row in driver.rows("out")]

    topics = {"clicks": {"schema": SCHEMA}}
    by_yaml = pipeline_of(
        yaml.safe_dump(
            {"app": "a", "topics": topics, "streams": [{"from": "clicks", "select": {"x": sql}, "to": "out"}]}
        )
    )
    by_python = App("a")
    by_python.stream(topic("clicks", SCHEMA)).select(expression.alias("x")).to("out")
    given_rows = results(by_yaml)
    assert given_rows == results(by_python)
    assert len(given_rows) == len(rows)


def test_several_sources_are_merged_and_entries_are_chained() -> None:
    app = pipeline_of(
        """
app: shop
topics:
  a: {schema: {n: int}, partitions: 2}
  b: {schema: {n: int}, partitions: 2}
  out: {schema: {n: int}, codec: json, partitions: 4}
streams:
  - from: [a, b]
    as: both
  - from: both
    where: n > 1
    select: [n]
    to: {topic: out, key: n}
"""
    )
    driver = Driver(app)
    driver.send("a", [{"n": 1}, {"n": 2}])
    driver.send("b", [{"n": 3}])
    driver.commit()
    assert sorted(row["n"] for row in driver.rows("out")) == [2, 3]
    assert app.plan().partition_counts["out"] == 4


def test_a_topic_declared_for_output_is_written_as_declared() -> None:
    """Codec, partitions and policy of a `to` topic are those of its declaration."""
    app = pipeline_of(
        "app: a\ntopics: {i: {schema: {t: string}}, o: {codec: text, schema: {t: string}, cleanup: compact}}\n"
        "streams: [{from: i, to: o}]\n"
    )
    driver = Driver(app)
    driver.send("i", [{"t": "hello"}])
    driver.commit()
    assert [record.value for record in driver.records("o")] == [b"hello"]


def test_the_example_of_the_reference_runs() -> None:
    example = Path(__file__).parents[2] / "examples" / "shop.yaml"
    driver = Driver(pipeline_of(example.read_text(), "shop.yaml"))
    rows = [{"user": "ada", "page": "/", "price": 2.5, "ts": second * 1_000} for second in (1, 2, 3, 30)]
    driver.send("clicks", rows)
    driver.commit()
    assert driver.rows("totals") == [{"user": "ada", "window_start": 0, "window_end": 10_000, "n": 3, "total": 7.5}]


@pytest.mark.parametrize(
    ("written", "by", "name"),
    [
        ("user", ["user"], None),
        (["user", "page"], ["user", "page"], None),
        ({"by": "user", "name": "sums"}, ["user"], "sums"),
    ],
)
def test_running_aggregates_are_the_same_table(written: Any, by: list[str], name: str | None) -> None:
    entry = {
        "from": "clicks",
        "group_by": written,
        "aggregate": {"n": "count()", "total": "sum(price)"},
        "to": "totals",
    }
    read = pipeline_of(
        yaml.safe_dump({"app": "shop", "topics": {"clicks": _topics()["clicks"]}, "streams": [entry]}, sort_keys=False)
    )
    app = App("shop")
    clicks = app.topic("clicks", SCHEMA, key="user", event_time="ts", out_of_order="2s", partitions=3)
    app.stream(clicks).group_by(*by, name=name).agg(n=count(), total=sum_("price")).to("totals")
    assert _described(read) == _described(app)
    (read_topic,) = (node.topic for node in read.graph if isinstance(node, Sink))
    assert (read_topic.cleanup, read_topic.key) == ("compact", tuple(by))
