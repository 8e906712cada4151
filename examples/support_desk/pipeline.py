"""A support desk: each message gets suggestions and a draft answer from the help articles; what many ask at once is an alert.

millstream run examples/support_desk/pipeline.py

desk.messages + desk.customers -> desk.queries -> desk.retrievals    suggestions: the articles that fit
                                               -> desk.answers       what they say
desk.messages + desk.answers   -> desk.drafts  -> desk.alerts        one article, three customers, ten minutes
"""

import polars as pl

from millstream import App, Topic, count, count_distinct, first, tumbling
from millstream.rag.pipeline import document_pipeline

PARTITIONS = 2
CUSTOMER = {"id": "string", "name": "string", "plan": "string"}
MESSAGE = {"id": "string", "talk": "string", "customer": "string", "text": "string", "ts": "timestamp_ms"}
SOURCE = pl.Struct({"uri": pl.String})
ANSWER = {"id": "string", "answer": "string", "no_answer": "bool", "sources": pl.List(SOURCE)}
CUSTOMERS_MIN = 3

app = App("desk", commit_interval="100ms")


def topic(name: str, schema: dict | None = None, **options: object) -> Topic:
    return app.topic(f"desk.{name}", schema, partitions=PARTITIONS, **options)


customers = app.table(topic("customers", CUSTOMER, key="id", cleanup="compact"))
messages = app.stream(topic("messages", MESSAGE, key="customer", event_time="ts"))
known = messages.join(customers, on="customer")

# A message is a question twice: for what the articles say, understood by what was said before in its conversation (whose id is
# the record's key), and for the articles themselves. Each plan has articles of its own.
question = known.select(
    "id", question=pl.col("text"), filter=pl.format("plan in ['all', '{}']", "plan"), stream=pl.col("talk")
)
queries = topic("queries")
question.to(queries, key="stream")
question.select("id", "question", "filter", strategy=pl.lit("retrieve")).to(queries, key="id")
document_pipeline(app, embedder="hashing", splitter="markdown", llm="quote", k=3, partitions=PARTITIONS)

# An answer has the time of its question: beside its message it is a draft. A model may take its time: messages wait for an hour.
answers = app.stream(topic("answers", ANSWER, key="id"))
drafts = known.interval_join(answers, on="id", lower="0s", upper="1m", grace="1h").select(
    "id",
    "talk",
    "customer",
    "name",
    "plan",
    "text",
    "answer",
    article=pl.col("sources").list.first().struct.field("uri"),
)
drafts.to(topic("drafts", key="id"))

# Questions that the same article answers are the same question.
asked = drafts.filter(pl.col("answer").is_not_null()).window(tumbling("10m"), by="article")
counted = asked.agg(customers=count_distinct("customer"), messages=count(), example=first("text"))
counted.filter(pl.col("customers") >= CUSTOMERS_MIN).to(topic("alerts", key="article"))
