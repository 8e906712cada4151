"""One connection to PostgreSQL, opened when it is first needed and again when it was lost. What fails says what to do, and no password.

The address is a URI in an environment variable (`postgresql://user:password@host:5432/database`), so that it stands in no file, no
setting and no log. Statements have a timeout; so has connecting. Used from threads, one at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from .errors import IndexUnavailableError, PartError
from .parts import extra

if TYPE_CHECKING:
    from psycopg import Connection, Error

T = TypeVar("T")

_TRIES: Final = 2
"""A connection that was lost is seen when it is next used; a second loss in a row is told."""


class PgSession:
    """`opened`: called with each new connection, before anything else. Raises PartError where the variable or the extra is missing."""

    def __init__(
        self,
        uri_env: str,
        *,
        connect_timeout_s: int,
        statement_timeout_ms: int,
        opened: Callable[[Connection], None] | None = None,
    ) -> None:
        self._psycopg = extra("psycopg", "pgvector")
        self._uri_env = uri_env
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_ms = statement_timeout_ms
        self._opened = opened
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._parameters()

    def __repr__(self) -> str:
        return f"PgSession({self._uri_env!r})"

    def run(self, work: Callable[[Connection], T]) -> T:
        """In one transaction, done again once where the connection was lost meanwhile: `work` must be able to be done twice.

        Raises IndexUnavailableError.
        """
        with self._lock:
            for left in reversed(range(_TRIES)):
                try:
                    connection = self._connected()
                    with connection.transaction():
                        return work(connection)
                except self._psycopg.errors.QueryCanceled:
                    raise IndexUnavailableError(
                        f"PostgreSQL ({self._uri_env}) took longer than {self._statement_timeout_ms} ms; "
                        "raise statement_timeout_ms, or see what it is busy with"
                    ) from None
                except (self._psycopg.OperationalError, self._psycopg.InterfaceError) as error:
                    self._drop()
                    if not left:
                        self._fail(error)
                except self._psycopg.Error as error:
                    self._fail(error)
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _fail(self, error: Error) -> NoReturn:
        if isinstance(error, self._psycopg.errors.UndefinedFile | self._psycopg.errors.FeatureNotSupported):
            raise PartError(
                f"PostgreSQL ({self._uri_env}) has no pgvector; install 0.8 or later on the server"
            ) from None
        said = " ".join(str(error).split()) or type(error).__name__
        password = str(self._parameters().get("password") or "")
        said = said.replace(password, "***") if password else said
        raise IndexUnavailableError(f"PostgreSQL ({self._uri_env}): {said}") from None

    def _parameters(self) -> dict[str, object]:
        uri = os.environ.get(self._uri_env)
        if not uri:
            raise PartError(
                f"the environment variable {self._uri_env} is not set; "
                "give it a URI such as postgresql://user:password@host:5432/database"
            )
        try:
            parameters: dict[str, object] = extra("psycopg.conninfo", "pgvector").conninfo_to_dict(uri)
        except self._psycopg.Error:  # its text holds the URI
            raise PartError(
                f"{self._uri_env} is no PostgreSQL URI; expected one such as postgresql://user:password@host:5432/database"
            ) from None
        return parameters

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection: Connection = self._psycopg.connect(
                os.environ.get(self._uri_env, ""),
                connect_timeout=self._connect_timeout_s,
                options=f"-c statement_timeout={self._statement_timeout_ms}",
                keepalives_idle=self._connect_timeout_s,  # a server that is cut off says nothing: the statement's timeout is its own
                keepalives_interval=self._connect_timeout_s,
                keepalives_count=3,
                tcp_user_timeout=self._statement_timeout_ms,
                application_name="millstream",
            )
            self._connection = connection
            if self._opened is not None:
                with connection.transaction():
                    self._opened(connection)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
