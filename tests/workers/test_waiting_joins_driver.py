"""As-of and window joins in an app: repartitions, bounded runs, crashes, what is downstream of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from millstream import App, Driver, count, hopping, run_batch, session, tumbling
from millstream.workers.stream import Stream

SCHEMA = {"id": "int", "user": "string", "page": "string", "ts": "timestamp_ms"}
Join = Callable[[Stream, Stream], Stream]

JOINS: dict[str, Join] = {
    "backward": lambda a, b: a.asof_join(b, on="user"),
    "backward, other key": lambda a, b: a.asof_join(b, on="page", ttl="1m", how="inner"),
    "forward": lambda a, b: a.asof_join(b, on="user", direction="forward", tolerance="20s"),
    "nearest, two keys": lambda a, b: a.asof_join(b, on=["user", "page"], direction="nearest", tolerance="20s"),
    "tumbling": lambda a, b: a.window_join(b, tumbling("30s"), on="user", how="outer"),
    "hopping, other key": lambda a, b: a.window_join(b, hopping("30s", "20s"), on="page", how="left", grace="5s"),
    "session": lambda a, b: a.window_join(b, session("15s"), on="user", how="outer"),
}


def shop(join: Join) -> App:
    app = App("shop")
    left, right = (
        app.stream(app.topic(name, SCHEMA, key="user", event_time="ts", partitions=3, out_of_order="10s"))
        for name in ("views", "orders")
    )
    join(left, right).to("joined")
    return app


def given_rows(seed: int) -> dict[str, list[dict[str, Any]]]:
    chance = random.Random(seed)
    rows: dict[str, list[dict[str, Any]]] = {"views": [], "orders": []}
    for number in range(120):
        row = {
            "id": number,
            "user": f"u{chance.randrange(4)}",
            "page": chance.choice(["/", "/p", None]),
            "ts": 3_000 * number - chance.randrange(10_000),
        }
        rows[chance.choice(["views", "orders"])].append(row)
    return rows


def by_value(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(str, rows))


@pytest.mark.parametrize("name", JOINS)
def test_a_bounded_run_gives_what_a_streaming_run_gives(name: str) -> None:
    """And a streaming run what an undisturbed one gives, with commits, checkpoints and crashes anywhere."""
    for seed in range(3):
        rows = given_rows(seed)
        frames = {
            topic: pl.DataFrame(
                some,
                schema={**dict.fromkeys(("id", "ts"), pl.Int64), "user": pl.String, "page": pl.String},
                orient="row",
            ).select(list(SCHEMA))
            for topic, some in rows.items()
        }
        bounded = run_batch(shop(JOINS[name]), frames)["joined"].to_dicts()
        chance = random.Random(seed)
        driver = Driver(shop(JOINS[name]))
        left = {topic: list(some) for topic, some in rows.items()}
        while any(left.values()):
            topic = max(left, key=lambda one: (len(left[one]) > 0, -left[one][0]["ts"] if left[one] else 0))
            some = [left[topic].pop(0) for _ in range(min(len(left[topic]), chance.randrange(1, 4)))]
            driver.send(topic, some)
            what = chance.choice([driver.process, driver.commit, driver.checkpoint, driver.crash])
            what()
        driver.end()
        driver.commit()
        assert len(bounded) > 5
        assert by_value(driver.rows("joined")) == by_value(bounded)


def test_what_comes_after_a_join_loses_no_row() -> None:
    """Windows behind a forward join: its rows wait, so its watermark waits with them."""
    app = App("shop")
    views, orders = (app.stream(app.topic(name, SCHEMA, key="user", event_time="ts")) for name in ("views", "orders"))
    joined = views.asof_join(orders, on="user", direction="forward", tolerance="1m", grace="5s")
    joined.window(tumbling("10s"), by="user", grace="0s", emit="final").agg(n=count()).to("counts")
    driver = Driver(app)
    for second in range(0, 300, 7):
        driver.send("views", [{"id": second, "user": "u", "page": "/", "ts": second * 1_000}])
        driver.send("orders", [{"id": second, "user": "v", "page": "/", "ts": second * 1_000}])
    driver.end()
    driver.commit()
    assert sum(row["n"] for row in driver.rows("counts")) == len(range(0, 300, 7))


def test_a_changelog_of_a_table_is_a_right_side() -> None:
    """What a table took back is the end of a version: a group that became empty, a session that was merged."""
    app = App("shop")
    clicks = app.stream(app.topic("clicks", SCHEMA, key="user", event_time="ts"))
    orders = app.stream(app.topic("orders", SCHEMA, key="user", event_time="ts"))
    counts = clicks.group_by("user").agg(n=count()).changes()
    orders.asof_join(counts, on="user", late_to="late").select("id", "n").to("joined")
    driver = Driver(app)
    for number, second in enumerate((1, 5, 9)):
        driver.send("clicks", [{"id": number, "user": "u", "page": "/", "ts": second * 1_000}])
        driver.commit()
    driver.send("orders", [{"id": second, "user": "u", "page": "/", "ts": second * 1_000} for second in (0, 4, 5, 20)])
    driver.end()
    driver.commit()
    assert [(row["id"], row["n"]) for row in driver.rows("joined")] == [(0, None), (4, 1), (5, 2), (20, 3)]
    assert driver.rows("late") == []
