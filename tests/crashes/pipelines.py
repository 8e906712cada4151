"""Every pipeline that is crashed."""

from __future__ import annotations

from tests.crashes import (
    cases_answers,
    cases_changed_chunks,
    cases_contradictions,
    cases_documents,
    cases_groups,
    cases_joins,
    cases_patterns,
    cases_reducers,
    cases_reembed,
    cases_rows,
    cases_shards,
    cases_tables,
    cases_windows,
)

CASES = [
    cases_rows.ROWS_CASE,
    cases_rows.CALLS_CASE,
    *cases_windows.CASES,
    cases_reducers.CASE,
    *cases_joins.CASES,
    *cases_patterns.CASES,
    cases_groups.CASE,
    *cases_tables.CASES,
    cases_documents.CASE,
    cases_reembed.CASE,
    cases_answers.CASE,
    cases_changed_chunks.CASE,
    cases_contradictions.CASE,
    cases_shards.CASE,
]
BY_NAME = {case.name: case for case in CASES}
