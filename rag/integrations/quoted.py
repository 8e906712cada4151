"""Values as our filters write them (`filter.py`)."""

from __future__ import annotations

from ..errors import FilterError


def quoted(value: object) -> str:
    """A literal. Raises FilterError for what is none."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    raise FilterError(f"filter: a value is text, a number, true, false or null, got {type(value).__name__}")


def name(text: str) -> str:
    """A name of the metadata, whatever characters it has. Raises FilterError for one with a backtick."""
    if not text or "`" in text:
        raise FilterError(f"filter: {text!r} cannot be the name of a field")
    return f"`{text}`"
