"""How a moment of the demo looks in a terminal: a pure function of a snapshot. Drawn for 100 x 30, cut to what is there.

Colours are the terminal's own sixteen, and a state is told by its mark first. `plain` gives the same story as single lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group
from rich.text import Text

from .figures import fitted, rate, span, spark
from .snapshot import Level, Live, Snapshot, Talk
from .story import Step

_SOFT: Final = "bright_black"
_NAME: Final = "bold"
_MARKS: Final[dict[Level, tuple[str, str]]] = {
    "ok": ("●", "cyan"),
    "warn": ("▲", "yellow"),
    "bad": ("■", "bold red"),
    "idle": ("○", _SOFT),
}
_STEP_MARKS: Final = {"waiting": ("·", _SOFT), "done": ("✓", "cyan"), "failed": ("✗", "bold red")}
_SPIN: Final = "◐◓◑◒"
_TALK: Final = {"plain": "", "strong": _NAME, "soft": _SOFT, "warn": "yellow"}
_LINE_CHARS_MAX: Final = 60
ASCII: Final = str.maketrans("●▲■○·─→✓✗◐◓◑◒█▁▂▃▄▅▆▇…\u202f\u2009", "o!X-.->vx|/-\\#__--==#~  ")


class Line(Text):
    """A line that is filled from the left, with parts at fixed columns."""

    def at(self, column: int, text: str, style: str = "", *, right: bool = False) -> Line:
        """`right`: the text ends at the column."""
        begin = column - len(text) if right else column
        self.append(" " * max(0, begin - self.cell_len))
        self.append(text, style)
        return self


def frame(snapshot: Snapshot, width: int, height: int, *, ascii_only: bool = False) -> Group:
    """The whole view. Every line fits the width, and there are no more than the height."""
    lines = list(_lines(snapshot, width))[:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        if ascii_only:
            line.plain = line.plain.translate(ASCII)
    return Group(*lines)


def _lines(snapshot: Snapshot, width: int) -> Iterator[Line]:
    yield _head(snapshot, width)
    yield _rule(width)
    for step in snapshot.story.steps:
        yield _step(step, snapshot.elapsed_s, width)
    yield _rule(width, "What happens")
    yield from _happening(snapshot, width)
    yield _rule(width, "Question and answer")
    if not snapshot.talk:
        yield _line().at(3, "comes in step 5", _SOFT)
    for talk in snapshot.talk:
        yield _talk(talk)
    if snapshot.ending:
        yield _rule(width, "Yours now" if snapshot.story.is_told else "What was not right")
    for word, what, for_what in snapshot.ending:
        yield _line().at(3, word, _SOFT).at(12, what).at(0, f"   {for_what}" if for_what else "", _SOFT)


def _line() -> Line:
    return Line(no_wrap=True)


def _rule(width: int, title: str = "") -> Line:
    line = _line()
    line.append(f" {title} " if title else "", _NAME)
    return line.at(0, "─" * (width - 1 - line.cell_len), _SOFT)


def _head(snapshot: Snapshot, width: int) -> Line:
    passed = f"{snapshot.elapsed_s:.0f} of about {snapshot.about_s:.0f} s"
    if snapshot.ending:
        passed = f"{snapshot.elapsed_s:.0f} s"
    line = _line().at(1, "millstream demo", _NAME).at(18, "everything below runs on this machine, now", _SOFT)
    return line.at(width - 1, passed, _SOFT, right=True)


def _step(step: Step, elapsed_s: float, width: int) -> Line:
    running = step.state == "running"
    mark, style = (_SPIN[int(elapsed_s * 4) % 4], "cyan") if running else _STEP_MARKS[step.state]
    line = _line().at(1, mark, style)
    line.at(3, f"{step.number}  {step.title}", _NAME if running else _SOFT if step.state == "waiting" else "")
    figure = _cut(step.figure, width - 8)
    line.truncate(width - 3 - len(figure), overflow="ellipsis")  # the title gives way, the figure is the news
    return line.at(width - 1, figure, "bold red" if step.state == "failed" else "cyan", right=True)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(room - 1, 0)]}…"


def _happening(snapshot: Snapshot, width: int) -> Iterator[Line]:
    if snapshot.live is None:
        yield _line().at(3, snapshot.note, _SOFT)
        yield _line()
        yield _line()
    else:
        yield from _figures(snapshot.live, width)
    row = _line().at(3, "workers", _SOFT)
    room = max(18, (width - 15) // max(len(snapshot.workers), 1))
    for number, worker in enumerate(snapshot.workers):
        mark, style = _MARKS[worker.level]
        row.at(15 + number * room, mark, style).at(0, f" {worker.name} ", _NAME).at(0, worker.word, _SOFT)
    yield row


def _figures(live: Live, width: int) -> Iterator[Line]:
    room = min(_LINE_CHARS_MAX, width - 40)
    most = max((*live.in_line, 1.0)) * 1.6  # working off a backlog goes over the top
    slow = live.behind_ms > 2_000
    rows = (
        ("coming in", rate(live.in_per_s), live.in_line, most, "cyan"),
        ("worked off", rate(live.done_per_s), live.done_line, most, "yellow" if slow else "cyan"),
        (
            "behind",
            span(live.behind_ms),
            live.behind_line,
            max((*live.behind_line, 2_000.0)),
            "yellow" if slow else "cyan",
        ),
    )
    for word, figure, values, top, style in rows:
        line = _line().at(3, word, _SOFT).at(26, figure, _NAME, right=True)
        line.at(29, spark(fitted(values, room), top).rjust(room), style)
        yield line.at(31 + room, "15 s" if word == "coming in" else "", _SOFT)


def _talk(talk: Talk) -> Line:
    return _line().at(3, talk.mark, _SOFT).at(6, talk.text, _TALK[talk.level])


def plain(step: Step, steps: int) -> str:
    """One step as one line, for a log: `5/7 done    Ask ... : the answer changed after 0.8 s`."""
    figure = f": {step.figure}" if step.figure else ""
    return f"{step.number}/{steps} {step.state:<7} {step.title}{figure}"
