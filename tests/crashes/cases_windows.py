"""Pipelines with time: windows and sessions, given once or at every change, with and without a repartition in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from millstream.workers.app import App
from millstream.workers.reducers.collect import Collect
from millstream.workers.reducers.count import Count
from millstream.workers.reducers.count_distinct import CountDistinct
from millstream.workers.reducers.first import First
from millstream.workers.reducers.last import Last
from millstream.workers.reducers.max import Max
from millstream.workers.reducers.mean import Mean
from millstream.workers.reducers.min import Min
from millstream.workers.reducers.sum import Sum
from millstream.workers.windows.count import count
from millstream.workers.windows.cumulative import cumulative
from millstream.workers.windows.hopping import hopping
from millstream.workers.windows.session import session
from millstream.workers.windows.sliding import sliding
from millstream.workers.windows.tumbling import tumbling
from tests.crashes.case import Case, Outputs, Row, differences, keyed, out_of_order, rows_of
from tests.crashes.cases_rows import PARTITIONS, SCHEMA, by_partition, clicks
from tests.oracles.windows import REDUCERS, CumulativeOracle, SessionOracle, WindowOracle

ROWS = clicks(30)
INPUT = {"clicks": [keyed(rows, "user") for rows in by_partition(ROWS)]}
BEGINNING = -(1 << 62)
END = 1 << 62


def _source(app: App, **options: Any) -> Any:
    return app.stream(app.topic("clicks", SCHEMA, key="user", event_time="ts", partitions=PARTITIONS, **options))


def _in_order(rows: Sequence[Row], out_of_order_ms: int = 0) -> Iterator[tuple[Row, int]]:
    """Rows of a partition, each with the watermark before it."""
    before = BEGINNING
    for row in rows:
        yield row, before
        before = max(before, row["ts"] - out_of_order_ms)


def _reduced(rows: Sequence[tuple[int, int]], **reducers: str) -> Row:
    return {name: REDUCERS[reducer](rows) for name, reducer in reducers.items()}


# -- every reducer, each window once, rows that come too late told


REDUCED: dict[str, Any] = {
    "n": Count(),
    "total": Sum("id"),
    "mean": Mean("id"),
    "low": Min("id"),
    "high": Max("id"),
    "begin": First("id"),
    "end": Last("id"),
    "different": CountDistinct("id"),
    "ids": Collect("id"),
}


def build_final(app: App) -> None:
    windows = _source(app).window(tumbling("500ms"), by="user", grace="0s", emit="final", late_to="late")
    windows.agg(**REDUCED).to(app.topic("windows", key="user", partitions=PARTITIONS))


def judge_final(outputs: Outputs) -> list[str]:
    expected, late = [], []
    for rows in by_partition(ROWS):
        oracle = WindowOracle(500, 500, 0, 0)
        for row, before in _in_order(rows):
            oracle.row(row["user"], row["ts"], before, row["id"])
        late += oracle.late
        for (user, start), values in oracle.rows.items():
            results = _reduced(values, **{name: reducer.name for name, reducer in REDUCED.items()})
            expected.append({"user": user, "window_start": start, "window_end": start + 500, **results})
    return [
        *differences("windows", expected, rows_of(outputs, "windows")),
        *differences("late", late, [row["id"] for row in rows_of(outputs, "late")]),
    ]


FINAL_CASE = Case("windows, final", build_final, INPUT, judge_final)


# -- each window when it has closed, and before that how far it is; or changes, but not at every commit


def build_early(app: App) -> None:
    _early(app, emit="final", every="400ms")


def build_rare(app: App) -> None:
    """So rare that some commit has what was not given."""
    _early(app, emit="update", every="5s")


def _early(app: App, **options: Any) -> None:
    windows = _source(app, out_of_order="1s").window(tumbling("1500ms"), by="user", grace="0s", **options)
    windows.agg(n=Count(), total=Sum("id")).to(app.topic("windows", key="user", partitions=PARTITIONS))


def judge_early(outputs: Outputs) -> list[str]:
    """Every result is what the first n rows of its window come to, n never goes back, the last is the whole.

    One may come again after a restart, as it was.
    """
    rows: dict[tuple[str, int], list[int]] = {}
    for row in ROWS:
        rows.setdefault((row["user"], row["ts"] // 1500 * 1500), []).append(row["id"])
    said: list[str] = []
    reached = dict.fromkeys(rows, 0)
    for result in rows_of(outputs, "windows"):
        key = (result["user"], result["window_start"])
        if result["n"] < reached[key]:
            said.append(f"windows: back {result}")
        if result["total"] != sum(rows[key][: result["n"]]):
            said.append(f"windows: wrong {result}")
        reached[key] = result["n"]
    return [*said, *(f"windows: lost {key}" for key, ids in rows.items() if reached[key] < len(ids))]


EARLY_CASE = Case("windows, early", build_early, INPUT, judge_early)
RARE_CASE = Case("windows, rare updates", build_rare, INPUT, judge_early)


# -- windows that grow: a row in several, late for some of them


def build_cumulative(app: App) -> None:
    windows = _source(app).window(cumulative("900ms", "300ms"), by="user", grace="0s", emit="final")
    windows.agg(n=Count(), total=Sum("id")).to(app.topic("windows", key="user", partitions=PARTITIONS))


def judge_cumulative(outputs: Outputs) -> list[str]:
    expected = []
    for rows in by_partition(ROWS):
        oracle = CumulativeOracle(900, 300, 0, 0)
        for row, before in _in_order(rows):
            oracle.row(row["user"], row["ts"], before, row["id"])
        expected += [
            {"user": user, "window_start": start, "window_end": end, **_reduced(values, n="count", total="sum")}
            for (user, (start, end)), values in oracle.rows.items()
        ]
    return differences("windows", expected, rows_of(outputs, "windows"))


CUMULATIVE_CASE = Case("windows, cumulative", build_cumulative, INPUT, judge_cumulative)


# -- a change at every commit


def build_update(app: App) -> None:
    windows = _source(app, out_of_order="1s").window(tumbling("1500ms"), by="user", grace="0s")
    windows.agg(n=Count(), total=Sum("id")).to(app.topic("windows", key="user", partitions=PARTITIONS))


def judge_update(outputs: Outputs) -> list[str]:
    """Every update is what the first n rows of its window come to, no n comes twice or goes back, the last is the whole."""
    rows: dict[tuple[str, int], list[int]] = {}
    for row in ROWS:
        rows.setdefault((row["user"], row["ts"] // 1500 * 1500), []).append(row["id"])
    said: list[str] = []
    reached = dict.fromkeys(rows, 0)
    for update in rows_of(outputs, "windows"):
        key = (update["user"], update["window_start"])
        if update["n"] <= reached[key]:
            said.append(f"windows: twice {update}")
        if update["total"] != sum(rows[key][: update["n"]]):
            said.append(f"windows: wrong {update}")
        reached[key] = max(reached[key], update["n"])
    return [*said, *(f"windows: lost {key}" for key, ids in rows.items() if reached[key] < len(ids))]


UPDATE_CASE = Case("windows, update", build_update, INPUT, judge_update)


# -- through a repartition, by another key, and another one behind it


CHAINED_ROWS = clicks(16, step_ms=150)


def build_chained(app: App) -> None:
    by_page = _source(app, out_of_order="300ms").window(hopping("600ms", "300ms"), by="page", grace="0s", emit="final")
    counts = by_page.agg(n=Count(), total=Sum("id"))
    counts.to(app.topic("pages", key="page", partitions=PARTITIONS))
    by_size = counts.window(sliding("1200ms", "600ms"), by="n", grace="0s", emit="final")
    by_size.agg(windows=Count(), sum=Sum("total")).to(app.topic("sizes", partitions=PARTITIONS))


def judge_chained(outputs: Outputs) -> list[str]:
    first = _windows([(row["page"], row["ts"], row["id"]) for row in CHAINED_ROWS], 600, 300)
    pages = [
        {"page": page, "window_start": start, "window_end": start + 600, **_reduced(values, n="count", total="sum")}
        for (page, start), values in first.items()
    ]
    second = _windows([(row["n"], row["window_end"] - 1, row["total"]) for row in pages], 1200, 600)
    sizes = [
        {"n": n, "window_start": start, "window_end": start + 1200, **_reduced(values, windows="count", sum="sum")}
        for (n, start), values in second.items()
    ]
    return [
        *differences("pages", pages, rows_of(outputs, "pages")),
        *differences("sizes", sizes, rows_of(outputs, "sizes")),
    ]


def _windows(rows: Sequence[tuple[Any, int, int]], size: int, hop: int) -> dict[tuple[Any, int], Any]:
    oracle = WindowOracle(size, hop, 0, 0)
    for key, time, value in rows:
        oracle.row(key, time, BEGINNING, value)
    return oracle.rows


CHAINED_INPUT = {"clicks": [keyed(rows, "user") for rows in by_partition(CHAINED_ROWS)]}
CHAINED_CASE = Case("windows, chained", build_chained, CHAINED_INPUT, judge_chained, {"watermark_interval_ms": 100})


# -- so many rows a window, the last of each user perhaps fewer


def build_counted(app: App) -> None:
    windows = _source(app).window(count(3, partial=True), by="user")
    windows.agg(n=Count(), total=Sum("id"), ids=Collect("id")).to(
        app.topic("windows", key="user", partitions=PARTITIONS)
    )


def judge_counted(outputs: Outputs) -> list[str]:
    """By arrival, which is the order of the partition a user's rows are in."""
    expected = []
    for user, ids in _ids_by_user().items():
        for ordinal, first in enumerate(range(0, len(ids), 3)):
            mine = ids[first : first + 3]
            counts = {"n": len(mine), "total": sum(mine), "ids": sorted(mine)}
            expected.append({"user": user, "window_ordinal": ordinal, **counts})
    found = [{**row, "ids": sorted(row["ids"])} for row in rows_of(outputs, "windows")]
    return [*differences("windows", expected, found), *out_of_order(outputs, "windows", "window_ordinal")]


def _ids_by_user() -> dict[str, list[int]]:
    ids: dict[str, list[int]] = {}
    for row in [row for rows in by_partition(ROWS) for row in rows]:
        ids.setdefault(row["user"], []).append(row["id"])
    return ids


COUNTED_CASE = Case("windows, counted", build_counted, INPUT, judge_counted)


# -- sessions


def _sessions(rows: Sequence[Row], out_of_order_ms: int) -> list[Row]:
    given = []
    for part in by_partition(rows):
        oracle = SessionOracle(gap=600, grace=0)
        for row, before in _in_order(part, out_of_order_ms):
            oracle.row(row["user"], row["ts"], before, row["id"])
        oracle.advance(END)
        given += [
            {"user": user, "window_start": start, "window_end": end, **_reduced(rows, n="count", total="sum")}
            for user, start, end, rows in oracle.closed
        ]
    return given


SESSION_ROWS = [row for row in clicks(36) if row["id"] % 8 not in {2, 5}]
SESSION_INPUT = {"clicks": [keyed(rows, "user") for rows in by_partition(SESSION_ROWS)]}


def build_sessions(app: App) -> None:
    sessions = _source(app, out_of_order="300ms").window(session("600ms"), by="user", grace="0s", emit="final")
    sessions.agg(n=Count(), total=Sum("id")).to(app.topic("sessions", key="user", partitions=PARTITIONS))


def judge_sessions(outputs: Outputs) -> list[str]:
    return differences("sessions", _sessions(SESSION_ROWS, 300), rows_of(outputs, "sessions"))


SESSIONS_CASE = Case("sessions, final", build_sessions, SESSION_INPUT, judge_sessions)


def build_session_updates(app: App) -> None:
    sessions = _source(app, out_of_order="300ms").window(session("600ms"), by="user")
    sessions.agg(n=Count(), total=Sum("id")).to(
        app.topic("sessions", key=("user", "window_start"), partitions=PARTITIONS)
    )


def judge_session_updates(outputs: Outputs) -> list[str]:
    """Read as upserts, sessions merged away deleted; no update comes twice in a row."""
    said, latest = [], {}
    for partition in outputs["sessions"]:
        for record in partition:
            if record.key in latest and latest[record.key].value == record.value:
                said.append(f"sessions: twice {record.key!r} {record.value!r}")
            if record.value is None and record.key not in latest:
                said.append(f"sessions: wrong, {record.key!r} is deleted before it was there")
            latest[record.key] = record
    found = [record.row for record in latest.values() if record.value is not None]
    return [*said, *differences("sessions", _sessions(SESSION_ROWS, 300), found)]


MERGED_ROWS: list[Row] = [
    {"id": n, "user": f"user-{user}", "page": "page", "ts": first + within + user * 10}
    for n, (first, within, user) in enumerate(
        (first, within, user) for first in range(0, 9_600, 2_400) for within in (0, 900, 450) for user in range(5)
    )
]
"""Of each user two sessions that become one by a third row."""
MERGED_INPUT = {"clicks": [keyed(rows, "user") for rows in by_partition(MERGED_ROWS)]}


def build_early_sessions(app: App) -> None:
    source = _source(app, out_of_order="600ms")
    sessions = source.window(session("600ms"), by="user", grace="0s", emit="final", every="300ms")
    sessions.agg(n=Count(), total=Sum("id")).to(
        app.topic("sessions", key=("user", "window_start"), partitions=PARTITIONS)
    )


def judge_early_sessions(outputs: Outputs) -> list[str]:
    """Read as upserts. After a restart a result may come again, and a name be taken back that was never given."""
    latest = {record.key: record for partition in outputs["sessions"] for record in partition}
    found = [record.row for record in latest.values() if record.value is not None]
    return differences("sessions", _sessions(MERGED_ROWS, 600), found)


SMALL_POLLS = {"poll_records_max": 2}
EARLY_SESSIONS_CASE = Case(
    "sessions, early", build_early_sessions, MERGED_INPUT, judge_early_sessions, settings=SMALL_POLLS
)
SESSION_UPDATES_CASE = Case("sessions, update", build_session_updates, SESSION_INPUT, judge_session_updates)
CASES = [
    FINAL_CASE,
    CUMULATIVE_CASE,
    EARLY_CASE,
    RARE_CASE,
    UPDATE_CASE,
    CHAINED_CASE,
    COUNTED_CASE,
    SESSIONS_CASE,
    SESSION_UPDATES_CASE,
    EARLY_SESSIONS_CASE,
]
