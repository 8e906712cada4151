"""Documents and questions from a program of yours: `from millstream.client import Client` (or `AsyncClient`).

with Client("help", bootstrap="127.0.0.1:9092") as client:
    client.put("lamp.md", text="The lamp is made by Ada.")
    print(client.ask("Who makes the lamp?", fresh=True).answer)
"""

from __future__ import annotations

from .rag.client import AsyncClient
from .rag.errors import AnswerError
from .rag.sync_client import Client

__all__ = ["AnswerError", "AsyncClient", "Client"]
