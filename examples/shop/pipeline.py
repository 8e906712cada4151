"""A web shop: live sales, what was looked at before it was bought, and questions answered from the shop's documents.

millstream demo                                  shows it at work
millstream run examples/shop/pipeline.py         a worker of your own
"""

from millstream import App, count, sum_, tumbling
from millstream.rag.pipeline import document_pipeline

ORDER = {"order": "int", "user": "string", "product": "string", "cents": "int", "ts": "timestamp_ms"}
VIEW = {"view": "int", "user": "string", "product": "string", "ts": "timestamp_ms"}
PARTITIONS = 4


def shop(name: str = "shop", embedder: str = "local") -> App:
    """`name`: of the consumer group, and the prefix of every topic. `embedder`: "hashing" needs no model."""
    app = App(name, guarantee="exactly_once", commit_interval="250ms")
    shape = {"key": "user", "event_time": "ts", "out_of_order": "1s", "partitions": PARTITIONS}
    orders = app.stream(app.topic(f"{name}.orders", ORDER, **shape))
    views = app.stream(app.topic(f"{name}.views", VIEW, **shape))

    # Sales per product every ten seconds: each window once, when no order of it can come any more.
    per_product = orders.window(tumbling("10s"), by="product", grace="0s", emit="final")
    sales = per_product.agg(n=count(), cents=sum_("cents"))
    sales.to(app.topic(f"{name}.sales", key="product", partitions=PARTITIONS))

    # Each order with the views of the same product by the same user in the five minutes before it.
    bought = views.interval_join(orders, on=("user", "product"), lower="0s", upper="5m")
    bought.to(app.topic(f"{name}.bought", key="user", partitions=PARTITIONS))

    # Documents become chunks and vectors, questions become answers with their sources.
    document_pipeline(app, embedder=embedder, splitter="markdown", llm="quote", k=4, partitions=PARTITIONS)
    return app


app = shop()
