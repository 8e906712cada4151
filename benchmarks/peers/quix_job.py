# mypy: ignore-errors
"""The tumbling-window job on Quix Streams: `python quix_job.py BOOTSTRAP TOPIC OUTPUT FOLDER EVENTS`. RocksDB, changelog, 1 s."""

import sys

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

bootstrap, topic, output, folder, _ = sys.argv[1:]
app = Application(
    broker_address=bootstrap,
    consumer_group=f"quix-{output}",
    auto_offset_reset="earliest",
    commit_interval=1.0,
    state_dir=folder,
    loglevel="WARNING",
)
clicks = app.topic(
    topic, value_deserializer="json", key_deserializer="str", timestamp_extractor=lambda value, *_: value["ts"]
)
totals = app.topic(output, value_serializer="json", key_serializer="str")
window = app.dataframe(clicks).tumbling_window(10_000, grace_ms=5_000).agg(n=Count(), total=Sum("price"))


def row(value, key, _timestamp, _headers):
    return {"user_id": key, "window_start": value["start"], "n": value["n"], "total": value["total"]}


window.current().apply(row, metadata=True).to_topic(totals)
app.run(timeout=5)
