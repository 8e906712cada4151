# mypy: ignore-errors
"""The tumbling-window job on Faust: `BOOTSTRAP=.. TOPIC=.. OUTPUT=.. FOLDER=.. EVENTS=.. python faust_job.py worker -l warn`."""

import asyncio
import os

import faust

app = faust.App(
    f"faust-{os.environ['OUTPUT']}",
    broker=f"kafka://{os.environ['BOOTSTRAP']}",
    store="memory://",
    datadir=os.environ["FOLDER"],
    web_enabled=False,
    broker_commit_interval=1.0,
    topic_partitions=2,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    table_standby_replicas=0,
    producer_acks=1,
)


class Click(faust.Record, serializer="json"):
    user_id: str
    page: str
    price: float
    ts: int


source = app.topic(os.environ["TOPIC"], key_type=str, key_serializer="raw", value_type=Click)
output = app.topic(os.environ["OUTPUT"], key_type=str, key_serializer="raw", value_serializer="json", partitions=2)
table = app.Table("windows", default=lambda: [0, 0.0], partitions=2)
table = table.tumbling(10_000.0, expires=86_400_000.0, key_index=False).relative_to_field(Click.ts)
seen = 0


@app.agent(source)
async def count(stream):
    global seen  # noqa: PLW0603
    async for click in stream:
        n, total = table[click.user_id].value()
        table[click.user_id] = [n + 1, total + click.price]
        start = click.ts // 10_000 * 10_000
        row = {"user_id": click.user_id, "window_start": start, "n": n + 1, "total": total + click.price}
        await output.send(key=click.user_id, value=row)
        seen += 1
        if seen == int(os.environ["EVENTS"]):
            asyncio.get_event_loop().call_later(3.0, lambda: os._exit(0))


if __name__ == "__main__":
    app.main()
