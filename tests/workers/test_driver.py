"""Pipelines end to end in one process: what comes out, what survives a crash, and that streaming equals batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.topics.control import HEADER
from millstream.workers.app import App
from millstream.workers.batch_run import run_batch
from millstream.workers.driver import Driver, Record
from millstream.workers.errors import PlanError, UserFunctionError
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.watermark import InputTime
from millstream.workers.windows.tumbling import tumbling

CLICKS = {"user": "string", "page": "string", "price": "int", "ts": "timestamp_ms"}


def click(user: str, ts: int, *, page: str = "home", price: int = 1) -> dict[str, Any]:
    return {"user": user, "page": page, "price": price, "ts": ts}


def sums_app(*, by: str = "user", emit: str = "final", partitions: int = 1, **topic: Any) -> App:
    """Count and sum of clicks in windows of 10 s."""
    app = App("shop")
    clicks = app.topic("clicks", CLICKS, key="user", event_time="ts", partitions=partitions, **topic)
    window = app.stream(clicks).window(tumbling("10s"), by=by, grace="0s", emit=emit)  # type: ignore[arg-type]
    window.agg(n=Count(), total=Sum("price")).to(app.topic("sums", partitions=partitions))
    return app


def results(rows: Sequence[Mapping[str, Any]], by: str = "user") -> list[tuple[Any, ...]]:
    return sorted((row[by], row["window_start"], row["n"], row["total"]) for row in rows)


# -- commits


def test_output_is_there_only_after_its_commit() -> None:
    driver = Driver(sums_app(emit="update"))
    driver.send("clicks", [click("ada", 1_000)])
    assert driver.rows("sums") == []
    driver.commit()
    assert results(driver.rows("sums")) == [("ada", 0, 1, 1)]


def test_a_crash_loses_exactly_what_was_not_committed_and_it_is_worked_on_again() -> None:
    driver = Driver(sums_app(emit="update"))
    driver.send("clicks", [click("ada", 1_000)])
    driver.commit()
    driver.send("clicks", [click("ada", 2_000)])
    driver.crash()
    driver.commit()
    assert results(driver.rows("sums")) == [("ada", 0, 1, 1), ("ada", 0, 2, 2)]


def test_state_comes_back_from_checkpoint_and_changelog_tail() -> None:
    driver = Driver(sums_app())
    driver.send("clicks", [click("ada", 1_000, price=5)])
    driver.checkpoint()
    driver.send("clicks", [click("ada", 2_000, price=7)])
    driver.commit()
    driver.crash()
    driver.send("clicks", [click("bob", 30_000)])
    driver.commit()
    assert results(driver.rows("sums")) == [("ada", 0, 2, 12)]


def test_a_closed_window_stays_closed_after_a_crash() -> None:
    """The watermark is committed with the offsets: a late row is late for the next owner, too."""
    driver = Driver(sums_app())
    driver.send("clicks", [click("ada", 1_000), click("ada", 30_000)])
    driver.commit()
    driver.crash()
    driver.send("clicks", [click("ada", 2_000)])
    driver.end()
    assert results(driver.rows("sums")) == [("ada", 0, 1, 1), ("ada", 30_000, 1, 1)]
    assert driver.instrument.total("late_rows") == 1


# -- keys and partitions


def test_grouping_by_another_column_goes_through_a_repartition_topic() -> None:
    app = sums_app(by="page", partitions=3)
    driver = Driver(app)
    assert [sub.partitions for sub in driver.topology.subs] == [3, 3]
    driver.send("clicks", [click(user, 1_000) for user in ("ada", "bob", "cyd", "dan")])
    driver.end()
    assert results(driver.rows("sums"), "page") == [("home", 0, 4, 4)]


def test_a_fast_upstream_partition_makes_nothing_late_downstream() -> None:
    """Two upstream partitions, one read far ahead of the other: the control records hold event time back."""
    driver = Driver(sums_app(by="page", partitions=2))
    driver.send("clicks", [click("ada", ts) for ts in range(0, 100_000, 5_000)], partition=0)
    driver.commit()
    driver.send("clicks", [click("bob", ts) for ts in range(0, 100_000, 5_000)], partition=1)
    driver.end()
    assert results(driver.rows("sums"), "page") == [("home", start, 4, 4) for start in range(0, 100_000, 10_000)]
    assert driver.instrument.total("late_rows") == 0


def test_a_task_that_goes_on_tells_the_watermark_it_had() -> None:
    """And not that it has seen nothing, which a reader without a past would have to wait for."""
    driver = Driver(sums_app(by="page", partitions=2))
    driver.send("clicks", [click("ada", 20_000), click("bob", 20_000)])
    driver.commit()
    assert set(told(driver)) == {20_000}
    driver.crash()
    driver.send("clicks", [click("cyd", 19_000)])
    driver.commit()
    assert set(told(driver)) == {20_000}


def told(driver: Driver) -> list[int]:
    """The watermarks told in the repartition topic, partition by partition."""
    headers = [header for record in driver.records("shop-by-page-1-repartition") for header in record.headers]
    return [orjson.loads(value or b"")["watermark"] for name, value in headers if name == HEADER]


def test_without_control_records_the_slow_partition_would_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the test above: event time taken from the rows themselves loses rows."""
    from millstream.workers import inputs as inputs_module

    monkeypatch.setattr(inputs_module, "_time", lambda topology, source: InputTime(None, None))

    read_rows = inputs_module.Input._read_rows

    def by_largest_time(self: Any, fetch: Any) -> Any:
        batch, rejected = read_rows(self, fetch)
        return batch.replaced(batch.frame.drop("__block_time", strict=False)), rejected

    monkeypatch.setattr(inputs_module.Input, "_read_rows", by_largest_time)
    driver = Driver(sums_app(by="page", partitions=2))
    driver.send("clicks", [click("ada", ts) for ts in range(0, 100_000, 5_000)], partition=0)
    driver.commit()
    driver.send("clicks", [click("bob", ts) for ts in range(0, 100_000, 5_000)], partition=1)
    driver.end()
    assert driver.instrument.total("late_rows") > 0


# -- time


def test_an_idle_partition_does_not_hold_the_others_back() -> None:
    driver = Driver(sums_app(by="page", partitions=2, idle_after="30s"))
    driver.send("clicks", [click("ada", 1_000), click("ada", 50_000)], partition=0)
    driver.commit()
    assert driver.rows("sums") == []
    driver.advance_clock(31_000)
    driver.send("clicks", [click("ada", 60_000)], partition=0)
    driver.commit()
    driver.commit()
    assert results(driver.rows("sums"), "page") == [("home", 0, 1, 1), ("home", 50_000, 1, 1)]


def test_a_quiet_stream_closes_its_last_window_when_told_to() -> None:
    app = App("shop", advance_when_idle=True)
    clicks = app.topic("clicks", CLICKS, key="user", event_time="ts", idle_after="5s")
    app.stream(clicks).window(tumbling("10s"), by="user", grace="0s", emit="final").agg(
        n=Count(), total=Sum("price")
    ).to("sums")
    driver = Driver(app)
    driver.send("clicks", [click("ada", 1_000)])
    driver.advance_clock(4_000)
    driver.commit()
    assert driver.rows("sums") == []
    driver.advance_clock(20_000)
    driver.commit()
    assert results(driver.rows("sums")) == [("ada", 0, 1, 1)]
    driver.crash()
    driver.commit()
    assert results(driver.rows("sums")) == [("ada", 0, 1, 1)], "what the clock decided was committed"


# -- bad input


def test_a_bad_record_is_a_dead_letter_and_costs_nothing_else() -> None:
    driver = Driver(sums_app(emit="update", dead_letters="dead"))
    good = b'{"user":"ada","page":"x","price":1,"ts":1}'
    driver.send_records("clicks", [Record(b"k", value, 7) for value in (good, b"{oops", good, None, b'{"user":1}')])
    driver.commit()
    assert results(driver.rows("sums")) == [("ada", 0, 2, 2)]
    letters = driver.records("dead")
    assert [letter.value for letter in letters] == [b"{oops", None, b'{"user":1}']
    headers = dict(letters[0].headers)
    assert headers["__dead_letter.topic"] == b"clicks"
    assert headers["__dead_letter.offset"] == b"1"
    assert headers["__dead_letter.app"] == b"shop"


def test_a_function_that_raises_costs_its_row_alone() -> None:
    app = App("shop")
    clicks = app.topic("clicks", CLICKS, event_time="ts", dead_letters="dead")

    def share(row: dict[str, Any]) -> dict[str, Any]:
        return {"user": row["user"], "share": 100 // row["price"]}

    app.stream(clicks).map(share, schema={"user": "string", "share": "int"}).to("shares")
    driver = Driver(app)
    driver.send("clicks", [click("ada", 1, price=4), click("bob", 2, price=0), click("cyd", 3, price=5)])
    driver.commit()
    assert driver.rows("shares") == [{"user": "ada", "share": 25}, {"user": "cyd", "share": 20}]
    (letter,) = driver.records("dead")
    assert b"share raised ZeroDivisionError" in (dict(letter.headers)["__dead_letter.reason"] or b"")
    assert b'"bob"' in (letter.value or b"")


@pytest.mark.slow
def test_one_row_in_a_million_for_which_a_function_raises() -> None:
    rows, bad = 1_000_000, 654_321
    app = App("numbers")
    numbers = app.topic("numbers", {"n": "int"}, dead_letters="dead")
    app.stream(numbers).map(lambda row: {"n": 1 // (row["n"] - bad)}).filter(pl.col("n") > 1).to("out")
    driver = Driver(app, fetch_records_max=100_000)
    driver.send("numbers", pl.DataFrame({"n": range(rows)}))
    driver.commit()
    (letter,) = driver.records("dead")
    assert letter.value == b'{"n":654321}'
    assert driver.instrument.total("rejected_records") == 1


def test_a_result_that_does_not_fit_its_schema_is_a_dead_letter() -> None:
    app = App("shop")
    clicks = app.topic("clicks", CLICKS, event_time="ts", dead_letters="dead")
    app.stream(clicks).map(lambda row: {"n": row["user"] if row["price"] else 1}, schema={"n": "int"}).to("out")
    driver = Driver(app)
    driver.send("clicks", [click("ada", 1, price=0), click("bob", 2, price=1)])
    driver.commit()
    assert driver.rows("out") == [{"n": 1}]
    assert b"'bob' for column 'n', expected Int64" in (
        dict(driver.records("dead")[0].headers)["__dead_letter.reason"] or b""
    )


def test_the_policy_fail_stops_at_the_first_bad_record() -> None:
    driver = Driver(sums_app(on_bad_record="fail"))
    with pytest.raises(UserFunctionError, match="clicks-0 offset 0"):
        driver.send_records("clicks", [Record(None, b"not json", 0)])


# -- steps


def test_rows_go_to_the_first_branch_that_is_true_for_them() -> None:
    app = App("shop")
    clicks = app.topic("clicks", CLICKS, event_time="ts")
    branches = app.stream(clicks).branch(cheap=pl.col("price") < 10, dear=pl.col("price") < 100)
    for label, stream in branches.items():
        stream.select("price").to(label)
    driver = Driver(app)
    driver.send("clicks", [click("a", 0, price=price) for price in (5, 50, 500, 6)])
    driver.commit()
    found = {label: [row["price"] for row in driver.rows(label)] for label in branches}
    assert found == {"cheap": [5, 6], "dear": [50], "rest": [500]}


def test_merged_streams_keep_all_rows() -> None:
    app = App("shop")
    one, two = (app.stream(app.topic(name, {"x": "int"})) for name in ("one", "two"))
    one.merge(two).to("both")
    driver = Driver(app)
    driver.send("one", [{"x": 1}])
    driver.send("two", [{"x": 2}])
    driver.commit()
    assert sorted(row["x"] for row in driver.rows("both")) == [1, 2]


def test_records_pass_through_as_bytes_tombstones_too() -> None:
    app = App("copy")
    source = app.topic("clicks", CLICKS, key="user")
    app.records(source).to(app.topic("copy", codec="raw"))
    driver = Driver(app)
    driver.send_records(
        "clicks", [Record(b"k", b"\xff not json", 0), Record(b"k", None, 0), Record(None, b"", 0)], partition=0
    )
    driver.commit()
    assert [(record.key, record.value) for record in driver.records("copy")] == [
        (b"k", b"\xff not json"),
        (b"k", None),
        (None, b""),
    ]


def test_flat_map_gives_any_number_of_rows() -> None:
    app = App("words")
    lines = app.topic("lines", {"text": "string"})
    split = app.stream(lines).flat_map(
        lambda row: [{"word": word} for word in row["text"].split()], schema={"word": "string"}
    )
    split.to("words", key="word")
    driver = Driver(app)
    driver.send("lines", [{"text": "to be or"}, {"text": ""}, {"text": "not"}])
    driver.commit()
    assert [row["word"] for row in driver.rows("words")] == ["to", "be", "or", "not"]
    assert driver.records("words")[0].key == b"to"


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda rows: rows.filter(pl.col("nope") > 1), "nope"),
        (lambda rows: rows.filter(pl.col("price") + 1), "yes or no"),
        (lambda rows: rows.with_columns(total=pl.col("price").sum()), "more than one row"),
        (lambda rows: rows.with_columns(total=pl.col("price").cum_sum()), "more than one row"),
        (lambda rows: rows.key_by("nope"), "no column 'nope'"),
        (lambda rows: rows.to("out", key="nope"), "no column 'nope'"),
        (lambda rows: rows.window(tumbling("1s"), by="user", emit="final"), "needs grace="),
        (lambda rows: rows.window(tumbling("1s"), by="user").agg(), "at least one reducer"),
        (
            lambda rows: rows.filter(pl.col("price") > 1, name="x").filter(pl.col("price") > 1, name="x"),
            "two steps are named",
        ),
        (lambda rows: rows.filter(pl.col("price") > 1, name="no good"), "1 to 100 characters"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_when_it_is_written(build: Any, text: str) -> None:
    app = App("shop")
    rows = app.stream(app.topic("clicks", CLICKS, event_time="ts"))
    with pytest.raises(PlanError, match=text):
        build(rows)


# -- streaming equals batch

ROWS = st.lists(
    st.builds(
        click,
        user=st.sampled_from(["ada", "bob", "cyd"]),
        ts=st.integers(-30_000, 60_000),
        page=st.sampled_from(["x", "y"]),
        price=st.integers(-5, 5),
    ),
    max_size=40,
)
DEEDS = st.lists(st.sampled_from(["commit", "crash", "checkpoint", "nothing"]), min_size=1, max_size=8)


@settings(max_examples=60)
@given(
    rows=ROWS, deeds=DEEDS, by=st.sampled_from(["user", "page"]), partitions=st.integers(1, 3), size=st.integers(1, 10)
)
def test_streaming_with_crashes_equals_one_bounded_run(
    rows: list[dict[str, Any]], deeds: list[str], by: str, partitions: int, size: int
) -> None:
    """Any batching, any partitions, any crashes and checkpoints: the final results are those of the bounded run. All rows
    are on time, since times may lag by more than they spread."""
    app = sums_app(by=by, partitions=partitions, out_of_order="100s")
    driver = Driver(app)
    for number, start in enumerate(range(0, len(rows), size)):
        driver.send("clicks", rows[start : start + size])
        deed = deeds[number % len(deeds)]
        if deed != "nothing":
            getattr(driver, deed)()
    driver.end()
    schema = {"user": pl.String, "page": pl.String, "price": pl.Int64, "ts": pl.Int64}
    bounded = run_batch(app, {"clicks": pl.DataFrame(rows, schema=schema)})["sums"]
    assert results(driver.rows("sums"), by) == results(bounded.to_dicts(), by)
