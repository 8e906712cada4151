"""Names of steps, stores and internal topics.

A step's name is its recovery key: a store and its changelog are found again by it. Steps that were not named are numbered a
kind (`filter-1`, `filter-2`), so that adding a filter does not rename a window. Internal topics follow the pattern of Kafka
Streams: `<app>-<store>-changelog`, `<app>-<name>-repartition`; what the stores are is kept in `<app>-fingerprint`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import PlanError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def checked(name: str, what: str) -> str:
    """The name, if it can be part of a topic's name and of a folder's."""
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise PlanError(f"{what} {name!r}: a name has 1 to 100 characters of a-z, A-Z, 0-9, '.', '_' and '-'")
    return name


def free_name(kind: str, taken: Mapping[str, object]) -> str:
    """`kind-1`, or the first number that is free."""
    number = 1
    while f"{kind}-{number}" in taken:
        number += 1
    return f"{kind}-{number}"


def changelog_topic(app: str, store: str) -> str:
    return f"{app}-{store}-changelog"


def repartition_topic(app: str, name: str) -> str:
    return f"{app}-{name}-repartition"


def fingerprint_topic(app: str) -> str:
    return f"{app}-fingerprint"
