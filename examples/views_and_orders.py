"""Purchases joined with the views of the five minutes before them, and counted by page.

millstream run examples/views_and_orders.py
"""

import polars as pl

from millstream import App, count, hopping, sum_


def build() -> App:
    """`millstream run examples/views_and_orders.py:build` takes a function, too."""
    app = App("views-and-orders")
    views = app.topic(
        "views",
        {"user": "string", "page": "string", "ts": "timestamp_ms"},
        key="user",
        event_time="ts",
        out_of_order="2s",
    )
    orders = app.topic(
        "orders",
        {"user": "string", "price": "float", "ts": "timestamp_ms"},
        key="user",
        event_time="ts",
        out_of_order="2s",
    )
    products = app.stream(views).filter(pl.col("page").str.starts_with("/p/"))
    bought = products.interval_join(app.stream(orders), on="user", lower="0s", upper="5m")
    bought.select("user", "page", "price").to("views-with-orders")
    bought.window(hopping("1m", "30s"), by="page").agg(n=count(), revenue=sum_("price")).to("pages")
    return app


app = build()
