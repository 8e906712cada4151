"""SQL expressions of a pipeline: one row in, one value out, nothing but the row's columns.

polars reads them (`pl.sql_expr`). It knows words that do not belong here: subqueries, the clock, random numbers, windows;
and it takes some names of columns for functions of SQL (`user`, `date`), so a column's name is quoted before it is read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Final

import polars as pl

from ...topics.schema import Schema
from ..setting import did_you_mean
from .tree import Place

SQL_CHARACTERS_MAX: Final = 4_000

_TOKEN: Final = re.compile(
    r"""(?P<string>'(?:[^']|'')*') | (?P<quoted>"(?:[^"]|"")*") | (?P<word>[A-Za-z_]\w*) | (?P<number>\d[\w.]*)
        | (?P<comment>--|/\*) | (?P<other>\S)""",
    re.VERBOSE,
)
_STRUCTURE: Final = frozenset(
    "and or not in is null like ilike rlike regexp between case when then else end as cast try_cast true false escape xor "
    "similar to interval distinct from for div".split()
)
_REFUSED: Final = {
    "select": "a subquery",
    "exists": "a subquery",
    "over": "a window; write it as 'window' of the stream",
}
_CLOCK: Final = frozenset(
    "now current_timestamp current_date current_time localtimestamp localtime random rand".split()
)

FUNCTIONS: Final = frozenset(
    "abs acos acosd asin asind atan atand atan2 atan2d cbrt ceil ceiling cos cosd cot cotd degrees exp floor ln log log10 log1p log2 "
    "mod pi pow power radians round sign sin sind sqrt tan tand div "
    "bit_length char_length character_length concat concat_ws ends_with initcap left length lower ltrim normalize octet_length "
    "regexp_like replace reverse right rtrim split_part starts_with strpos strptime substr substring trim btrim upper "
    "coalesce greatest if ifnull least nullif cast try_cast "
    "date date_part day extract strftime timestamp datetime time "
    "array_contains array_get array_length array_reverse array_to_string array_unique".split()
)
"""What may be called: functions of one row. An aggregate would be over whatever happened to be polled together."""


def sql_expression(sql: str, schema: Schema, place: Place, where: str) -> pl.Expr:
    """The polars expression. `where`: the key it stands at, for the error. Raises PipelineFileError at the place."""
    if len(sql) > SQL_CHARACTERS_MAX:
        place.fail(f"{where}: an expression has at most {SQL_CHARACTERS_MAX} characters")
    columns = schema.names
    written = _quoted(sql, columns, place, where)
    try:
        expression = pl.sql_expr(written)
    except pl.exceptions.PolarsError as error:
        place.fail(f"{where}: {sql!r} is not an SQL expression: {_short(error).replace(written, sql)}")
    _check_columns(expression, columns, place, where)
    try:
        result = schema.empty().select(expression)
    except pl.exceptions.PolarsError as error:
        place.fail(f"{where}: {sql!r}: {_short(error)}")
    if result.width != 1:
        place.fail(f"{where}: {sql!r} gives {result.width} columns, expected one")
    return expression


def _quoted(sql: str, columns: Sequence[str], place: Place, where: str) -> str:
    """The text with names of columns in double quotes; refuses words that have no place in it."""
    tokens = list(_TOKEN.finditer(sql))
    parts, end = [], 0
    for number, token in enumerate(tokens):
        after = tokens[number + 1].group() if number + 1 < len(tokens) else ""
        before = tokens[number - 1].group().lower() if number else ""
        word = token.group()
        if token.lastgroup == "comment" or word == ";":
            place.fail(f"{where}: an expression has no comments and no ';'")
        is_column = token.lastgroup == "word" and word in columns and before not in {"as", "."} and after != "("
        if is_column and word.lower() not in _STRUCTURE and not after.startswith("'"):
            parts.append(f'{sql[end : token.start()]}"{word}"')
            end = token.end()
        elif token.lastgroup == "word":
            _check_word(word.lower(), place, where, called=after == "(")
    return "".join(parts) + sql[end:]


def _check_word(word: str, place: Place, where: str, *, called: bool) -> None:
    if word in _REFUSED:
        place.fail(f"{where}: {word!r} is {_REFUSED[word]}")
    if word in _CLOCK:
        place.fail(f"{where}: {word!r} would give other results in a replay; take a column of the row instead")
    if called and word not in FUNCTIONS | _STRUCTURE:
        if word in {
            "sum",
            "count",
            "avg",
            "mean",
            "min",
            "max",
            "first",
            "last",
            "median",
            "row_number",
            "rank",
            "lag",
            "lead",
        }:
            place.fail(f"{where}: {word}() spans rows; that is the business of 'window' and 'aggregate'")
        place.fail(f"{where}: {word}() is not a function of one row{did_you_mean(word, sorted(FUNCTIONS))}")


def _check_columns(expression: pl.Expr, columns: Sequence[str], place: Place, where: str) -> None:
    for name in expression.meta.root_names():
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            place.fail(f"{where}: no column {name!r}{hint} Columns there are: {', '.join(columns)}")


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
