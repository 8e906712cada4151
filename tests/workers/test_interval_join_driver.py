"""The interval join in an app: repartitioned, committed, checkpointed and crashed by the driver."""

from __future__ import annotations

import random

from millstream.topics.topic import topic
from millstream.workers.app import App
from millstream.workers.driver import Driver

VIEWS = topic(
    "views", {"user": "string", "page": "string", "ts": "timestamp_ms"}, key="user", event_time="ts", partitions=2
)
PURCHASES = topic(
    "purchases", {"id": "int", "user": "string", "ts": "timestamp_ms"}, key="id", event_time="ts", partitions=2
)


def shop() -> Driver:
    """Each purchase with the views of the five minutes before it; purchases are keyed by something else at first."""
    app = App("shop")
    joined = app.stream(VIEWS).interval_join(
        app.stream(PURCHASES), on="user", lower="0s", upper="5m", how="left", late_to="late", name="viewed"
    )
    joined.to("viewed")
    return Driver(app)


def play(driver: Driver, seed: int, *, disturbed: bool) -> list[tuple[str, str, int | None]]:
    """The same events; disturbed, with commits, checkpoints and crashes (what was not committed is read again)."""
    events, chance = random.Random(seed), random.Random(seed + 1)
    for number in range(60):
        at, user = 20_000 * number, f"u{events.randrange(3)}"
        driver.send("views", [{"user": user, "page": f"/{number}", "ts": at}])
        if number % 3 == 2:
            driver.send("purchases", [{"id": number, "user": user, "ts": at + events.randrange(20_000)}])
        if disturbed:
            what = chance.choice(["nothing", "commit", "checkpoint", "crash"])
            {
                "nothing": driver.process,
                "commit": driver.commit,
                "checkpoint": driver.checkpoint,
                "crash": driver.crash,
            }[what]()
    driver.end()
    driver.commit()
    return sorted(
        (row["user"], row["page"], row["id"]) for row in driver.rows("viewed") if row["id"] is not None
    ) + sorted((row["user"], row["page"], row["id"]) for row in driver.rows("viewed") if row["id"] is None)


def expected(seed: int) -> set[tuple[str, str, int | None]]:
    events = random.Random(seed)
    views, purchases = [], []
    for number in range(60):
        at, user = 20_000 * number, f"u{events.randrange(3)}"
        views.append((user, f"/{number}", at))
        if number % 3 == 2:
            purchases.append((number, user, at + events.randrange(20_000)))
    pairs: list[tuple[str, str, int | None]] = [
        (user, page, number)
        for user, page, seen in views
        for number, buyer, bought in purchases
        if user == buyer and seen <= bought <= seen + 300_000
    ]
    paired = {page for _, page, _ in pairs}
    return {*pairs, *((user, page, None) for user, page, _ in views if page not in paired)}


def test_a_join_in_an_app_survives_what_comes() -> None:
    """Every pair and every view without a purchase, once, however often it crashed."""
    for seed in range(4):
        undisturbed = play(shop(), seed, disturbed=False)
        assert set(undisturbed) == expected(seed)
        assert len(undisturbed) == len(set(undisturbed))
        assert play(shop(), seed, disturbed=True) == undisturbed
