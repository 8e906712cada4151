"""A Faust app with Millstream attached, run as a process by `test_attach.py`: windows here, an agent reads their results.

BOOTSTRAP, APP and FOLDER are in the environment.
"""

from __future__ import annotations

import os
from pathlib import Path

import faust

from millstream import App, count, tumbling
from millstream.ops.attach import attach, topic_of

NAME, FOLDER = os.environ["APP"], Path(os.environ["FOLDER"])


class Click(faust.Record, serializer="json"):
    user: str
    ts: int


class Total(faust.Record, serializer="json"):
    user: str
    window_start: int
    window_end: int
    n: int


faust_app = faust.App(
    f"{NAME}-faust",
    broker=f"kafka://{os.environ['BOOTSTRAP']}",
    datadir=str(FOLDER / "faust"),
    store="memory://",
    web_enabled=False,
    topic_partitions=1,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
)

millstream_app = App(NAME, state_dir=FOLDER / "millstream", commit_interval="50ms")
clicks = topic_of(faust_app, f"{NAME}.clicks", Click, key="user", event_time="ts")
windows = millstream_app.stream(clicks).window(tumbling("10s"), by="user", grace="0s", emit="final")
windows.agg(n=count()).to(millstream_app.topic(f"{NAME}.totals", partitions=1))
attach(faust_app, millstream_app)

totals = faust_app.topic(f"{NAME}.totals", value_type=Total)
seen = faust_app.topic(f"{NAME}.seen", value_serializer="json")


@faust_app.agent(totals)
async def tell(stream):  # type: ignore[no-untyped-def]
    async for total in stream:
        await seen.send(value={"user": total.user, "n": total.n, "start": total.window_start})


if __name__ == "__main__":
    faust_app.main()
