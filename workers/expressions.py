"""What a polars expression of the user's must keep to, so that results do not depend on how records were batched."""

from __future__ import annotations

import polars as pl

from .errors import PlanError


def checked_row_wise(expression: pl.Expr, where: str) -> pl.Expr:
    """The expression, if it gives one value a row from that row alone.

    A sum, a shift or a cumulative maximum would be over whatever happened to be polled together.
    Raises PlanError naming the expression and the way to do it.
    """
    if not expression.meta.is_row_separable():
        raise PlanError(
            f"{where}: {expression} looks at more than one row, so its result would depend on how records were batched. "
            "Use .window(...).agg(...) for what spans rows"
        )
    return expression
