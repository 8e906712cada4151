"""`group_by(...).agg(...)`: a table of running aggregates, given as upserts once a commit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.topics.topic import topic
from millstream.workers.app import App
from millstream.workers.batch_run import run_batch
from millstream.workers.driver import Driver, Record
from millstream.workers.errors import PlanError, UserFunctionError
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.sum import Sum
from millstream.workers.table import Table
from millstream.workers.windows.tumbling import tumbling

WORDS = {"word": "string", "size": "int", "ts": "timestamp_ms"}


def word(text: str | None, size: int | None = 1, ts: int = 1_000) -> dict[str, Any]:
    return {"word": text, "size": size, "ts": ts}


def counted(*, by: str = "word", key: str = "word", partitions: int = 1) -> tuple[App, Table]:
    app = App("words")
    words = app.topic("words", WORDS, key=key, event_time="ts", partitions=partitions)
    table = app.stream(words).group_by(by).agg(n=Count(), size=Sum("size"))
    table.to(topic("counts", table.schema, key=by, partitions=partitions, cleanup="compact"))
    return app, table


def rows(driver: Driver) -> list[tuple[Any, ...]]:
    return [(row["word"], row["n"], row["size"]) for row in driver.rows("counts")]


def test_a_row_that_changed_is_given_once_a_commit_with_its_values_then() -> None:
    driver = Driver(counted()[0])
    driver.send("words", [word("a"), word("b"), word("a", 5)])
    driver.commit()
    driver.send("words", [word("a", 10)])
    driver.commit()
    driver.commit()
    assert rows(driver) == [("a", 2, 6), ("b", 1, 1), ("a", 3, 16)]


def test_records_are_keyed_by_the_group_so_that_a_compacted_topic_is_the_table() -> None:
    driver = Driver(counted()[0])
    driver.send("words", [word("a"), word("b"), word("a")])
    driver.end()
    assert driver.table("counts") == {b"a": {"word": "a", "n": 2, "size": 2}, b"b": {"word": "b", "n": 1, "size": 1}}


def test_no_row_is_ever_late() -> None:
    driver = Driver(counted()[0])
    driver.send("words", [word("a", ts=100_000)])
    driver.commit()
    driver.send("words", [word("a", ts=5)])
    driver.end()
    assert rows(driver)[-1] == ("a", 2, 2)
    assert driver.instrument.total("late_rows") == 0


def test_counts_go_on_after_a_crash() -> None:
    driver = Driver(counted()[0])
    driver.send("words", [word("a"), word("b")])
    driver.checkpoint()
    driver.send("words", [word("a")])
    driver.commit()
    driver.crash()
    driver.send("words", [word("a"), word("b")])
    driver.end()
    assert rows(driver)[-2:] == [("a", 3, 3), ("b", 2, 2)]


def test_null_keys_are_dead_letters_and_null_values_are_skipped() -> None:
    app = App("words")
    words = app.topic("words", WORDS, event_time="ts", dead_letters="bad")
    app.stream(words).group_by("word").agg(n=Count(), size=Sum("size")).to("counts")
    driver = Driver(app)
    driver.send_records(
        "words", [Record(None, b'{"word":null,"size":1,"ts":1}', 1), Record(None, b'{"word":"a","ts":1}', 1)]
    )
    driver.end()
    assert rows(driver) == [("a", 1, 0)]
    assert [record.value for record in driver.records("bad")] == [b'{"word":null,"size":1,"ts":1}']


def test_the_policy_of_a_source_holds_behind_a_repartition_topic() -> None:
    app = App("words")
    app.stream(app.topic("words", WORDS, event_time="ts", on_bad_record="fail")).group_by("word").agg(n=Count()).to(
        "counts"
    )
    driver = Driver(app)
    driver.send("words", [word(None)])
    with pytest.raises(UserFunctionError, match="key column 'word' is null; on_bad_record='fail'"):
        driver.end()


def test_other_columns_than_the_key_go_through_a_repartition_topic() -> None:
    app, _ = counted(key="size", partitions=3)
    driver = Driver(app)
    driver.send("words", [word("a", size) for size in range(10)])
    driver.end()
    assert driver.table("counts")[b"a"] == {"word": "a", "n": 10, "size": 45}


def test_what_changes_in_a_table_is_a_stream() -> None:
    """Each change has the time of the row that made it, so it can be counted in windows."""
    app = App("words")
    table = app.stream(app.topic("words", WORDS, key="word", event_time="ts")).group_by("word").agg(n=Count())
    changes = table.changes().window(tumbling("1s"), by="word", grace="0s", emit="final").agg(updates=Count())
    changes.to("updates")
    driver = Driver(app)
    for ts in (100, 200, 1_500):
        driver.send("words", [word("a", ts=ts)])
        driver.commit()
    driver.end()
    assert [(row["window_start"], row["updates"]) for row in driver.rows("updates")] == [(0, 2), (1_000, 1)]


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from(["commit", "checkpoint", "crash"])
        | st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 9)), min_size=1, max_size=6),
        max_size=20,
    )
)
def test_whatever_is_committed_or_crashed_the_table_is_that_of_all_rows(steps: list[Any]) -> None:
    driver, sizes, counts = Driver(counted(partitions=2)[0]), Counter[str](), Counter[str]()
    for step in steps:
        if isinstance(step, str):
            getattr(driver, step)()
            continue
        driver.send("words", [word(text, size) for text, size in step])
        for text, size in step:
            sizes[text] += size
            counts[text] += 1
    driver.end()
    found = {row["word"]: (row["n"], row["size"]) for row in driver.table("counts").values()}
    assert found == {text: (count, sizes[text]) for text, count in counts.items()}
    ordered = [row["n"] for row in driver.rows("counts") if row["word"] == "a"]
    assert ordered == sorted(set(ordered)), "given again, or back"


def test_a_bounded_run_gives_each_row_once() -> None:
    frame = pl.DataFrame([word("a"), word("b"), word("a")])
    assert sorted(run_batch(counted()[0], {"words": frame})["counts"].rows()) == [("a", 2, 2), ("b", 1, 1)]


@pytest.mark.parametrize("by", ["word", "size"])
def test_what_is_given_at_the_end_is_late_for_nobody(by: str) -> None:
    """Changes of a table go on into windows: in the same task, and behind a repartition topic."""
    app = App("words")
    words = app.topic("words", {**WORDS, "ts": "timestamp_ms"}, key="word", event_time="ts")
    changes = app.stream(words).group_by("word").agg(size=Sum("size")).changes()
    changes.window(tumbling("10ms"), by=by, grace="0s", emit="final").agg(n=Count()).to("out")
    rows = [{**word(text), "ts": ts} for ts, text in enumerate(["a", "bb", "cc"], 105)]
    bounded = run_batch(app, {"words": pl.DataFrame(rows).select(*WORDS)})["out"]
    driver = Driver(app, partitions={"words": 2})
    driver.send("words", rows)
    driver.end()
    assert {row["window_start"] for row in driver.rows("out")} == {100}
    assert sum(row["n"] for row in driver.rows("out")) == sum(bounded["n"]) == 3
    assert max(record.timestamp for record in driver.records("out")) == 109


# -- what is refused, with the way out


def test_what_does_not_fit_is_said_where_it_is_written() -> None:
    app = App("words")
    stream = app.stream(app.topic("words", WORDS))
    with pytest.raises(PlanError, match="group_by needs a column"):
        stream.group_by()
    with pytest.raises(PlanError, match="no column 'wrd'"):
        stream.group_by("wrd")
    with pytest.raises(PlanError, match="needs at least one reducer"):
        stream.group_by("word").agg()
    with pytest.raises(PlanError, match="two result columns are named 'word'"):
        stream.group_by("word").agg(word=Count())


def test_a_topic_with_another_key_is_not_the_table() -> None:
    app = App("words")
    table = app.stream(app.topic("words", WORDS)).group_by("word").agg(size=Sum("size"))
    with pytest.raises(PlanError, match=r"leave the topic's key out, or write \.changes\(\) to it"):
        table.to(topic("sizes", table.schema, key="size"))


def test_a_topic_that_is_only_named_is_compacted() -> None:
    app = App("words")
    table = app.stream(app.topic("words", WORDS)).group_by("word", "size").agg(n=Count())
    written = table.to("counts")
    assert (written.cleanup, written.key) == ("compact", ("word", "size"))
