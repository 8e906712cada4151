"""What a polars expression of the user's must keep to, so that results do not depend on how records were batched."""

from __future__ import annotations

import polars as pl

from .errors import PlanError


def checked_row_wise(expression: pl.Expr, where: str) -> pl.Expr:
    """The expression, if it gives one value a row from that row alone.

    A sum, a shift or a cumulative maximum would be over whatever happened to be polled together.
    Raises PlanError naming the expression and the way to do it.
    """
    if not _row_wise(expression):
        raise PlanError(
            f"{where}: {expression} looks at more than one row, so its result would depend on how records were batched. "
            "Use .window(...).agg(...) for what spans rows"
        )
    return expression


def _row_wise(expression: pl.Expr) -> bool:
    """Of every part of it: polars 1.32 to 2.1 call `sum(a) > 0` and `a > mean(a)` separable, but not `sum(a)` by itself.

    Literals say nothing (the list of an `IN` is one), and what polars cannot judge without a schema is let pass.
    """
    left = [expression]
    while left:
        part = left.pop()
        try:
            if not part.meta.is_literal(allow_aliasing=True) and not part.meta.is_row_separable():
                return False
        except pl.exceptions.ColumnNotFoundError:
            pass
        left.extend(part.meta.pop())
    return True
