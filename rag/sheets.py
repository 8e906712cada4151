"""The parts of an Excel workbook: its sheets, shared strings, which styles are dates, and the cells of a sheet. ECMA-376, part 1, 18.

Only cells that are in the file are seen, so a cell in row 1,048,576 costs no more than one in row 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from .office import Attributes, attribute
from .parser import Limits
from .tables import Cells

_DATES_BUILT_IN: Final = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])
_DATE_CODE = re.compile(r"[ymdhs]", re.IGNORECASE)
_NO_CODE = re.compile(r"\"[^\"]*\"|\\.|\[[^\]]*\]")
_COLUMN_MAX: Final = 16_384
_DAYS_MAX: Final = 2_958_465  # 9999-12-31
_BEGIN_1900 = datetime(1899, 12, 30)
_BEGIN_1904 = datetime(1904, 1, 1)


class Workbook:
    """Names and relations of the sheets, in their order."""

    def __init__(self) -> None:
        self.sheets: list[tuple[str, str]] = []
        self.begin = _BEGIN_1900

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "sheet":
            self.sheets.append((attributes.get("name", ""), attribute(attributes, "id")))
        elif name == "workbookPr" and attributes.get("date1904", "0") in {"1", "true"}:
            self.begin = _BEGIN_1904

    def end(self, name: str) -> None:
        """Sheets are only named here."""

    def text(self, data: str) -> None:
        """Nor is there text."""


class DateStyles:
    """Which styles of cells (by number) show a date or a time."""

    def __init__(self) -> None:
        self.dates: list[bool] = []
        self._codes: dict[str, bool] = {}
        self._inside = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "numFmt":
            code = _NO_CODE.sub("", attributes.get("formatCode", "")[:255])
            self._codes[attributes.get("numFmtId", "")] = bool(_DATE_CODE.search(code))
        elif name == "cellXfs":
            self._inside = True
        elif name == "xf" and self._inside:
            number = attributes.get("numFmtId", "0")
            built_in = number.isdecimal() and int(number) in _DATES_BUILT_IN
            self.dates.append(self._codes.get(number, built_in))

    def end(self, name: str) -> None:
        self._inside = self._inside and name != "cellXfs"

    def text(self, data: str) -> None:
        """Styles have none."""


class SharedStrings:
    """Texts that cells name by number; how they are pronounced (`rPh`) is left out."""

    def __init__(self, limits: Limits) -> None:
        self.strings: list[str] = []
        self._limits = limits
        self._parts: list[str] = []
        self._chars = 0
        self._phonetic = False
        self._in_text = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "t":
            self._in_text = not self._phonetic
        elif name == "rPh":
            self._phonetic = True

    def text(self, data: str) -> None:
        if self._in_text:
            self._parts.append(data)

    def end(self, name: str) -> None:
        if name == "t":
            self._in_text = False
        elif name == "rPh":
            self._phonetic = False
        elif name == "si":
            text = self._limits.check_cell("".join(self._parts))
            self._chars += len(text)
            self._limits.check_chars(self._chars)
            self.strings.append(text)
            self._parts = []


class Sheet:
    """Gives each row as it ends: its number, and its cells by column."""

    def __init__(
        self,
        strings: Sequence[str],
        dates: Sequence[bool],
        begin: datetime,
        limits: Limits,
        give: Callable[[int, Cells], None],
    ) -> None:
        self._strings = strings
        self._dates = dates
        self._begin = begin
        self._limits = limits
        self._give = give
        self._number = 0
        self._cells: dict[int, str] = {}
        self._column = 0
        self._cell: Attributes = {}
        self._value: list[str] = []
        self._in_value = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "c":
            self._cell, self._value = attributes, []
        elif name in {"v", "t"}:
            self._in_value = True
        elif name == "row":
            number = attributes.get("r", "")
            self._number = int(number) if number.isdecimal() and len(number) < 9 else self._number + 1
            self._cells, self._column = {}, 0

    def text(self, data: str) -> None:
        if self._in_value:
            self._value.append(data)

    def end(self, name: str) -> None:
        if name in {"v", "t"}:
            self._in_value = False
        elif name == "c":
            self._end_cell()
        elif name == "row":
            self._give(self._number, self._cells)

    def _end_cell(self) -> None:
        raw = self._limits.check_cell("".join(self._value))
        named = column_of(self._cell.get("r", ""))
        column = self._column if named < 0 else named
        self._column = column + 1
        if raw and column < _COLUMN_MAX:
            self._cells[column] = self._shown(raw)

    def _shown(self, raw: str) -> str:
        kind, style = self._cell.get("t", "n"), self._cell.get("s", "0")
        if kind == "s":
            return self._strings[int(raw)] if raw.isdecimal() and int(raw) < len(self._strings) else ""
        if kind == "b":
            return "TRUE" if raw == "1" else "FALSE"
        if kind != "n":
            return raw
        is_date = style.isdecimal() and int(style) < len(self._dates) and self._dates[int(style)]
        return shown_date(raw, self._begin) if is_date else shown_number(raw)


def column_of(reference: str) -> int:
    """0 for "A7", 27 for "AB1"; -1 where there is none, which is the next one."""
    number = 0
    for letter in reference[:4]:
        if not "A" <= letter <= "Z":
            break
        number = number * 26 + ord(letter) - 64
    return number - 1


def shown_number(raw: str) -> str:
    """As a cell shows it: fifteen digits, which hides that 0.1 + 0.2 is stored as 0.30000000000000004."""
    try:
        return f"{float(raw):.15g}" if "." in raw or "e" in raw.lower() else raw
    except ValueError:
        return raw


def shown_date(raw: str, begin: datetime) -> str:
    """ISO 8601: a date, a date and a time, or a time of the day."""
    try:
        days = float(raw)
    except ValueError:
        return raw
    if not 0 <= days <= _DAYS_MAX:
        return raw
    moment = begin + timedelta(seconds=round(days * 86_400))
    if days < 1:
        return moment.strftime("%H:%M:%S")
    return moment.date().isoformat() if days.is_integer() else moment.isoformat(" ")
