"""Loads what a document message only refers to: an fsspec URL (a file, s3://, gs://, ...), where that is allowed.

Whoever may write to the documents topic may name any URL, so nothing may be loaded unless its beginning is listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .errors import ParseError, ParseLimitError
from .parts import extra


async def load_ref(url: str, prefixes: Sequence[str], bytes_max: int) -> bytes:
    """Raises ParseError (not allowed, not found, not readable), ParseLimitError."""
    if not _is_allowed(url, prefixes):
        raise ParseError(f"ref {url!r} is not allowed; list what its URL begins with in ref_prefixes")
    return await asyncio.to_thread(_load, url, bytes_max)


def _is_allowed(url: str, prefixes: Sequence[str]) -> bool:
    plain = "::" not in url and "%" not in url and ".." not in url.split("/")
    return plain and any(prefix and url.startswith(prefix) for prefix in prefixes)


def _load(url: str, bytes_max: int) -> bytes:
    try:
        with extra("fsspec").open(url, "rb") as file:
            data: bytes = file.read(bytes_max + 1)
    except (OSError, ValueError, ImportError) as error:
        raise ParseError(f"ref {url!r} cannot be read: {error}") from error
    if len(data) > bytes_max:
        raise ParseLimitError(f"ref {url!r} has more than {bytes_max} bytes (content_bytes_max)")
    return data
