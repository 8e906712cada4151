"""How much each user spent in ten seconds: the window job of the quickstart, in Python.

millstream run examples/shop.py
"""

import polars as pl

from millstream import App, count, run, sum_, tumbling

app = App("shop", guarantee="exactly_once", commit_interval="500ms")

clicks = app.topic(
    "clicks",
    {"user": "string", "page": "string", "price": "float", "ts": "timestamp_ms"},
    key="user",
    event_time="ts",
    out_of_order="2s",
)

(
    app.stream(clicks)
    .filter(pl.col("price") > 0)
    .window(tumbling("10s"), by="user", grace="5s", emit="final")
    .agg(n=count(), total=sum_("price"))
    .to("totals")
)

if __name__ == "__main__":
    run(app)
