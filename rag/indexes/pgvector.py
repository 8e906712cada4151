"""Vectors in PostgreSQL with pgvector 0.8 or later: for corpora that a worker's memory does not hold.

halfvec, cosine, an HNSW index (Malkov and Yashunin, 2016) whose scan goes on until it has what is wanted (`hnsw.iterative_scan`). A
small table, and a filter that leaves few, are scanned exactly: `number = any(...)`; a filter that leaves many is a search for more
than asked, and exact where that was not enough. Upserts and removals are noted in memory, found there at once, and written in batches
(`settle`, `remote_index.py`), each in one transaction with the count of writes by which a restart knows that only the tail is missing.

Each index has a table of its own (`pg_table.py`), since numbers are the view's: two workers share a server and no rows. What stays in
memory is a bit a vector and the newest 4,096 vectors; the view's keywords, metadata and keys stay there too. It needs a folder for its
checkpoints, else the table is filled anew at each start. This does not: share one copy among workers, read what others wrote, tune.
"""

from __future__ import annotations

import asyncio
import math
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ..errors import IndexDamagedError
from ..index import Bitmap, Found, Numbers, Rebuild, Vector, Vectors, none_found, top
from ..pg_session import PgSession
from ..pg_table import Claim, PgTable, TableShape, vector_text
from ..remote_index import Near

if TYPE_CHECKING:
    from psycopg import Connection

_DIMENSIONS_MAX: Final = 4_000
"""Of an index over halfvec."""
_FETCH_MAX: Final = 20_000
_EXPANSION_MAX: Final = 1_000
"""pgvector's own limit of `hnsw.ef_search`."""
_RECENT_MAX: Final = 4_096
_PENDING_MAX: Final = 5_000
"""More than that is written in place: nobody settles."""


class Pgvector:
    """`uri_env`: the environment variable with the server's URI. `table`: what the tables' names begin with. `scan_rows_max`: so many
    rows, or matches of a filter, are scanned exactly.

    Raises PartError where the variable, the extra or pgvector is missing; everything else raises IndexUnavailableError while the
    server cannot be reached.
    """

    def __init__(
        self,
        dimensions: int,
        uri_env: str = "MILLSTREAM_PGVECTOR_URI",
        table: str = "millstream",
        *,
        connectivity: int = 16,
        expansion_add: int = 64,
        expansion_search: int = 100,
        batch_rows: int = 500,
        scan_rows_max: int = 2_000,
        tables_max: int = 64,
        connect_timeout_s: int = 5,
        statement_timeout_ms: int = 30_000,
    ) -> None:
        if not 1 <= dimensions <= _DIMENSIONS_MAX:
            raise ValueError(f"dimensions must be from 1 to {_DIMENSIONS_MAX} (pgvector's halfvec), got {dimensions}")
        if not 1 <= len(table.encode()) <= 48 or set("\0%") & set(table):  # PostgreSQL cuts what is longer than 63
            raise ValueError(f"table must have 1 to 48 bytes, and neither % nor a null character, got {table!r}")
        if min(batch_rows, scan_rows_max, tables_max, connect_timeout_s, statement_timeout_ms, expansion_search) < 1:
            raise ValueError("batch_rows, scan_rows_max, tables_max, timeouts and expansion_search must be at least 1")
        self._dimensions = dimensions
        self._expansion = expansion_search
        self._batch_rows = batch_rows
        self._scan_rows_max = scan_rows_max
        self._table = PgTable(TableShape(table, dimensions, connectivity, expansion_add, tables_max))
        session = partial(
            PgSession, uri_env, connect_timeout_s=connect_timeout_s, statement_timeout_ms=statement_timeout_ms
        )
        self._writer, self._reader = session(opened=self._table.relock), session()
        self.close = weakref.finalize(self, _close, self._writer, self._reader)
        self._taken = np.zeros(256, np.bool_)
        self._count = 0
        self._pending: dict[int, Vector | None] = {}
        """To be written; None: removed."""
        self._in_flight: dict[int, Vector | None] = {}
        self._recent: OrderedDict[int, Vector] = OrderedDict()
        self._watches: list[set[int]] = []
        """Of searches under way: the numbers that changed since they began."""
        self._settling = asyncio.Lock()
        self._has_table = False
        """Committed: the claim alone may be one of a transaction that fails, or that readers do not see yet."""
        self.written_rows = 0
        """Upserts and removals since the start."""

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def wants_rebuild(self) -> bool:
        """PostgreSQL's vacuum does it."""
        return False

    def __len__(self) -> int:
        return self._count

    # Updates

    def upsert(self, numbers: Numbers, vectors: Vectors) -> None:
        if not len(numbers):
            return
        self._grow(int(numbers.max()) + 1)
        self._count += int(len(numbers) - self._taken[numbers].sum())
        self._taken[numbers] = True
        for number, vector in zip(numbers.tolist(), np.asarray(vectors, np.float32), strict=True):
            self._recent[number] = vector
            self._recent.move_to_end(number)
            self._note(number, vector)
        while len(self._recent) > _RECENT_MAX:
            self._recent.popitem(last=False)
        self._write_if_many()

    def remove(self, numbers: Numbers) -> None:
        there = np.unique(numbers[numbers < len(self._taken)])
        there = there[self._taken[there]]
        self._taken[there] = False
        self._count -= len(there)
        for number in there.tolist():
            self._recent.pop(number, None)
            self._note(number, None)
        self._write_if_many()

    def _note(self, number: int, vector: Vector | None) -> None:
        self._pending.pop(number, None)
        self._pending[number] = vector
        for watch in self._watches:
            watch.add(number)

    def _write_if_many(self) -> None:
        if len(self._pending) > _PENDING_MAX and not self._in_flight:
            self._write_all()

    def _grow(self, end: int) -> None:
        if end > len(self._taken):
            taken = np.zeros(max(end, 2 * len(self._taken)), np.bool_)
            taken[: len(self._taken)] = self._taken
            self._taken = taken

    async def settle(self) -> None:
        async with self._settling:
            while self._pending:
                rows, is_written = self._begin_batch(), False
                try:
                    await asyncio.to_thread(self._write, rows)
                    is_written = True
                finally:
                    self._end_batch(rows, is_written=is_written)

    def _write_all(self) -> None:
        while self._pending:
            rows, is_written = self._begin_batch(), False
            try:
                self._write(rows)
                is_written = True
            finally:
                self._end_batch(rows, is_written=is_written)

    def _begin_batch(self) -> Mapping[int, Vector | None]:
        numbers = list(self._pending)[: self._batch_rows]
        self._in_flight = {number: self._pending.pop(number) for number in numbers}
        return self._in_flight

    def _write(self, rows: Mapping[int, Vector | None]) -> None:
        self._writer.run(lambda connection: self._write_rows(connection, rows))
        self._has_table = True

    def _write_rows(self, connection: Connection, rows: Mapping[int, Vector | None]) -> None:
        if not self._has_table:
            self._table.take(connection)
        self._table.write(connection, rows)

    def _end_batch(self, rows: Mapping[int, Vector | None], *, is_written: bool) -> None:
        """What could not be written is noted again, but for what is newer."""
        if is_written:
            self.written_rows += len(rows)
        else:
            self._pending = {**rows, **self._pending}
        self._in_flight = {}

    # Searches that wait elsewhere

    async def find(self, vector: Vector, k: int, allowed: Bitmap | None, also: Numbers) -> Near:
        noted, matching = self._in_flight | self._pending, self._matching(allowed)
        watch: set[int] = set()
        self._watches.append(watch)
        try:
            stored = self._stored_of(also, noted)
            is_filtered = allowed is not None
            look = partial(self._look, vector, k, matching=matching, is_filtered=is_filtered, noted=noted, also=stored)
            rows, cosines = await asyncio.to_thread(look)
        finally:
            self._watches.remove(watch)
        near = self._with_noted(vector, k, rows, noted, allowed)
        found = dict(zip(near.numbers.tolist(), near.similarities.tolist(), strict=True)) | cosines
        found |= {number: float(one @ vector) for number in also.tolist() if (one := noted.get(number)) is not None}
        kept = np.array([number for number in near.numbers.tolist() if number not in watch], np.int64)
        return Near(kept, {number: cosine for number, cosine in found.items() if number not in watch})

    async def fetch(self, numbers: Numbers) -> Vectors:
        noted = self._in_flight | self._pending
        stored = await asyncio.to_thread(self._rows_of, self._stored_of(numbers, noted))
        return self._ordered(numbers, {**stored, **noted})

    # Searches that wait in place

    def search(self, vector: Vector, k: int, allowed: Bitmap | None = None) -> Found:
        if not len(self) or k < 1:
            return none_found()
        self._write_all()
        rows, _ = self._look(
            vector, k, matching=self._matching(allowed), is_filtered=allowed is not None, noted={}, also=[]
        )
        return self._with_noted(vector, k, rows, {}, allowed)

    def similarities(self, vector: Vector, numbers: Numbers) -> Vector:
        return np.asarray(self.vectors(numbers) @ vector, np.float32)

    def vectors(self, numbers: Numbers) -> Vectors:
        recent = {number: self._recent[number] for number in numbers.tolist() if number in self._recent}
        if len(recent) < len(numbers):
            self._write_all()
            recent |= self._rows_of([number for number in numbers.tolist() if number not in recent])
        return self._ordered(numbers, recent)

    # What is asked of the table; in threads

    def _look(
        self,
        vector: Vector,
        k: int,
        *,
        matching: Numbers,
        is_filtered: bool,
        noted: Mapping[int, object],
        also: list[int],
    ) -> tuple[list[tuple[int, float]], dict[int, float]]:
        """The nearest that are stored (more of them than k, for those that are noted anew), and the cosines of `also`."""
        if not self._has_table:
            return [], {}
        text, wanted = vector_text(vector), k + len(noted)

        def work(connection: Connection) -> tuple[list[tuple[int, float]], dict[int, float]]:
            rows = self._nearest(connection, text, wanted, matching, is_filtered)
            return rows, dict(self._exact(connection, text, len(also), also)) if also else {}

        return self._reader.run(work)

    def _nearest(
        self, connection: Connection, text: str, wanted: int, matching: Numbers, is_filtered: bool
    ) -> list[tuple[int, float]]:
        if not len(matching):
            return []
        fetch = math.ceil(4 * wanted * self._count / len(matching)) if is_filtered else wanted
        if len(matching) <= self._scan_rows_max or (is_filtered and fetch > _FETCH_MAX):
            return self._exact(connection, text, wanted, matching.tolist())
        rows = self._by_graph(connection, text, fetch)
        if not is_filtered:
            return rows
        good = set(matching.tolist())
        kept = [row for row in rows if row[0] in good]
        if len(kept) >= wanted or len(kept) == len(good):
            return kept
        return self._exact(connection, text, wanted, matching.tolist())  # what matches is far from the question

    def _by_graph(self, connection: Connection, text: str, wanted: int) -> list[tuple[int, float]]:
        expansion = min(_EXPANSION_MAX, max(self._expansion, wanted))
        connection.execute(
            "select set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', %s, true), "
            "set_config('hnsw.max_scan_tuples', %s, true)",
            [str(expansion), str(2 * _FETCH_MAX)],
        )
        query = self._table.statement(
            "select number, 1 - (vector <=> %s::halfvec) from {table} order by vector <=> %s::halfvec limit %s"
        )
        return [(row[0], float(row[1])) for row in connection.execute(query, [text, text, wanted]).fetchall()]

    def _exact(self, connection: Connection, text: str, wanted: int, numbers: list[int]) -> list[tuple[int, float]]:
        """The sum keeps the planner from the graph, which would look at few and then leave most of them out."""
        query = self._table.statement(
            "select number, 1 - (vector <=> %s::halfvec) from {table} where number = any(%s) "
            "order by (vector <=> %s::halfvec) + 0.0, number limit %s"
        )
        return [(row[0], float(row[1])) for row in connection.execute(query, [text, numbers, text, wanted]).fetchall()]

    def _rows_of(self, numbers: list[int]) -> dict[int, Vector]:
        if not numbers or not self._has_table:
            return {}
        query = self._table.statement("select number, vector::real[] from {table} where number = any(%s)")
        rows = self._reader.run(lambda connection: connection.execute(query, [numbers]).fetchall())
        return {row[0]: np.array(row[1], np.float32) for row in rows}

    # Inside

    def _matching(self, allowed: Bitmap | None) -> Numbers:
        if allowed is None:
            return np.flatnonzero(self._taken)
        end = min(len(self._taken), len(allowed))
        return np.flatnonzero(self._taken[:end] & allowed[:end])

    def _stored_of(self, numbers: Numbers, noted: Mapping[int, object]) -> list[int]:
        return [number for number in numbers.tolist() if number not in noted]

    def _with_noted(
        self,
        vector: Vector,
        k: int,
        rows: Iterable[tuple[int, float]],
        noted: Mapping[int, Vector | None],
        allowed: Bitmap | None,
    ) -> Found:
        """The best of the stored that are as they were, and of those that are noted."""
        best = {number: cosine for number, cosine in rows if number not in noted and self._is_taken(number)}
        for number, one in noted.items():
            if one is not None and (allowed is None or (number < len(allowed) and bool(allowed[number]))):
                best[number] = float(one @ vector)
        return top(np.array(list(best), np.int64), np.array(list(best.values()), np.float32), k)

    def _is_taken(self, number: int) -> bool:
        return number < len(self._taken) and bool(self._taken[number])

    def _ordered(self, numbers: Numbers, found: Mapping[int, Vector | None]) -> Vectors:
        rows = [one for number in numbers.tolist() if (one := found.get(number)) is not None]
        return np.stack(rows) if rows else np.zeros((0, self._dimensions), np.float32)

    def begin_rebuild(self) -> Rebuild:
        return _NothingToDo()

    def finish_rebuild(self, rebuild: Rebuild) -> bool:
        """There is nothing to take over."""
        return True

    def save(self, path: Path) -> None:
        """Which table it is, and what has been written to it; whatever is noted is written before."""
        self._write_all()
        if self._table.claim is None or not self._has_table:
            path.unlink(missing_ok=True)
            return
        aside = path.with_name(path.name + ".new")
        with aside.open("wb") as file:
            file.write(self._table.claim.to_bytes())
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)

    def load(self, path: Path, numbers: Numbers, vectors: Vectors) -> None:
        """From the table; `vectors` are only needed where it is lost, by `upsert`."""
        try:
            claim = Claim.from_bytes(path.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise IndexDamagedError(f"{path}: {error}") from error
        self._writer.run(lambda connection: self._table.take_again(connection, claim, numbers))
        self._has_table = True
        self._grow(int(numbers.max(initial=0)) + 1)
        self._taken[numbers] = True
        self._count = len(numbers)


def _close(*sessions: PgSession) -> None:
    for session in sessions:
        session.close()


class _NothingToDo:
    def run(self) -> None:
        """PostgreSQL looks after its index."""
