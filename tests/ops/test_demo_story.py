"""The demo's story as data, its figures, and how far behind the group is."""

from __future__ import annotations

import pytest

from millstream.ops.demo.answers import DELETED, EDITED, cost_of, is_changed
from millstream.ops.demo.asking import Answered
from millstream.ops.demo.errors import Differs
from millstream.ops.demo.figures import count, fitted, rate, span, spark, whole
from millstream.ops.demo.processes import shards_of
from millstream.ops.demo.progress import Sample, Timeline, moved_again_at, rates
from millstream.ops.demo.story import Story, the_story
from millstream.topics.batch import Partition
from millstream.workers.errors import InvariantError

P0, P1 = Partition("shop.orders", 0), Partition("shop.orders", 1)


def told(number: int) -> Story:
    """With so many steps done."""
    story = the_story(own_kafka=True)
    for step in range(1, number + 1):
        story = story.begin(step).done(f"figure {step}")
    return story


def test_a_story_is_told_when_every_step_is_done() -> None:
    assert [step.state for step in told(3).steps] == ["done"] * 3 + ["waiting"] * 4
    assert (told(6).is_told, told(7).is_told) == (False, True)


def test_a_step_that_failed_ends_it() -> None:
    story = told(2).begin(3, "Read 40 documents").failed("not indexed")
    assert (story.step(3).state, story.step(3).title, story.step(3).figure) == (
        "failed",
        "Read 40 documents",
        "not indexed",
    )
    with pytest.raises(InvariantError, match="step 4 cannot begin"):
        story.begin(4)


@pytest.mark.parametrize("number", [2, 1])
def test_steps_come_in_their_order_and_once(number: int) -> None:
    story = the_story(own_kafka=True) if number == 2 else told(1)
    with pytest.raises(InvariantError, match=f"step {number} cannot begin"):
        story.begin(number)


def test_nothing_is_done_where_nothing_runs() -> None:
    with pytest.raises(InvariantError, match="no step is running"):
        told(1).done("1.8 s")
    assert told(1).failed("late") == told(1)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (span(332.4), "332 ms"),
        (span(1_840), "1.8 s"),
        (span(21_300), "21 s"),
        (span(180_000), "3 min"),
        (count(9_999), "9\u2009999"),
        (count(46_512), "46.5\u2009k"),
        (count(1_240_000), "1.24\u2009M"),
        (whole(412_806), "412\u2009806"),
        (rate(2_500.4), "2\u2009500/s"),
        (spark([0, 5, 10, 99], 10), "▁▄▇▇"),
        (spark([1.0], 0), "▁"),
    ],
)
def test_figures_as_people_read_them(given: str, shown: str) -> None:
    assert given.replace("\u2009", " ") == shown.replace("\u2009", " ")


def test_a_line_is_fitted_by_its_largest_values() -> None:
    assert fitted([1, 9, 2, 3, 4], 3) == [9, 3, 4]
    assert fitted([], 3) == []


# -- progress


def timeline() -> Timeline:
    line = Timeline()
    line.note(P0, 1.0, 100)
    line.note(P0, 2.0, 200)
    line.note(P1, 2.5, 50)
    return line


@pytest.mark.parametrize(
    ("committed", "behind_s"),
    [
        ({P0: 200, P1: 50}, 0.0),
        ({P0: 199, P1: 50}, 8.0),  # one record of those sent at 2.0
        ({P0: 99, P1: 50}, 9.0),
        ({P0: 200}, 7.5),
        ({}, 9.0),
    ],
)
def test_behind_is_the_age_of_the_oldest_record_not_worked_off(committed: dict, behind_s: float) -> None:
    assert timeline().behind_s(committed, 10.0) == behind_s


def sample(at_s: float, sent: int, done: int, other: int = 0) -> Sample:
    return Sample(at_s, {P0: sent, P1: 0}, {P0: done, P1: other}, 0.0)


def test_rates_are_of_the_last_seconds() -> None:
    samples = [sample(0.0, 0, 0), sample(1.0, 100, 50), sample(2.0, 300, 150), sample(3.0, 500, 500)]
    assert rates(samples, 2.0) == (200.0, 225.0)
    assert rates(samples[:1]) == (0.0, 0.0)


def test_a_partition_has_moved_when_it_is_further_than_it_was() -> None:
    samples = [sample(1.0, 9, 3, 4), sample(2.0, 9, 3, 4), sample(3.0, 9, 5, 4), sample(4.0, 9, 5, 5)]
    assert moved_again_at(samples, [P0], 1.5) == 3.0
    assert moved_again_at(samples, [P0, P1], 1.5) == 4.0
    assert moved_again_at(samples, [P0], 3.5) is None


def test_shards_given_up_are_not_counted() -> None:
    shards = [{"number": 2, "phase": "closed"}, {"number": 0, "phase": "committing"}]
    assert shards_of({"ready": True, "shards": shards}) == [0]
    assert shards_of({"ready": False, "shards": shards}) == shards_of(None) == []


# -- answers


def answer(text: str, *sources: str) -> Answered:
    return Answered(text, sources, "quote", 5.0, 9)


def test_an_edited_document_must_be_cited_with_its_new_text_alone() -> None:
    assert is_changed(EDITED, answer("On Saturday it opens at 11:00. [1]", "help/x.md", EDITED.uri))
    assert not is_changed(EDITED, answer("It opens at 9:00. [1] It opens at 11:00. [1]", EDITED.uri))
    assert not is_changed(EDITED, answer("It opens at 11:00. [1]", "shops/ghent.md"))


def test_a_deleted_document_must_be_gone_from_text_and_sources() -> None:
    assert is_changed(DELETED, answer("", "help/x.md"))
    assert not is_changed(DELETED, answer("", DELETED.uri))
    assert not is_changed(DELETED, answer("FROST10 [1]", "help/x.md"))


def test_only_the_changed_chunk_may_be_embedded() -> None:
    status = {"state": "indexed", "chunks": 3, "embedded": 1, "reused": 2}
    assert cost_of(status) == "1 of 3 chunks embedded anew"
    for other in (None, status | {"embedded": 3, "reused": 0}, status | {"state": "failed"}):
        with pytest.raises(Differs, match="one chunk of"):
            cost_of(other)
