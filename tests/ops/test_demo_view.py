"""The demo's view: text for given moments, at the width it is drawn for and at a narrow one."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from millstream.ops.demo.progress import Sample
from millstream.ops.demo.screen import Lines
from millstream.ops.demo.snapshot import Live, Snapshot, Talk, WorkerSeen, live_of
from millstream.ops.demo.story import the_story
from millstream.ops.demo.view import frame, plain
from millstream.topics.batch import Partition

P0 = Partition("shop.orders", 0)


def shown(snapshot: Snapshot, width: int = 100, height: int = 40, *, ascii_only: bool = False) -> list[str]:
    out = StringIO()
    console = Console(file=out, width=width, height=height, color_system=None, legacy_windows=False)
    console.print(frame(snapshot, width, height, ascii_only=ascii_only))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def beginning() -> Snapshot:
    story = the_story(own_kafka=True).begin(1).done("1.8 s, 127.0.0.1:19092").begin(2)
    return Snapshot(story, 2.5, note="two processes", about_s=65)


def middle() -> Snapshot:
    story = the_story(own_kafka=True)
    figures = (
        "1.8 s",
        "0.6 s, 2 and 2 partitions",
        "105 chunks, findable after 0.7 s",
        "2\u202f500/s, 433 ms behind; 38 windows",
    )
    for number, figure in enumerate(figures, 1):
        story = story.begin(number).done(figure)
    live = Live(2_500, 2_480, 332.0, (2_500.0,) * 60, (2_400.0,) * 60, (300.0,) * 59 + (332.0,))
    workers = (WorkerSeen("w1", "ok", "4 partitions"), WorkerSeen("w2", "bad", "killed; its partitions move"))
    talk = (
        Talk("Q", "When does it open?", "strong"),
        Talk("A", "At 9:00. [1]"),
        Talk("", "[1] shops/rotterdam.md", "soft"),
    )
    return Snapshot(story.begin(5), 21.0, live, workers, talk=talk, about_s=65)


def test_the_beginning_tells_what_comes() -> None:
    lines = shown(beginning())
    assert lines[0].startswith(" millstream demo  everything below runs on this machine, now")
    assert lines[0].endswith("2 of about 65 s")
    assert lines[2].startswith(" ✓ 1  Start Apache Kafka on this machine, without Docker")
    assert lines[2].endswith("1.8 s, 127.0.0.1:19092")
    assert lines[3] == " ◓ 2  2 workers join one group and share 4 partitions".replace("◓", lines[3][1])
    assert lines[3][1] in "◐◓◑◒"
    assert lines[8] == " · 7  Recount every result from what was sent"
    assert "   two processes" in lines
    assert "   comes in step 5" in lines


def test_the_middle_shows_figures_workers_and_answers() -> None:
    lines = shown(middle())
    (coming,) = (line for line in lines if line.startswith("   coming in"))
    (behind,) = (line for line in lines if line.startswith("   behind"))
    assert coming.endswith("15 s")
    assert "332 ms" in behind
    assert len(behind.split()[-1]) == 60
    (workers,) = (line for line in lines if line.startswith("   workers"))
    assert workers.split("  ")[-1].strip() == "■ w2 killed; its partitions move"
    assert "● w1 4 partitions" in workers
    assert "   Q  When does it open?" in lines
    assert "      [1] shops/rotterdam.md" in lines


@pytest.mark.parametrize("width", [100, 80, 60])
@pytest.mark.parametrize("moment", [beginning(), middle()], ids=["beginning", "middle"])
def test_it_fits_the_width_and_keeps_the_figures(width: int, moment: Snapshot) -> None:
    lines = shown(moment, width)
    assert max(map(len, lines)) <= width
    for step in moment.story.steps[:3]:
        if step.state == "done":
            assert lines[1 + step.number].endswith(step.figure)


def test_a_long_title_gives_way_to_its_figure() -> None:
    line = shown(middle(), 80)[5]
    assert line.startswith(" ✓ 4  Orders and views")
    assert "…" in line
    assert line.endswith("38 windows")


def test_it_fits_the_height() -> None:
    assert len(shown(middle(), 100, 12)) == 12


def test_a_step_that_failed_says_why() -> None:
    story = middle().story.failed("no answer came")
    lines = shown(replace(middle(), story=story, ending=(("", "no answer came", "within 90 s"),)))
    assert lines[6].startswith(" ✗ 5")
    assert lines[6].endswith("no answer came")
    assert any("What was not right" in line for line in lines)


def test_plain_characters_where_there_are_no_others() -> None:
    text = "\n".join(shown(middle(), ascii_only=True))
    assert text.replace("\u202f", " ").replace("\u2009", " ").isascii()


def test_a_step_as_one_line() -> None:
    step = beginning().story.step(1)
    assert plain(step, 7) == "1/7 done    Start Apache Kafka on this machine, without Docker: 1.8 s, 127.0.0.1:19092"


def test_figures_of_the_moment_come_from_samples() -> None:
    samples = [Sample(at / 4, {P0: at * 100}, {P0: max(0, at * 100 - 50)}, 0.125) for at in range(80)]
    live = live_of(samples)
    assert live is not None
    assert (live.in_per_s, live.done_per_s, live.behind_ms) == (400.0, 400.0, 125.0)
    assert len(live.in_line) == len(live.behind_line) == 60
    assert live_of(samples[:2]) is None


def test_lines_in_plain_characters() -> None:
    out = StringIO()
    lines = Lines(Console(file=out, width=40), ascii_only=True)
    lines.tell(middle().story.step(4))
    lines.tell(Talk("→", "Pontstraße 7"))
    told = out.getvalue().splitlines()
    assert told[0].startswith("4/7 done    Orders and views arrive; sales per product every 10 s: 2 500/s")
    assert told[1] == "      > Pontstra?e 7"
