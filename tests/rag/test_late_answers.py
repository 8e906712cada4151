"""Answers kept for who had to give up waiting: which, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from millstream.rag.late_answers import LateAnswers


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_answer_is_kept_that_somebody_had_waited_for() -> None:
    late = LateAnswers(2, 100, 1_000, Clock())
    late.came("a", b"nobody gave it up")
    assert (late.knows("a"), late.get("a")) == (False, None)
    late.given_up("a")
    assert (late.knows("a"), late.get("a")) == (True, None)
    late.came("a", b"1")
    late.came("a", b"2")
    assert late.get("a") == b"2"


def test_it_is_forgotten_by_age_by_number_and_by_size() -> None:
    clock = Clock()
    late = LateAnswers(2, 100, 1_000, clock)
    for name in "abc":
        late.given_up(name)
    assert [late.knows(name) for name in "abc"] == [False, True, True]
    late.came("b", b"x" * 60)
    late.came("c", b"x" * 60)
    assert (late.get("b"), late.get("c")) == (None, b"x" * 60)
    clock.now_s = 1.0
    assert late.knows("c")
    clock.now_s = 1.1
    assert not late.knows("c")
    late.given_up("d")
    late.came("d", b"x" * 100)  # what was forgotten takes no room
    assert late.get("d") == b"x" * 100
    late.came("d", b"x" * 101)
    assert not late.knows("d")


Steps = some.lists(
    some.tuples(some.sampled_from(["give up", "come", "wait"]), some.sampled_from("abc"), some.integers(0, 60))
)


@given(Steps)
def test_it_is_as_a_list_of_what_was_given_up(steps: list[tuple[str, str, int]]) -> None:
    """The oracle: all of it in the order it was given up, cut from the front until it fits."""
    clock = Clock()
    late, held = LateAnswers(2, 100, 30_000, clock), list[tuple[str, float, bytes | None]]()
    for what, name, number in steps:
        if what == "wait":
            clock.now_s += number
        elif what == "give up":
            late.given_up(name)
            held = [one for one in held if one[0] != name] + [(name, clock.now_s, None)]
        else:
            late.came(name, b"x" * number)
            held = [(one, since, b"x" * number if one == name else record) for one, since, record in held]
        while held and (
            clock.now_s - held[0][1] > 30 or len(held) > 2 or sum(len(record or b"") for *_, record in held) > 100
        ):
            held.pop(0)
        known = {name: record for name, _, record in held}
        assert {name: late.get(name) for name in "abc" if late.knows(name)} == known
