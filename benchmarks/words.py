"""The input of the word count, and its truth: 76-byte JSON with one of 5,000 words of 64 letters, uniform, keyed by the word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from millstream.topics.broker import Broker

from .clicks import SEED, produce_columns

WORDS = 5_000
LETTERS = 64
TOPIC = "words"


@dataclass(frozen=True)
class Words:
    """One column, word, in the order of production."""

    frame: pl.DataFrame

    @classmethod
    def generate(cls, count: int) -> Words:
        rng = np.random.default_rng(SEED)
        letters = rng.integers(ord("a"), ord("z") + 1, (WORDS, LETTERS), np.uint8)
        words = pl.Series([bytes(row).decode() for row in letters])
        return cls(pl.DataFrame({"word": words[rng.integers(0, WORDS, count)]}))

    async def produce(self, broker: Broker) -> None:
        await produce_columns(broker, TOPIC, self.frame, key="word")

    @property
    def events(self) -> int:
        return self.frame.height

    def check(self, values: list[bytes | None]) -> str:
        """The last count of each word, and how many updates there were. Raises AssertionError."""
        rows = pl.read_ndjson(b"\n".join(value for value in values if value is not None))
        last = rows.group_by("word", maintain_order=True).last()
        truth = self.frame.group_by("word").agg(pl.len().cast(pl.Int64).alias("n"))
        assert last.sort("word").equals(truth.sort("word")), "word counts are wrong"
        return f"{truth.height:,} counts right, {rows.height:,} updates"
