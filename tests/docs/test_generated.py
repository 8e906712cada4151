"""The tables of the reference say what the code says."""

from __future__ import annotations

import pytest

from tests.docs.generated import REFERENCE, TABLES, with_table


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_that_of_the_code(name: str) -> None:
    page = (REFERENCE / f"{name}.md").read_text()
    assert page == with_table(page, name), "run: python -m tests.docs.generated"
