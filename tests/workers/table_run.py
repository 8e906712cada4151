"""Drives an app of tables through upserts, tombstones, commits and crashes, and keeps what should be in its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from millstream import App, Driver
from millstream.workers.driver import Record

Row = dict[str, Any]
Change = tuple[str, str, Row | None]
"""Topic, key, the row (None: a tombstone)."""


class TableRun:
    """`tables`: what was sent so far, by topic; `committed`: as of the last commit."""

    def __init__(self, app: App, partitions: dict[str, int], fetch_records_max: int = 10_000) -> None:
        self.driver = Driver(app, partitions=partitions, fetch_records_max=fetch_records_max)
        self.tables: dict[str, dict[str, Row]] = {}
        self.time = 0

    def change(self, topic: str, key: str, row: Row | None) -> None:
        self.time += 1
        value = None if row is None else orjson.dumps(row)
        self.driver.send_records(topic, [Record(key.encode(), value, self.time)])
        table = self.tables.setdefault(topic, {})
        if row is None:
            table.pop(key, None)
        else:
            table[key] = row

    def play(self, steps: Sequence[Change | str]) -> None:
        """Changes, and "commit", "checkpoint" and "crash" between them. Input survives a crash: it is in its topic."""
        for step in steps:
            match step:
                case "commit":
                    self.driver.commit()
                case "checkpoint":
                    self.driver.checkpoint()
                case "crash":
                    self.driver.crash()
                    self.driver.process()
                case str():
                    raise ValueError(step)
                case topic, key, row:
                    self.change(topic, key, row)
        self.driver.commit()

    def found(self, topic: str) -> dict[Any, Row]:
        return {key.decode(): row for key, row in self.driver.table(topic).items()}

    def ill_timed(self, topic: str) -> list[int]:
        """Timestamps of records that are not the time of any change."""
        return [one.timestamp for one in self.driver.records(topic) if not 1 <= one.timestamp <= self.time]

    def rejected(self) -> float:
        return self.driver.instrument.total("rejected_records")

    def needless_tombstones(self, topic: str) -> list[bytes | None]:
        """Keys of tombstones that took nothing away."""
        there: set[bytes | None] = set()
        needless = []
        for record in self.driver.records(topic):
            if record.value is not None:
                there.add(record.key)
            elif record.key in there:
                there.discard(record.key)
            else:
                needless.append(record.key)
        return needless
