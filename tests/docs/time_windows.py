"""Pictures of windows, of late rows and of when results are given (`docs/time.md`). The engine makes them: each draws what a run gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from millstream import App, Driver, collect, count, count_window, cumulative, hopping, max_, min_, session, tumbling
from millstream.workers.operators.window_aggregate import WindowOperator
from millstream.workers.stream import Stream
from millstream.workers.window import Window
from tests.docs.drawing import LEFT, WIDTH, Drawing, Scale, lanes

SCHEMA = {"user": "string", "row": "int", "ts": "timestamp_ms"}
RIGHT = WIDTH - 24
LANE = 25


def clicks(app: App, out_of_order: str = "0s") -> Stream:
    return app.stream(app.topic("clicks", SCHEMA, key="user", event_time="ts", out_of_order=out_of_order))


def rows_at(seconds: Iterable[float], first: int = 1) -> list[dict[str, Any]]:
    """Rows of one user, numbered as they arrive."""
    return [{"user": "ada", "row": first + number, "ts": int(at * 1_000)} for number, at in enumerate(seconds)]


def spans(results: Iterable[Mapping[str, Any]]) -> list[tuple[float, float, dict[str, Any]]]:
    """Start and end in seconds, with the result, in order."""
    found = [(row["window_start"] / 1_000, row["window_end"] / 1_000, dict(row)) for row in results]
    return sorted(found, key=lambda span: span[:2])


# -- which windows a row belongs to

EVENTS = (1, 3, 4, 11, 13, 14, 21, 22, 28)

WINDOWS: Sequence[tuple[str, str, Window]] = (
    ("tumbling(10s)", "one after the other", tumbling("10s")),
    ("hopping(10s, 5s)", "a row is in two", hopping("10s", "5s")),
    ("session(4s)", "until 4 s of silence", session("4s")),
    ("cumulative(15s, 5s)", "grow by 5 s up to 15 s", cumulative("15s", "5s")),
)


def kinds() -> Drawing:
    told = "The same nine rows of one key on an axis of event time, and below them the windows of each kind with their counts."
    drawing, scale = Drawing("One key's rows, and the windows they fall into", told, 0), Scale(-5, 35, LEFT, RIGHT)
    _events(drawing, scale, 62)
    y = 92.0
    for name, meaning, window in WINDOWS:
        y = _lane(drawing, scale, y, (name, meaning), [(a, b, str(row["n"])) for a, b, row in spans(_run(window))])
    counted = [
        (row["first"] / 1_000 - 0.3, row["last"] / 1_000 + 0.3, f"no. {row['window_ordinal']}: {row['n']}")
        for row in _run(count_window(4))
    ]
    y = _lane(drawing, scale, y, ("count_window(4)", "every 4 rows, by arrival"), counted)
    drawing.seconds(scale, y, 5)
    drawing.text(20, y + 17, "event time", "soft")
    drawing.height = y + 34
    return drawing


def _run(window: Window) -> list[dict[str, Any]]:
    app = App("windows")
    final: dict[str, Any] = {} if window.name == "count" else {"grace": "0s", "emit": "final"}
    windowed = clicks(app).window(window, by="user", **final)
    windowed.agg(n=count(), first=min_("ts"), last=max_("ts")).to("counts")
    driver = Driver(app)
    driver.send("clicks", rows_at(EVENTS))
    driver.end()
    return driver.rows("counts")


def _events(drawing: Drawing, scale: Scale, y: float) -> None:
    drawing.text(20, y + 4, "rows")
    drawing.line(scale.start, y, scale.end, y, "grid")
    for at in EVENTS:
        drawing.dot(scale(at), y)


def _lane(
    drawing: Drawing, scale: Scale, y: float, words: tuple[str, str], bars: Sequence[tuple[float, float, str]]
) -> float:
    """Bars that overlap under one another; gives where the next lane begins."""
    chosen = lanes([bar[:2] for bar in bars])
    drawing.text(20, y + 13, words[0], "code")
    drawing.text(20, y + 29, words[1], "soft")
    for lane, (start, end, text) in zip(chosen, bars, strict=True):
        drawing.bar(scale(start), scale(end), y + LANE * lane, text)
    return y + max(LANE * (max(chosen) + 1), 36) + 16


# -- sessions that become one


def merge() -> Drawing:
    told = "Three states of the sessions of one key: one session, then two, then a row between them makes one of both."
    drawing, scale = Drawing("A row between two sessions makes them one: session(5s)", told, 0), Scale(0, 22, LEFT, 590)
    app = App("sessions")
    clicks(app, out_of_order="10s").window(session("5s"), by="user").agg(n=count()).to("sessions")
    driver, arrived, y, read = Driver(app), list[float](), 60.0, 0
    drawing.text(614, y - 10, "written at this commit", "soft")
    for batch in ((2, 4), (12,), (8,)):
        driver.send("clicks", rows_at(batch))
        driver.commit()
        y += 20
        drawing.text(20, y + 13, "+ " + ", ".join(f"{at} s" for at in batch))
        for at in (*arrived, *batch):
            drawing.dot(scale(at), y - 8)
        arrived += batch
        for start, end, row in spans(driver.table("sessions").values()):
            drawing.bar(scale(start), scale(end), y + 4, f"n = {row['n']}")
        written = driver.records("sessions")[read:]
        read += len(written)
        for number, record in enumerate(written):
            drawing.text(614, y + 6 + 16 * number, _written(record.key, record.value))
        y += 42
    drawing.seconds(scale, y, 2)
    drawing.text(20, y + 17, "event time", "soft")
    drawing.height = y + 34
    return drawing


def _written(key: bytes | None, value: bytes | None) -> str:
    """A record in words: the key holds the start of the session."""
    _, start = orjson.loads(key or b"[]")
    return f"{start // 1_000} s: {'taken back' if value is None else 'n = ' + str(orjson.loads(value)['n'])}"


# -- rows that come late


@dataclass(frozen=True)
class Late:
    """A run of rows that arrive one after the other."""

    title: str
    told: str
    window: Window
    grace: str
    out_of_order: str
    arrivals: tuple[float, ...]
    high: float
    label_row: int
    """Beside which row the line is named: where there is room."""


LATENESS = Late(
    "What is late: tumbling(10s), out_of_order 2 s, grace 3 s",
    "Rows by event time and order of arrival, the watermark as a line of steps, and which window counted which row.",
    tumbling("10s"),
    "3s",
    "2s",
    (2, 6, 4, 9, 13, 8, 15, 7, 21, 14, 25, 16, 28),
    32,
    10,
)
PARTLY = Late(
    "Late for one window, not for the other: hopping(10s, 5s), out_of_order 2 s",
    "Rows of hopping windows: one is late for the window that has closed and counts in the one that is open.",
    hopping("10s", "5s"),
    "0s",
    "2s",
    (2, 6, 9, 12.5, 7, 11, 17.5, 4, 9.5, 14),
    25,
    9,
)


def lateness(case: Late) -> Drawing:
    drawing, scale = Drawing(case.title, case.told, 0), Scale(-5 if case is PARTLY else 0, case.high, LEFT, 640)
    app = App("late")
    windowed = clicks(app, case.out_of_order).window(
        case.window, by="user", grace=case.grace, emit="final", late_to="late", name="windows"
    )
    windowed.agg(n=count(), rows=collect("row")).to("counts")
    driver, step, top = Driver(app), 22, 66.0
    drawing.text(20, top - 12, "order of arrival", "soft")
    line: list[tuple[float, float]] = []
    given = 0
    for number, at in enumerate(case.arrivals):
        y = top + step * number
        driver.send("clicks", rows_at([at], number + 1))
        driver.commit()
        mark = max(_watermark(driver), scale.low)
        line += [(scale(mark), y + step / 2), (scale(mark), y + step * 1.5)]
        closed = spans(driver.rows("counts")[given:])
        given += len(closed)
        if closed:
            drawing.text(652, y + step / 2 + 4, ", ".join(f"[{a:g}, {b:g}) given" for a, b, _ in closed), "strong")
    bottom = top + step * len(case.arrivals)
    drawing.seconds(scale, bottom + 6, 5, top - 14)
    drawing.text(20, bottom + 23, "event time", "soft")
    drawing.path(line[:-1], "thick")
    drawing.text(line[2 * case.label_row - 3][0] + 8, top + step * (case.label_row - 1) + 4, "watermark", "strong")
    driver.end()
    _rows(drawing, scale, case, driver, top, step)
    drawing.height = _windows(drawing, scale, driver, bottom + 40)
    return drawing


def _watermark(driver: Driver) -> float:
    """Of the step that gathers, in seconds."""
    (operator,), _ = driver.read("windows", lambda _, operator: operator)
    assert isinstance(operator, WindowOperator)
    return operator.watermark / 1_000


def _rows(drawing: Drawing, scale: Scale, case: Late, driver: Driver, top: float, step: int) -> None:
    """Each row by what became of it."""
    counted = [number for row in driver.rows("counts") for number in row["rows"]]
    full = [number for row in _nothing_late(case) for number in row["rows"]]
    for number, at in enumerate(case.arrivals, 1):
        x, y = scale(at), top + step * (number - 1)
        sign = drawing.dot if counted.count(number) == full.count(number) else drawing.half
        (sign if number in counted else drawing.cross)(x, y)
        drawing.text(20, y + 4, f"row {number}, of {at:g} s", "soft")


def _nothing_late(case: Late) -> list[dict[str, Any]]:
    """The windows as they would be if every row had been waited for."""
    app = App("patient")
    windowed = clicks(app, "1h").window(case.window, by="user", grace="0s", emit="final")
    windowed.agg(rows=collect("row")).to("counts")
    driver = Driver(app)
    driver.send("clicks", rows_at(case.arrivals))
    driver.end()
    return driver.rows("counts")


def _windows(drawing: Drawing, scale: Scale, driver: Driver, y: float) -> float:
    found = spans(driver.rows("counts"))
    chosen = lanes([(start, end) for start, end, _ in found])
    drawing.text(20, y + 14, "rows counted")
    for lane, (start, end, row) in zip(chosen, found, strict=True):
        numbers = " ".join(map(str, sorted(row["rows"])))
        drawing.bar(scale(start), scale(min(end, scale.high)), y + LANE * lane, numbers)
    y += LANE * (max(chosen) + 1) + 22
    signs = [(drawing.dot, "counted"), (drawing.cross, "late for all: counted as late, and to late_to")]
    if len(set(chosen)) > 1:
        signs.insert(1, (drawing.half, "late for some of its windows"))
    x = LEFT + 6.0
    for sign, words in signs:
        sign(x, y - 4)
        drawing.text(x + 12, y, words, "soft")
        x += 36 + 6.4 * len(words)
    return y + 18


# -- when results are given

ARRIVALS = (1, 2, 4, 3, 7, 9, 12, 13, 16)


def emission() -> Drawing:
    told = "Rows of one key as they arrive, a commit after each, and at which commits three ways of emission write a result."
    title = "When a result of tumbling(10s) is written: a commit after each row, grace 2 s"
    drawing, scale = Drawing(title, told, 0), Scale(0, len(ARRIVALS) - 1, LEFT + 76, RIGHT - 26)
    drawing.text(20, 66, "row of")
    for number, at in enumerate(ARRIVALS):
        drawing.line(scale(number), 74, scale(number), 232, "grid")
        drawing.text(scale(number), 66, f"{at} s", "", "middle")
    ways: Sequence[tuple[str, str, dict[str, Any]]] = (
        ('emit="update"', "what changed", {"emit": "update"}),
        ('emit="update", every="4s"', "at most every 4 s", {"emit": "update", "every": "4s"}),
        ('emit="final"', "once, when it is over", {"emit": "final"}),
    )
    for place, (name, meaning, how) in enumerate(ways):
        y = 104 + 50 * place
        drawing.text(20, y, name, "code")
        drawing.text(20, y + 16, meaning, "soft")
        for number, results in enumerate(_commits(how)):
            for lane, row in enumerate(results):
                drawing.result(scale(number), y + 4 + 22 * lane, f"{row['window_start'] // 1_000}+: {row['n']}")
    drawing.text(20, 254, "A tag is a record: the start of its window in seconds, and the count.", "soft")
    drawing.height = 272
    return drawing


def _commits(how: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """What each commit wrote."""
    app = App("emission")
    clicks(app).window(tumbling("10s"), by="user", grace="2s", **how).agg(n=count()).to("counts")
    driver, written = Driver(app), list[list[dict[str, Any]]]()
    for number, at in enumerate(ARRIVALS):
        before = len(driver.rows("counts"))
        driver.send("clicks", rows_at([at], number + 1))
        driver.commit()
        written.append(driver.rows("counts")[before:])
    return written
