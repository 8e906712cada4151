"""Durations as people write them: "250ms", "10s", "5m", "2h", "1d", "1h30m"; everywhere inside they are int milliseconds."""

from __future__ import annotations

import re
from datetime import timedelta

from .errors import ConfigurationError

Duration = str | timedelta | int
"""Text with units, a timedelta, or int milliseconds."""

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(-)?({_PART.pattern})+", re.ASCII)


def duration_ms(value: Duration, *, name: str = "duration") -> int:
    """Milliseconds of a duration. Negative ones are written "-5m". `name` stands in the error.

    Raises ConfigurationError for anything else, and for fractions of a millisecond.
    """
    if isinstance(value, bool) or not isinstance(value, str | timedelta | int):
        raise ConfigurationError(f"{name}: expected a duration such as '10s', got {value!r}")
    if isinstance(value, int):
        return value
    if isinstance(value, timedelta):
        return _whole_ms(value / timedelta(milliseconds=1), value, name)
    return _parse(value.strip(), name)


def _parse(text: str, name: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ConfigurationError(
            f"{name}: {text!r} is not a duration; write a number and ms, s, m, h or d, as in '10s' or '1h30m'"
        )
    total = sum(float(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text))
    return _whole_ms(-total if text.startswith("-") else total, text, name)


def _whole_ms(total: float, value: Duration, name: str) -> int:
    if total != int(total):
        raise ConfigurationError(f"{name}: {value!r} is not a whole number of milliseconds")
    return int(total)


def duration_text(value_ms: int) -> str:
    """The shortest exact text: 90_000 -> '1m30s', 0 -> '0s'."""
    if value_ms == 0:
        return "0s"
    sign, rest, parts = ("-" if value_ms < 0 else ""), abs(value_ms), []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNIT_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return sign + "".join(parts)
