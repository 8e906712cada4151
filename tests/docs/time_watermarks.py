"""Pictures of watermarks (`docs/time.md`): of partitions and a task, across a repartition topic, behind a window. Drawn from runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from millstream import App, Driver, collect, count, tumbling
from millstream.topics.batch import MIN_TIME, Partition
from millstream.workers.operators.window_aggregate import WindowOperator
from millstream.workers.task import Task
from tests.docs.drawing import LEFT, WIDTH, Drawing, Scale

SCHEMA = {"user": "string", "page": "string", "ts": "timestamp_ms"}
BOTTOM = 330
PLOT_LEFT = 96
PLOT_RIGHT = WIDTH - LEFT

Line = Sequence[tuple[float, float | None]]
"""What a watermark was at each step; None before the first record."""


def task_of(driver: Driver, number: int) -> Task:
    """The driver's tasks in the order of the plan: what stands in them is what the pictures show."""
    task = driver._slots[number].task
    assert task is not None
    return task


def seconds(watermark: int) -> float | None:
    return None if watermark == MIN_TIME else watermark / 1_000


def row(at: float, user: str = "ada", page: str = "/") -> dict[str, Any]:
    return {"user": user, "page": page, "ts": int(at * 1_000)}


@dataclass
class Plot:
    """Event time upwards over what passes to the right."""

    drawing: Drawing
    across: Scale
    up: Scale

    @classmethod
    def of(cls, title: str, told: str, across: tuple[float, float], up: tuple[float, float]) -> Plot:
        drawing = Drawing(title, told, BOTTOM + 36)
        plot = cls(drawing, Scale(*across, PLOT_LEFT, PLOT_RIGHT), Scale(*up, BOTTOM, 68))
        for value in range(int(up[0]), int(up[1]) + 1, 10):
            drawing.line(PLOT_LEFT, plot.up(value), PLOT_RIGHT, plot.up(value), "grid")
            drawing.text(PLOT_LEFT - 8, plot.up(value) + 4, f"{value} s", "soft", "end")
        drawing.text(20, 50, "event time", "soft")
        drawing.line(PLOT_LEFT, BOTTOM, PLOT_RIGHT, BOTTOM, "axis")
        return plot

    def ticks(self, values: Sequence[int], unit: str, name: str) -> None:
        for value in values:
            self.drawing.text(self.across(value), BOTTOM + 17, f"{value}{unit}", "soft", "middle")
        self.drawing.text(PLOT_RIGHT + 26, BOTTOM + 17, name, "soft")

    def line(self, points: Line, kind: str) -> None:
        """Steps: a value holds until the next one."""
        known = [(self.across(x), self.up(y)) for x, y in points if y is not None]
        corners = [corner for a, b in pairwise(known) for corner in (a, (b[0], a[1]))]
        self.drawing.path([*corners, known[-1]], kind)

    def legend(self, names: Mapping[str, str]) -> None:
        """Lines named right of the drawing, one under another, each with a piece of itself."""
        for number, (kind, name) in enumerate(names.items()):
            y = 70 + 24 * number
            self.drawing.line(PLOT_RIGHT + 12, y - 4, PLOT_RIGHT + 40, y - 4, kind)
            self.drawing.text(PLOT_RIGHT + 52, y, name, "soft")


# -- two inputs, one of which falls silent

CLICKS = tuple(range(0, 80, 4))
VIEWS = (0, 3, 6, 9, 12, 15, 18, 66, 70, 74, 78)
"""Wall-clock seconds at which a row comes; its event time is the same, but for the first one after the silence."""
ASLEEP = 40.0
"""Event time of that row."""


def idle() -> Drawing:
    told = "Watermarks of two inputs and of the task that reads both, over the wall clock; one falls silent and is idle after 30 s."
    plot = Plot.of("The task waits for the slower input, and not for one that is idle", told, (0, 80), (0, 80))
    app = App("watermarks")
    inputs = [app.stream(app.topic(name, SCHEMA, key="user", event_time="ts")) for name in ("clicks", "views")]
    merged = inputs[0].merge(inputs[1])
    merged.window(tumbling("10s"), by="user", grace="0s", emit="final", late_to="late").agg(n=count()).to("counts")
    driver, lines, asleep = Driver(app), dict[str, list[tuple[float, float | None]]](), list[int]()
    for now in range(81):
        driver.advance_clock(1_000 if now else 0)
        _arrive(driver, plot, now)
        task = task_of(driver, 0)
        times = {name: task.inputs[Partition(name, 0)].time for name in ("clicks", "views")}
        for name, mark in (*((name, time.watermark) for name, time in times.items()), ("task", task.watermark)):
            lines.setdefault(name, []).append((now, seconds(mark)))
        asleep += [now] if times["views"].idle else []
    shown = plot.drawing
    shown.parts.insert(0, _band(plot.across(asleep[0]), plot.across(asleep[-1] + 1)))
    shown.text(plot.across(asleep[0]) + 6, BOTTOM - 8, "views is idle", "amber-text")
    for name, kind in (("task", "thick"), ("clicks", "blue"), ("views", "amber")):
        plot.line(lines[name], kind)
    plot.legend({"blue": "clicks", "amber": "views", "thick": "the task"})
    _row_signs(plot, 150)
    plot.ticks(range(0, 81, 10), " s", "wall clock")
    return shown


def _arrive(driver: Driver, plot: Plot, now: int) -> None:
    """Rows of this second, and what became of them."""
    for topic, times in (("clicks", CLICKS), ("views", VIEWS)):
        if now in times:
            at = ASLEEP if topic == "views" and now == 66 else float(now)
            known = len(driver.rows("late"))
            driver.send(topic, [row(at)])
            driver.commit()
            sign = plot.drawing.cross if len(driver.rows("late")) > known else plot.drawing.dot
            sign(plot.across(now), plot.up(at))


def _band(left: float, right: float) -> str:
    return f'<rect class="shade" x="{left:g}" y="68" width="{right - left:g}" height="{BOTTOM - 68}"/>'


def _row_signs(plot: Plot, y: float) -> None:
    plot.drawing.dot(PLOT_RIGHT + 26, y - 4)
    plot.drawing.text(PLOT_RIGHT + 52, y, "a row", "soft")
    plot.drawing.cross(PLOT_RIGHT + 26, y + 20)
    plot.drawing.text(PLOT_RIGHT + 52, y + 24, "a row that is late", "soft")


# -- across a repartition topic

FAST = (4, 12, 20, 27, 33, 38, 43, 47, 52)
SLOW = (2, 5, 9, 13, 18, 24, 31, 40, 48)


def repartition() -> Drawing:
    told = "Watermarks of two upstream tasks, told by their control records, and the one behind the topic, the smaller of both."
    plot = Plot.of("Behind a repartition topic: the slowest upstream task decides", told, (0, 9), (0, 60))
    app = App("pages")
    clicks = app.stream(app.topic("clicks", SCHEMA, event_time="ts"))
    clicks.window(tumbling("10s"), by="page", grace="0s", emit="final").agg(n=count()).to("counts")
    driver = Driver(app, partitions={"clicks": 2, "pages.by-page-repartition": 1})
    behind = len(driver._slots) - 1
    (item,) = task_of(driver, behind).inputs.values()
    lines: dict[str, list[tuple[float, float | None]]] = {}
    newest, given = MIN_TIME, 0
    for step, both in enumerate(zip(FAST, SLOW, strict=True), 1):
        for partition, at in enumerate(both):
            driver.send("clicks", [row(at)], partition=partition)
            plot.drawing.dot(plot.across(step), plot.up(at))
        driver.commit()
        newest = max(newest, *(at * 1_000 for at in both))
        assert item.time.writers is not None
        for name, mark in (*item.time.writers.items(), ("behind", item.time.watermark), ("newest", newest)):
            lines.setdefault(name, []).append((step, seconds(mark)))
        results = driver.rows("counts")
        if len(results) > given:
            told_windows = ", ".join(
                f"[{one['window_start'] // 1_000}, {one['window_end'] // 1_000})" for one in results[given:]
            )
            plot.drawing.result(plot.across(step) + 40, plot.up(item.time.watermark / 1_000) + 16, told_windows)
            given = len(results)
    first, second = sorted(item.time.writers or ())
    for name, kind in (("behind", "thick"), (first, "blue"), (second, "amber")):
        plot.line(lines[name], kind)
    plot.legend({"blue": "writer 0, fast", "amber": "writer 1, slow", "thick": "behind the topic"})
    _result_sign(plot, 150, "windows given")
    plot.ticks(range(1, 10), "", "commits")
    return plot.drawing


def _result_sign(plot: Plot, y: float, words: str) -> None:
    plot.drawing.result(PLOT_RIGHT + 26, y - 4, "[ )")
    plot.drawing.text(PLOT_RIGHT + 52, y, words, "soft")


# -- windows of windows

CHAINED = (1, 6, 9, 13, 11, 17, 22, 19, 26, 31, 28, 37, 42, 46, 49, 56, 61)


def chained() -> Drawing:
    told = "The watermark before and behind a window with a grace of 5 s, and the times of its results, none below the lowered one."
    plot = Plot.of("Windows of windows: the watermark goes on lowered by the grace", told, (0, len(CHAINED)), (-10, 70))
    app = App("chained")
    clicks = app.stream(app.topic("clicks", SCHEMA, key="user", event_time="ts", out_of_order="4s"))
    tens = clicks.window(tumbling("10s"), by="user", grace="5s", emit="final", name="tens").agg(n=count())
    tens.to("tens")
    tens.window(tumbling("30s"), by="user", grace="0s", emit="final").agg(tens=collect("n")).to("thirties")
    driver, before, after = Driver(app), list[tuple[float, float | None]](), list[tuple[float, float | None]]()
    seen = {"tens": 0, "thirties": 0}
    for step, at in enumerate(CHAINED, 1):
        driver.send("clicks", [row(at)])
        driver.commit()
        before.append((step, seconds(task_of(driver, 0).watermark)))
        (operator,), _ = driver.read("tens", lambda _, operator: operator)
        assert isinstance(operator, WindowOperator)
        after.append((step, operator.passed_on / 1_000))
        for topic, one in _new(driver, seen):
            _result(plot, step, topic, one)
    plot.line(before, "blue")
    plot.line(after, "amber")
    plot.legend({"blue": "before the window", "amber": "behind it"})
    plot.drawing.half(PLOT_RIGHT + 26, 114)
    plot.drawing.text(PLOT_RIGHT + 52, 118, "a result of 10 s", "soft")
    _result_sign(plot, 142, "given for 30 s")
    plot.ticks(range(1, len(CHAINED) + 1, 2), "", "rows, by arrival")
    return plot.drawing


def _new(driver: Driver, seen: dict[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    for topic, known in seen.items():
        rows = driver.rows(topic)
        seen[topic] = len(rows)
        yield from ((topic, one) for one in rows[known:])


def _result(plot: Plot, step: int, topic: str, one: Mapping[str, Any]) -> None:
    """At its time, which is the end of its window less 1 ms."""
    x, y = plot.across(step), plot.up((one["window_end"] - 1) / 1_000)
    if topic == "tens":
        plot.drawing.half(x, y)
    else:
        plot.drawing.result(x + 40, y + 16, f"[{one['window_start'] // 1_000}, {one['window_end'] // 1_000})")
