# mypy: ignore-errors
"""The tumbling-window job on Pathway: `python pathway_job.py BOOTSTRAP TOPIC OUTPUT FOLDER EVENTS`. Without persistence."""

import sys
import time

import pathway as pw

bootstrap, topic, output, _, _ = sys.argv[1:]
settings = {"bootstrap.servers": bootstrap, "group.id": f"pathway-{time.time()}", "auto.offset.reset": "earliest"}


class Click(pw.Schema):
    user_id: str
    page: str
    price: float
    ts: int


clicks = pw.io.kafka.read(
    settings, topic=topic, format="json", schema=Click, mode="static", autocommit_duration_ms=1000
)
totals = clicks.windowby(clicks.ts, window=pw.temporal.tumbling(duration=10_000), instance=clicks.user_id).reduce(
    user_id=pw.this._pw_instance,
    window_start=pw.this._pw_window_start,
    n=pw.reducers.count(),
    total=pw.reducers.sum(pw.this.price),
)
pw.io.kafka.write(totals, {"bootstrap.servers": bootstrap}, topic_name=output, format="json")
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
