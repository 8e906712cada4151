"""With how many documents the model is asked: the rule as tables, and what holds whatever the scores and the replies are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from millstream.rag.adaptive import AdaptiveSettings, Ask, Done, Evidence, Round, log_odds, next_step

PLAIN = AdaptiveSettings()
POSTERIOR = AdaptiveSettings(posterior=True, refuse_above=0.0)
TRUSTING = AdaptiveSettings(posterior=True, refuse_above=2.0)
SURE, UNSURE, HOPELESS = (22.0, 15.0, 9.0), (13.5, 13.0, 9.0), (10.0, 10.0, 9.0)
"""E = 8.6, -.02, -2.3."""


def asked(
    settings: AdaptiveSettings, scores: Sequence[float], replies: Iterator[Round], *, at_once: bool = False
) -> tuple[list[Round], Done]:
    """The whole way: each reply as it comes, its numbers filled in from what was asked."""
    rounds: list[Round] = []
    while isinstance(step := next_step(settings, scores, rounds, at_once=at_once), Ask):
        rounds.append(replace(next(replies), documents=step.documents, forbidden=step.forbid_no))
        assert len(rounds) < 100, "it does not end"
    return rounds, step


def way(
    settings: AdaptiveSettings, scores: Sequence[float], *replies: Round, at_once: bool = False
) -> tuple[list[tuple[int, bool]], bool]:
    rounds, done = asked(settings, scores, iter(replies), at_once=at_once)
    assert len(rounds) == len(replies), "every reply of the row is asked for"
    return [(one.documents, one.forbidden) for one in rounds], done.refused


NO, YES = Round(0, refused=True), Round(0, refused=False)


def no(odds: float, *, can_forbid: bool = True) -> Round:
    return Round(0, refused=True, log_odds=odds, can_forbid=can_forbid)


def yes(odds: float) -> Round:
    return Round(0, refused=False, log_odds=odds, can_forbid=True)


@pytest.mark.parametrize(
    ("settings", "hits", "replies", "documents", "refused"),
    [
        (PLAIN, 5, [YES], [1], False),
        (PLAIN, 5, [NO, YES], [1, 3], False),
        (PLAIN, 5, [NO, NO], [1, 3], True),
        (PLAIN, 2, [NO, NO], [1, 2], True),
        (PLAIN, 1, [NO], [1], True),
        (PLAIN, 0, [], [], True),
        (PLAIN.up_to(10), 50, [NO, NO, NO, YES], [1, 3, 9, 10], False),
        (PLAIN.up_to(10), 9, [NO, NO, NO], [1, 3, 9], True),
        (PLAIN.up_to(1), 9, [NO], [1], True),
        (AdaptiveSettings(2, 2, 8), 9, [NO, NO, NO], [2, 4, 8], True),
        (PLAIN.fixed(5), 9, [NO], [5], True),
        (PLAIN.fixed(5), 3, [YES], [3], False),
    ],
)
def test_the_plain_rule(
    settings: AdaptiveSettings, hits: int, replies: list[Round], documents: list[int], refused: bool
) -> None:
    scores = [20.0 - n for n in range(hits)]
    assert way(settings, scores, *replies) == ([(number, False) for number in documents], refused)


@pytest.mark.parametrize(
    ("scores", "replies", "expected", "refused"),
    [
        (SURE, [yes(-3)], [(1, False)], False),
        (SURE, [no(3), YES], [(1, False), (1, True)], False),  # a false refusal, put right
        (
            SURE,
            [no(3), NO, NO],
            [(1, False), (1, True), (3, False)],
            True,
        ),  # in other words: believed, and asked with more
        (SURE, [no(3, can_forbid=False), yes(0)], [(1, False), (3, False)], False),
        (SURE, [no(9), no(9)], [(1, False), (3, False)], True),  # surer than the evidence
        (SURE, [no(-4), yes(-4)], [(1, False), (3, False)], False),  # in other words
        (UNSURE, [yes(1), yes(-1)], [(1, False), (3, False)], False),  # an answer that is not believed
        (UNSURE, [yes(1), yes(1)], [(1, False), (3, False)], True),
        (HOPELESS, [no(5)], [(1, False)], True),  # and not asked again
        (HOPELESS, [yes(-5)], [(1, False)], False),
        (HOPELESS, [NO, NO], [(1, False), (3, False)], True),  # no log-probabilities: the plain rule
    ],
)
def test_the_posterior_rule(scores: Sequence[float], replies: list[Round], expected: list, refused: bool) -> None:
    assert way(POSTERIOR, scores, *replies) == (expected, refused)


@pytest.mark.parametrize(
    ("scores", "replies", "expected", "refused"),
    [
        (SURE, [yes(3)], [(1, True)], False),  # a false refusal: two calls before
        (SURE, [yes(9), yes(0)], [(1, True), (3, True)], False),  # surer than the evidence
        (SURE, [no(3), yes(3)], [(1, True), (3, True)], False),  # in other words
        (UNSURE, [yes(1), yes(1)], [(1, True), (3, True)], True),
        (UNSURE, [NO, YES], [(1, True), (3, True)], False),  # no log-probabilities after all
        (HOPELESS, [no(5)], [(1, False)], True),  # a refusal would be believed, so it may be said
        (HOPELESS, [yes(-5)], [(1, False)], False),
    ],
)
def test_where_odds_are_told_of_what_is_forbidden_one_call_does(
    scores: Sequence[float], replies: list[Round], expected: list, refused: bool
) -> None:
    assert way(POSTERIOR, scores, *replies, at_once=True) == (expected, refused)


@pytest.mark.parametrize(
    ("scores", "replies", "expected", "refused"),
    [
        (UNSURE, [no(1), YES], [(1, False), (1, True)], False),
        (UNSURE, [yes(1)], [(1, False)], False),
        (UNSURE, [yes(3), yes(3)], [(1, False), (3, False)], True),
        (HOPELESS, [no(-1), YES], [(1, False), (1, True)], False),
        (HOPELESS, [no(0)], [(1, False)], True),
    ],
)
def test_where_most_questions_have_an_answer_fewer_refusals_are_believed(
    scores: Sequence[float], replies: list[Round], expected: list, refused: bool
) -> None:
    assert way(TRUSTING, scores, *replies) == (expected, refused)
    assert AdaptiveSettings(posterior=True) == TRUSTING


@given(
    some.sampled_from([POSTERIOR, TRUSTING]),
    some.lists(some.floats(5, 25), min_size=1, max_size=4),
    some.floats(-14, 14),
    some.booleans(),
    some.booleans(),
)
def test_one_call_says_what_two_would_have_said(
    settings: AdaptiveSettings, scores: list[float], odds: float, answers: bool, in_other_words: bool
) -> None:
    """Of a model that refuses by the sentence where that is likelier than not, or in other words, which forbidding does not change."""
    scores = sorted(scores, reverse=True)
    says_it = odds > 0 and not in_other_words

    def outcomes(*, at_once: bool) -> tuple[int, bool]:
        rounds: list[Round] = []
        while isinstance(step := next_step(settings, scores, rounds, at_once=at_once), Ask):
            refused = in_other_words or (says_it and not step.forbid_no) or not answers
            rounds.append(Round(step.documents, refused, step.forbid_no, odds, can_forbid=True))
        return rounds[-1].documents, step.refused

    assert outcomes(at_once=True) == outcomes(at_once=False)


def test_the_posterior_is_opt_in() -> None:
    assert way(PLAIN, SURE, no(3), no(3)) == ([(1, False), (3, False)], True)
    assert way(PLAIN, SURE, no(3), no(3), at_once=True) == ([(1, False), (3, False)], True)
    assert way(PLAIN, UNSURE, yes(1)) == ([(1, False)], False)


@pytest.mark.parametrize(
    ("scores", "settings", "steps"),
    [
        (HOPELESS, AdaptiveSettings(abstain_below=-2), Done(refused=True)),
        (HOPELESS, AdaptiveSettings(abstain_below=-3), Ask(1)),
        (HOPELESS, AdaptiveSettings(), Ask(1)),
        (SURE, AdaptiveSettings(gap_min=1), Ask(1)),
        (UNSURE, AdaptiveSettings(gap_min=1), Ask(3)),
        ((9.0,), AdaptiveSettings(gap_min=1), Ask(1)),
    ],
)
def test_the_first_step_looks_at_the_scores(
    scores: Sequence[float], settings: AdaptiveSettings, steps: Ask | Done
) -> None:
    assert next_step(settings, scores, []) == steps


SETTINGS = some.builds(
    lambda first, factor, more, **others: AdaptiveSettings(first, factor, first + more, **others),
    some.integers(1, 4),
    some.integers(2, 4),
    some.integers(0, 20),
    gap_min=some.sampled_from([0.0, 0.5]),
    posterior=some.booleans(),
    refuse_above=some.floats(-3, 3),
    expand_above=some.floats(-3, 3),
    abstain_below=some.none() | some.floats(-5, 0),
)
SCORES = some.lists(some.floats(0, 30), max_size=30).map(lambda scores: sorted(scores, reverse=True))
REPLY = some.builds(
    Round, some.just(0), some.booleans(), log_odds=some.none() | some.floats(-14, 14), can_forbid=some.booleans()
)


@given(SETTINGS, SCORES, some.lists(REPLY, min_size=100, max_size=100), some.booleans())
def test_what_holds_whatever_comes(
    settings: AdaptiveSettings, scores: list[float], replies: list[Round], at_once: bool
) -> None:
    """Never the same prompt twice; never more documents than there are or than allowed; fewer never after more; it ends."""
    rounds, done = asked(settings, scores, iter(replies), at_once=at_once)
    prompts = [(one.documents, one.forbidden) for one in rounds]
    assert len(set(prompts)) == len(prompts)
    assert all(1 <= one.documents <= min(len(scores), settings.documents_max) for one in rounds)
    for before, after in pairwise(rounds):
        assert after.documents > before.documents or (after.forbidden and not before.forbidden and before.refused)
    assert len(rounds) <= 2 * (2 + math.log(settings.documents_max, settings.factor))
    if not rounds:
        assert done.refused
    elif not settings.posterior:
        assert done.refused == rounds[-1].refused
        assert all(one.refused for one in rounds[:-1])
    if rounds and rounds[-1].refused:
        assert done.refused, "there is no answer to give"


@pytest.mark.parametrize(
    ("first_token", "share"),
    [
        ({"No": 0.5, "The": 0.5}, 0.5),
        ({" no": 0.2, "No": 0.2, "NO": 0.1, '"No': 0.1, "Not": 0.2, "None": 0.1}, 0.6),
        ({"N": 0.3, "": 0.3, '"': 0.4}, 0.3),
        ({"The": 1.0}, 0.0),
        ({"No": 1.0}, 1.0),
    ],
)
def test_the_odds_of_a_refusal_are_those_of_its_first_token(first_token: dict[str, float], share: float) -> None:
    odds = log_odds({token: math.log(one) for token, one in first_token.items()}, "No information")
    assert odds is not None
    assert 1 / (1 + math.exp(-odds)) == pytest.approx(share, abs=1e-5)


def test_without_log_probabilities_there_are_no_odds() -> None:
    assert log_odds({}, "No information") is None


def test_evidence_is_what_it_says() -> None:
    assert Evidence().of(SURE) == pytest.approx(0.58 * 22 + 0.57 * 7 - 8.13)
    assert Evidence().of((22.0,)) == pytest.approx(0.58 * 22 - 8.13)
    assert Evidence().of(()) == -math.inf


@pytest.mark.parametrize("wrong", [(0, 3, 3), (1, 1, 3), (4, 3, 3)])
def test_settings_that_cannot_be_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="first_documents must be"):
        AdaptiveSettings(*wrong)
