"""Tables follow their topics through joins and groups, whatever order, commits and crashes (semantics.md, section 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream import App, Driver, collect, count, min_, run_batch, sum_, tumbling
from millstream.topics.batch import Partition
from millstream.topics.errors import SchemaError
from millstream.topics.topic import Topic, topic
from millstream.workers.driver import Record
from millstream.workers.errors import PlanError
from tests.oracles import tables as oracle
from tests.workers.table_run import Change, TableRun

KEYS = [f"k{number}" for number in range(5)]
REFS = ["r0", "r1", "r2"]
BETWEEN = st.sampled_from(["commit", "checkpoint", "crash"])


def left() -> Topic:
    return topic("left", {"id": "string", "l": "int"}, key="id")


def right() -> Topic:
    return topic("right", {"id": "string", "r": "int"}, key="id")


def orders() -> Topic:
    return topic("orders", {"id": "string", "ref": "string", "n": "int"}, key="id")


def of_two_tables() -> st.SearchStrategy[list[Change | str]]:
    def change(name: str, column: str) -> st.SearchStrategy[Change]:
        rows = st.tuples(st.sampled_from(KEYS), st.none() | st.integers(0, 9))
        return rows.map(lambda one: (name, one[0], None if one[1] is None else {"id": one[0], column: one[1]}))

    return st.lists(change("left", "l") | change("right", "r") | BETWEEN, max_size=25)


def of_orders() -> st.SearchStrategy[list[Change | str]]:
    row = st.tuples(st.sampled_from(KEYS), st.none() | st.sampled_from(REFS), st.integers(0, 9), st.integers(0, 3))
    order = row.map(lambda one: ("orders", one[0], {"id": one[0], "ref": one[1], "n": one[2]} if one[3] else None))
    partner = st.tuples(st.sampled_from(REFS), st.none() | st.integers(0, 9)).map(
        lambda one: ("right", one[0], None if one[1] is None else {"id": one[0], "r": one[1]})
    )
    return st.lists(order | partner | BETWEEN, max_size=30)


@pytest.mark.parametrize("how", ["inner", "left", "outer"])
@settings(deadline=None, max_examples=60)
@given(steps=of_two_tables(), fetch=st.integers(1, 4))
def test_a_join_of_two_tables_is_the_join_of_what_is_in_them(how: Any, steps: list[Change | str], fetch: int) -> None:
    """And no tombstone is written for a key that had no row."""
    app = App("t")
    app.table(left()).join(app.table(right()), how=how).to("out")
    run = TableRun(app, {"left": 2, "right": 2, "out": 2}, fetch)
    run.play(steps)
    expected = oracle.table_join(run.tables.get("left", {}), run.tables.get("right", {}), how)
    assert run.found("out") == expected
    assert (run.rejected(), run.ill_timed("out")) == (0, [])
    assert run.needless_tombstones("out") == []


@pytest.mark.parametrize("how", ["inner", "left"])
@settings(deadline=None, max_examples=50)
@given(steps=of_orders(), fetch=st.integers(1, 4))
def test_a_foreign_key_join_finds_the_row_that_is_named(how: Any, steps: list[Change | str], fetch: int) -> None:
    """Through changes of the foreign key, of either side, and nulls in it."""
    app = App("t")
    app.table(orders()).join(app.table(right()), on="ref", how=how).to("out")
    run = TableRun(app, {"orders": 2, "right": 3, "out": 2}, fetch)
    run.play(steps)
    expected = oracle.foreign_key_join(run.tables.get("orders", {}), run.tables.get("right", {}), how)
    assert run.found("out") == expected
    assert (run.rejected(), run.ill_timed("out")) == (0, [])


@settings(deadline=None, max_examples=80)
@given(steps=of_orders(), fetch=st.integers(1, 4))
def test_groups_follow_their_table_down_as_well_as_up(steps: list[Change | str], fetch: int) -> None:
    """Rows that leave a group are taken out of it; a group without rows is taken away, and only if it was there."""
    app = App("t")
    app.table(topic("right", {"id": "string", "r": "int"}, key="id")).to("unused")
    table = app.table(orders())
    table.group_by("ref").agg(count=count(), total=sum_("n"), least=min_("n"), all=collect("n")).to("out")
    run = TableRun(app, {"orders": 2, "right": 1, "out": 2, "unused": 1}, fetch)
    run.play(steps)
    found = {key: {**row, "all": sorted(row["all"])} for key, row in run.found("out").items()}
    assert found == oracle.grouped(run.tables.get("orders", {}), "ref")
    assert run.ill_timed("out") == []
    assert run.needless_tombstones("out") == []


@settings(deadline=None, max_examples=40)
@given(steps=of_orders(), fetch=st.integers(1, 4))
def test_a_filtered_table_holds_the_rows_that_still_fit(steps: list[Change | str], fetch: int) -> None:
    app = App("t")
    app.table(topic("right", {"id": "string", "r": "int"}, key="id")).to("unused")
    table = app.table(orders()).filter(pl.col("n") >= 5).with_columns(double=pl.col("n") * 2).select("id", "double")
    table.to("out")
    run = TableRun(app, {"orders": 2, "right": 1, "out": 2, "unused": 1}, fetch)
    run.play(steps)
    rows = run.tables.get("orders", {})
    assert run.found("out") == {key: {"id": key, "double": row["n"] * 2} for key, row in rows.items() if row["n"] >= 5}


def test_a_stream_meets_the_row_that_is_there_when_it_comes() -> None:
    """One output a row, never updated; a tombstone leaves nothing to meet."""
    app = App("t")
    clicks = app.stream(topic("clicks", {"user": "string", "n": "int"}, key="user"))
    clicks.join(app.table(left()), on="user", how="left").to("out")
    run = TableRun(app, {"clicks": 1, "left": 1, "out": 1})
    click = {"user": "k1", "n": 0}
    for number, change in enumerate(
        [None, ("left", "k1", {"id": "k1", "l": 7}), ("left", "k1", {"id": "k1", "l": 8}), ("left", "k1", None)]
    ):
        if change is not None:
            run.play([change])
        run.play([("clicks", "k1", {**click, "n": number})])
    assert [(row["n"], row["l"]) for row in run.driver.rows("out")] == [(0, None), (1, 7), (2, 8), (3, None)]


@pytest.mark.parametrize(("how", "expected"), [("inner", [2]), ("left", [1, 2, 3])])
def test_rows_without_a_partner_and_with_a_null_key(how: Any, expected: list[int]) -> None:
    app = App("t")
    clicks = app.stream(topic("clicks", {"user": "string", "n": "int"}))
    clicks.join(app.table(left()), on="user", how=how).to("out")
    run = TableRun(app, {"clicks": 1, "left": 1, "out": 1})
    run.play([("left", "k1", {"id": "k1", "l": 7}), ("left", "", {"id": "", "l": 9})])
    for number, user in enumerate(["other", "k1", None], 1):
        run.play([("clicks", "x", {"user": user, "n": number})])
    found = run.driver.rows("out")
    assert sorted(row["n"] for row in found) == expected
    assert {row["n"]: row["l"] for row in found} == {n: 7 if n == 2 else None for n in expected}


def test_the_table_is_loaded_before_the_first_row() -> None:
    """After a start a row of the stream waits for what the table's topic held then, in however many fetches it comes."""
    app = App("t")
    clicks = app.stream(topic("clicks", {"user": "string", "n": "int"}, key="user"))
    clicks.join(app.table(left()), on="user", how="left").to("out")
    run = TableRun(app, {"clicks": 1, "left": 1, "out": 1}, fetch_records_max=1)
    logs = run.driver._logs  # both topics are full before anything is read
    logs[Partition("clicks", 0)].append(Record(b"k1", orjson.dumps({"user": "k1", "n": 1}), 0))
    logs[Partition("left", 0)] += [
        Record(f"k{n}".encode(), orjson.dumps({"id": f"k{n}", "l": n}), 10) for n in range(3, -1, -1)
    ]
    run.driver.crash()
    run.driver.commit()
    assert [(row["n"], row["l"]) for row in run.driver.rows("out")] == [(1, 1)]


def test_a_table_holds_no_time_back() -> None:
    """The watermark of a step that looks into a table is that of its stream."""
    app = App("t")
    clicks = app.stream(topic("clicks", {"user": "string", "ts": "timestamp_ms"}, key="user", event_time="ts"))
    joined = clicks.join(app.table(left()), on="user", how="left")
    joined.window(tumbling("10ms"), by="user", grace="0s", emit="final").agg(n=count()).to("out")
    run = TableRun(app, {"clicks": 1, "left": 1, "out": 1})
    run.play([("left", "k1", {"id": "k1", "l": 7})])
    run.play([("clicks", "k1", {"user": "k1", "ts": 1_000_000}), ("clicks", "k1", {"user": "k1", "ts": 1_000_010})])
    assert [row["window_start"] for row in run.driver.rows("out")] == [1_000_000]


def test_topics_of_other_partition_counts_are_repartitioned() -> None:
    """The plan puts the smaller side behind a repartition topic, and the join is right."""
    app = App("t")
    app.table(left()).join(app.table(right()), how="outer").to("out")
    run = TableRun(app, {"left": 2, "right": 5, "out": 1})
    steps: list[Change | str] = [("left", f"k{n}", {"id": f"k{n}", "l": n}) for n in range(20)]
    steps += [("right", f"k{n}", {"id": f"k{n}", "r": n}) for n in range(10, 30)]
    steps += [("left", "k3", None), ("right", "k12", None)]
    run.play(steps)
    assert run.found("out") == oracle.table_join(run.tables["left"], run.tables["right"], "outer")
    (internal,) = run.driver.topology.internal_topics
    assert (internal.name, internal.partitions) == ("t-table_join-1-by-id-1-repartition", 5)


def test_the_newest_row_of_a_stream() -> None:
    app = App("t")
    clicks = app.stream(topic("clicks", {"user": "string", "n": "int"}))
    clicks.to_table("user").to("out")
    run = TableRun(app, {"clicks": 2, "out": 1})
    for number, user in enumerate(["a", "b", "a", None]):
        run.play([("clicks", "x", {"user": user, "n": number})])
    assert {key: row["n"] for key, row in run.found("out").items()} == {"a": 2, "b": 1}


def test_a_group_that_no_longer_fits_loses_that_value() -> None:
    """A sum beyond 64 bits is told of, and null."""
    app = App("t")
    app.table(orders()).group_by("ref").agg(total=sum_("n"), count=count()).to("out")
    run = TableRun(app, {"orders": 1, "out": 1})
    run.play([("orders", key, {"id": key, "ref": "r", "n": 2**63 - 1}) for key in ("a", "b")])
    assert run.found("out") == {"r": {"ref": "r", "total": None, "count": 2}}
    assert run.driver.instrument.total("rejected_records") == 1


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda app: app.table(topic("x", {"id": "int"})), "no table without"),
        (lambda app: (app.stream(left()), app.table(left())), "as a stream and as a table"),
        (lambda app: app.table(left()).join(app.table(right()), how="cross"), "how='cross'"),
        (lambda app: app.table(orders()).join(app.table(right()), on="ref", how="outer"), "inner' or 'left"),
        (lambda app: app.table(orders()).join(app.table(right()), on="reff"), "no column 'reff'"),
        (lambda app: app.table(orders()).join(app.table(right()), on="n"), "cast one"),
        (lambda app: app.table(left()).select("l"), "'id' is of the table's key"),
        (lambda app: app.table(left()).with_columns(id=pl.lit("x")), "'id' is of the table's key"),
        (lambda app: app.table(left()).group_by("nope").agg(n=count()), "no column 'nope'"),
        (lambda app: app.table(left()).group_by("l").agg(), "at least one reducer"),
        (
            lambda app: app.stream(topic("s", {"user": "string"})).join(app.table(left())),
            "no column 'id' for the table's key column",
        ),
        (
            lambda app: app.stream(topic("s", {"id": "string", "l_right": "int", "l": "int"})).join(app.table(left())),
            "would be 'l_right', which is taken",
        ),
    ],
)
def test_what_does_not_fit_is_refused(build: Any, said: str) -> None:
    with pytest.raises((PlanError, SchemaError), match=said):
        build(App("t"))


ORDER_ROWS = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(REFS), st.integers(0, 9)), max_size=12)


@settings(deadline=None, max_examples=20)
@given(orders_given=ORDER_ROWS, partners=st.lists(st.tuples(st.sampled_from(REFS), st.integers(0, 9)), max_size=5))
def test_a_bounded_run_gives_the_same_table(
    orders_given: list[tuple[str, str, int]], partners: list[tuple[str, int]]
) -> None:
    """`run_batch` over all changes, read as upserts, is what a streaming run leaves."""

    def app() -> App:
        app = App("t")
        table = app.table(timed_orders())
        table.join(app.table(timed_right()), on="ref", how="left").to("joined")
        table.group_by("ref").agg(count=count(), total=sum_("n"), least=min_("n")).to("grouped")
        return app

    rows = [{"id": key, "ref": ref, "n": n, "ts": ts} for ts, (key, ref, n) in enumerate(orders_given)]
    named = [{"id": key, "r": r, "ts": ts} for ts, (key, r) in enumerate(partners)]
    columns = {"id": pl.String(), "ref": pl.String(), "n": pl.Int64(), "ts": pl.Int64()}
    frames = {
        "orders": pl.DataFrame(rows, columns),
        "right": pl.DataFrame(named, {"id": pl.String(), "r": pl.Int64(), "ts": pl.Int64()}),
    }
    bounded = run_batch(app(), frames)
    driver = Driver(app(), partitions={"orders": 2, "right": 3})
    for name, sent in (("orders", rows), ("right", named)):
        for row in sent:
            driver.send(name, [row])
            driver.commit()
    for name, key in (("joined", "id"), ("grouped", "ref")):
        newest = {row[key]: row for row in bounded[name].to_dicts()}
        assert newest == {key.decode(): row for key, row in driver.table(name).items()}


def timed_orders() -> Topic:
    columns = {"id": "string", "ref": "string", "n": "int", "ts": "timestamp_ms"}
    return topic("orders", columns, key="id", event_time="ts")


def timed_right() -> Topic:
    return topic("right", {"id": "string", "r": "int", "ts": "timestamp_ms"}, key="id", event_time="ts")


def test_a_bounded_run_reads_the_table_first() -> None:
    """Whatever the times say, a row of the stream meets the table's last row."""
    app = App("t")
    clicks = app.stream(topic("clicks", {"id": "string", "ts": "timestamp_ms"}, event_time="ts"))
    clicks.join(app.table(timed_right())).to("out")
    out = run_batch(
        app,
        {
            "clicks": pl.DataFrame({"id": ["a", "b"], "ts": [0, 0]}),
            "right": pl.DataFrame({"id": ["a", "a"], "r": [1, 2], "ts": [5, 9]}),
        },
    )["out"]
    assert out.select("id", "r").rows() == [("a", 2)]


# -- global tables


def with_countries(how: Any = "left") -> App:
    app = App("t")
    clicks = app.stream(topic("clicks", {"user": "string", "from": "string", "ts": "timestamp_ms"}, event_time="ts"))
    countries = app.global_table(topic("countries", {"code": "string", "name": "string"}, key="code"))
    clicks.join(countries, on="from", how=how).to("out")
    return app


@pytest.mark.parametrize("how", ["inner", "left"])
def test_a_global_table_is_met_by_any_column_in_every_partition(how: Any) -> None:
    """Nothing is repartitioned; changes are seen from then on, a tombstone too; a null matches nothing."""
    driver = Driver(with_countries(how), partitions={"clicks": 3, "countries": 2})
    assert driver.topology.internal_topics == []
    driver.send(
        "countries", [{"code": code, "name": name} for code, name in (("de", "Germany"), ("fr", "France"), ("", "?"))]
    )
    driver.send("clicks", [{"user": "a", "from": "de", "ts": 1}], partition=0)
    driver.send("clicks", [{"user": "b", "from": "fr", "ts": 2}, {"user": "c", "from": None, "ts": 3}], partition=2)
    driver.send_records("countries", [Record(b"fr", None, 5)])
    driver.send("clicks", [{"user": "d", "from": "fr", "ts": 4}], partition=1)
    driver.crash()
    driver.commit()
    found = {(row["user"], row["name"]) for row in driver.rows("out")}
    matched = {
        ("a", "Germany"),
        ("b", None),
        ("c", None),
        ("d", None),
    }  # after the crash they are read again, as of now
    assert found == {one for one in matched if how == "left" or one[1] is not None}


def test_a_bounded_run_takes_a_global_table_from_a_frame_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "countries.jsonl"
    file.write_text('{"code": "de", "name": "Germany"}\n{"code": 7}\n')
    frame = pl.DataFrame({"code": ["de"], "name": ["Germany"]})
    clicks = pl.DataFrame({"user": ["a"], "from": ["de"], "ts": [1]})
    for countries in (file, frame):
        out = run_batch(with_countries(), {"clicks": clicks, "countries": countries})["out"]
        assert out.select("user", "name").rows() == [("a", "Germany")]


def test_a_bad_record_of_a_global_table_is_counted_and_passed_over(caplog) -> None:
    driver = Driver(with_countries(), partitions={"clicks": 1, "countries": 1})
    driver.send_records("countries", [Record(b"x", b"{", 1), Record(None, None, 2), Record(b"z", b'{"name": "n"}', 3)])
    driver.send("countries", [{"code": "de", "name": "Germany"}])
    driver.send("clicks", [{"user": "a", "from": "de", "ts": 1}])
    driver.commit()
    assert [row["name"] for row in driver.rows("out")] == ["Germany"]
    assert driver.instrument.total("rejected_records") == 3
    assert caplog.text.count("is passed over") == 1


def test_a_topic_is_read_in_one_way() -> None:
    app = App("t")
    app.stream(left())
    with pytest.raises(SchemaError, match="as a global table and in another way"):
        app.global_table(left())
    app.global_table(right())
    with pytest.raises(SchemaError, match="as a global table and in another way"):
        app.table(right())
