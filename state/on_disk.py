"""Errors of the file system as ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DiskError


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Raises DiskError naming the path and the way out, where the system says OSError."""
    try:
        yield
    except OSError as error:
        advice = "free space on the disk" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "check the directory"
        raise DiskError(f"{path}: {error}; {advice}, then start again") from error
