"""A table of vectors in PostgreSQL that belongs to one index, and the row that says to which.

    <table>_owners   name, incarnation, writes            one row a table
    <table>_<n>      number, vector                       number is the view's

Each index takes the first table that no one holds (a session lock), empties it and gives it a new incarnation. Every write adds one to
`writes` in the transaction of its rows, and goes through only while the incarnation is still its own: whoever lost the table
to another (cut off, thought dead) writes nothing into it. An index that comes back names table, incarnation and the writes its
checkpoint knows of; if the row has those or more, everything the checkpoint has is there, and only the tail comes again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from .errors import IndexDamagedError, IndexUnavailableError
from .index import Numbers, Vector
from .parts import extra

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

_LOCK_WAIT_MS: Final = 5_000
"""The server may not yet have seen that the process before this one is gone."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a checkpoint says of its table."""

    table: str
    incarnation: str
    writes: int

    def to_bytes(self) -> bytes:
        return orjson.dumps([self.table, self.incarnation, self.writes])

    @classmethod
    def from_bytes(cls, data: bytes) -> Claim:
        """Raises ValueError."""
        table, incarnation, writes = orjson.loads(data)
        if not (isinstance(table, str) and isinstance(incarnation, str) and isinstance(writes, int)):
            raise ValueError("not what a checkpoint says of its table")
        return cls(table, incarnation, writes)


@dataclass(frozen=True, slots=True)
class TableShape:
    """How tables are made."""

    name: str
    dimensions: int
    connectivity: int
    expansion_add: int
    tables_max: int


class PgTable:
    """Functions of a connection; none of them commits."""

    def __init__(self, shape: TableShape) -> None:
        self._shape = shape
        self._sql: Any = extra("psycopg.sql", "pgvector")
        self.claim: Claim | None = None

    def statement(self, text: str, table: str | None = None, **parts: Any) -> Composed:
        """With {table} and {owners} as quoted names: no name is ever put into a text as it is."""
        chosen = table or (self.claim.table if self.claim else "")
        names = {"table": self._sql.Identifier(chosen), "owners": self._sql.Identifier(f"{self._shape.name}_owners")}
        made: Composed = self._sql.SQL(text).format(**names, **parts)
        return made

    def take(self, connection: Connection) -> None:
        """The first table that no one holds, empty. Raises IndexUnavailableError where all are held."""
        self._prepare(connection)
        for number in range(self._shape.tables_max):
            table = f"{self._shape.name}_{number}"
            if self._lock(connection, table, wait=False):
                self._make(connection, table)
                return
        raise IndexUnavailableError(
            f"all {self._shape.tables_max} tables {self._shape.name}_0, ... are held by other workers; raise tables_max"
        )

    def take_again(self, connection: Connection, claim: Claim, numbers: Numbers) -> None:
        """The table of a checkpoint. Raises IndexDamagedError where it is not what the checkpoint left, or is held."""
        self._prepare(connection)
        if not claim.table.startswith(f"{self._shape.name}_") or not self._lock(connection, claim.table, wait=True):
            raise IndexDamagedError(f"table {claim.table!r} is held by another worker, or of another index")
        found = connection.execute(
            self.statement(
                "select incarnation, writes, dimensions from {owners} where name = %s and exists "
                "(select 1 from pg_tables where tablename = %s and schemaname = any(current_schemas(false)))"
            ),
            [claim.table, claim.table],
        ).fetchone()
        known = found is not None and (found[0], found[2]) == (claim.incarnation, self._shape.dimensions)
        if found is None or not known or found[1] < claim.writes:
            self._unlock(connection, claim.table)
            raise IndexDamagedError(f"table {claim.table!r} is not the one of this checkpoint")
        self.claim = Claim(claim.table, claim.incarnation, found[1])
        self._keep_only(connection, numbers)

    def relock(self, connection: Connection) -> None:
        """After a connection was lost, and the lock with it. Another may have it now: then writes are refused by the row."""
        if self.claim is not None:
            self._lock(connection, self.claim.table, wait=False)

    def write(self, connection: Connection, rows: Mapping[int, Vector | None]) -> None:
        """Upserts, and removals (None). Raises IndexDamagedError where the table is another's by now."""
        assert self.claim is not None
        upserts = {number: vector for number, vector in rows.items() if vector is not None}
        done = connection.execute(
            self.statement(
                "update {owners} set writes = writes + 1 where name = %s and incarnation = %s returning writes"
            ),
            [self.claim.table, self.claim.incarnation],
        ).fetchone()
        if done is None:
            raise IndexDamagedError(
                f"table {self.claim.table!r} belongs to another worker by now; restart this one: it fills a table of its own"
            )
        removals = sorted(rows.keys() - upserts.keys())
        if removals:
            connection.execute(self.statement("delete from {table} where number = any(%s)"), [removals])
        if upserts:
            connection.execute(
                self.statement(
                    "insert into {table} (number, vector) select number, vector::halfvec "
                    "from unnest(%s::bigint[], %s::text[]) as given(number, vector) "
                    "on conflict (number) do update set vector = excluded.vector"
                ),
                [list(upserts), list(map(vector_text, upserts.values()))],
            )
        self.claim = Claim(self.claim.table, self.claim.incarnation, done[0])

    def _prepare(self, connection: Connection) -> None:
        if connection.execute("select 1 from pg_extension where extname = 'vector'").fetchone() is None:
            connection.execute("create extension vector")
        connection.execute(
            self.statement(
                "create table if not exists {owners} (name text primary key, incarnation text not null, "
                "writes bigint not null, dimensions int not null)"
            )
        )

    def _make(self, connection: Connection, table: str) -> None:
        shape, literal = self._shape, self._sql.Literal
        connection.execute(self.statement("drop table if exists {table}", table))
        connection.execute(
            self.statement(
                "create table {table} (number bigint primary key, vector halfvec({size}) not null)",
                table,
                size=literal(shape.dimensions),
            )
        )
        connection.execute(
            self.statement(
                "create index on {table} using hnsw (vector halfvec_cosine_ops) with (m = {m}, ef_construction = {ef})",
                table,
                m=literal(shape.connectivity),
                ef=literal(shape.expansion_add),
            )
        )
        claim = Claim(table, uuid.uuid4().hex, 0)
        connection.execute(
            self.statement(
                "insert into {owners} values (%s, %s, 0, %s) on conflict (name) "
                "do update set incarnation = excluded.incarnation, writes = 0, dimensions = excluded.dimensions"
            ),
            [table, claim.incarnation, shape.dimensions],
        )
        self.claim = claim

    def _keep_only(self, connection: Connection, numbers: Numbers) -> None:
        """What came after the checkpoint comes again, perhaps under other numbers: rows that it does not know go."""
        rows = connection.execute(self.statement("select number from {table}")).fetchall()
        stored = np.array([row[0] for row in rows], np.int64)
        missing = np.setdiff1d(numbers, stored)
        if len(missing):
            claim, self.claim = self.claim, None
            raise IndexDamagedError(
                f"table {claim.table if claim else ''!r} lacks {len(missing)} vectors of the checkpoint"
            )
        extra_rows = np.setdiff1d(stored, numbers).tolist()
        if extra_rows:
            connection.execute(self.statement("delete from {table} where number = any(%s)"), [extra_rows])

    def _lock(self, connection: Connection, table: str, *, wait: bool) -> bool:
        """Held by the connection until it ends."""
        key = f"millstream {table}"
        errors = extra("psycopg.errors", "pgvector")
        if not wait:
            held = connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", [key]).fetchone()
            return bool(held and held[0])
        try:
            with connection.transaction():
                connection.execute(f"set local lock_timeout = {_LOCK_WAIT_MS}")
                connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [key])
        except errors.LockNotAvailable:
            return False
        return True

    def _unlock(self, connection: Connection, table: str) -> None:
        connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", [f"millstream {table}"])


def vector_text(vector: Vector | Sequence[float]) -> str:
    """As pgvector reads it."""
    return orjson.dumps(vector.tolist() if isinstance(vector, np.ndarray) else vector).decode()
