"""Joins and groups of tables, from scratch over what is in them: slow and obvious (semantics.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]
Rows = Mapping[Any, Row]
"""By key."""


def table_join(left: Rows, right: Rows, how: str, key: str = "id") -> dict[Any, Row]:
    """Rows `l`, `r` side by side, by key; what is missing is None."""
    keys = {"inner": left.keys() & right.keys(), "left": left.keys(), "outer": left.keys() | right.keys()}[how]
    nothing: Row = {}
    return {
        one: {key: one, "l": left.get(one, nothing).get("l"), "r": right.get(one, nothing).get("r")} for one in keys
    }


def foreign_key_join(left: Rows, right: Rows, how: str) -> dict[Any, Row]:
    """Each left row with the right row that its `ref` names."""
    joined = {}
    for key, row in left.items():
        partner = right.get(row["ref"])
        if partner is not None or how == "left":
            joined[key] = {**row, "r": None if partner is None else partner["r"]}
    return joined


def grouped(rows: Rows, by: str) -> dict[Any, Row]:
    """Count, sum, smallest and the sorted collection of `n` by group; groups without rows are not there."""
    found: dict[Any, list[int]] = {}
    for row in rows.values():
        if row[by] is not None:
            found.setdefault(row[by], []).append(row["n"])
    return {
        group: {by: group, "count": len(values), "total": sum(values), "least": min(values), "all": sorted(values)}
        for group, values in found.items()
    }
