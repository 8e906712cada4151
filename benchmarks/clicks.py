"""The input of the tumbling-window job, and its truth: 93-byte JSON clicks of 10,000 users, one a millisecond.

The same distribution as every figure in `docs/benchmarks.md`: the users are uniform, event times are up to two seconds out of
order, keys are partitioned as the Java client does, record batches are lz4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from millstream.topics.batch import Partition, Records
from millstream.topics.broker import Broker, TopicSpec
from millstream.topics.partitioner import murmur2_partitions

USERS = 10_000
PARTITIONS = 2
BASE_MS = 1_795_543_200_000
OUT_OF_ORDER_MS = 2_000
WINDOW_MS = 10_000
SESSION_GAP_MS = 10_000
TOPIC = "clicks"
SEED = 7
CHUNK_ROWS = 100_000

_PAGES = ["/category/electronic/item/1", "/category/households/item/2", "/category/gardenings/item/3"]


@dataclass(frozen=True)
class Clicks:
    """Columns user_id, page, price, ts in the order of production."""

    frame: pl.DataFrame

    @classmethod
    def generate(cls, count: int) -> Clicks:
        rng = np.random.default_rng(SEED)
        number = np.arange(count)
        frame = pl.DataFrame(
            {
                "user": rng.integers(0, USERS, count),
                "page": rng.integers(0, len(_PAGES), count),
                "price": np.round(rng.random(count) * 100, 2),
                "ts": BASE_MS + number - np.minimum(rng.integers(0, OUT_OF_ORDER_MS, count), number),
            }
        )
        pages = pl.Series(_PAGES)
        return cls(
            frame.select(
                pl.format("user-{}", "user").alias("user_id"),
                pages[frame["page"]].alias("page"),
                pl.col("price"),
                pl.col("ts"),
            )
        )

    async def produce(self, broker: Broker, topic: str = TOPIC) -> None:
        """Creates the topic and writes everything, keyed by user."""
        await produce_columns(broker, topic, self.frame, key="user_id")

    @property
    def events(self) -> int:
        return self.frame.height

    def truth(self) -> pl.DataFrame:
        """n and total by user and window, of all rows: none is late, since times lag by less than the grace."""
        return (
            self.frame.with_columns((pl.col("ts") // WINDOW_MS * WINDOW_MS).alias("window_start"))
            .group_by("user_id", "window_start")
            .agg(pl.len().cast(pl.Int64).alias("n"), pl.col("price").sum().alias("total"))
        )

    def sessions(self) -> pl.DataFrame:
        """n and total by user and session: two clicks of one user are in one session iff less than the gap lies between them."""
        begins = (pl.col("ts").diff() >= SESSION_GAP_MS).fill_null(value=True).over("user_id")
        numbered = self.frame.sort("user_id", "ts").with_columns(begins.cum_sum().over("user_id").alias("session"))
        return numbered.group_by("user_id", "session").agg(
            pl.col("ts").min().alias("window_start"),
            pl.len().cast(pl.Int64).alias("n"),
            pl.col("price").sum().alias("total"),
        )


async def produce_columns(broker: Broker, topic: str, frame: pl.DataFrame, *, key: str) -> None:
    """Creates the topic and writes the rows as JSON, partitioned by the key as the Java client does."""
    await broker.create_topics([TopicSpec(topic, PARTITIONS)])
    producer = broker.producer()
    await producer.start()
    for start in range(0, frame.height, CHUNK_ROWS):
        rows = frame[start : start + CHUNK_ROWS]
        keys = _binary(rows[key])
        values = _binary(rows.select(pl.struct(pl.all()).struct.json_encode().alias("value"))["value"])
        targets = murmur2_partitions(keys, PARTITIONS)
        for index in range(PARTITIONS):
            chosen = pa.array(np.flatnonzero(targets == index), pa.int64())
            await (await producer.send(Partition(topic, index), Records(keys.take(chosen), values.take(chosen))))
    await producer.stop()


def _binary(column: pl.Series) -> pa.LargeBinaryArray:
    array = column.cast(pl.Binary).rechunk().to_arrow()
    assert isinstance(array, pa.LargeBinaryArray)
    return array
