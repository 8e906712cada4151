"""What the judges take for a contradiction: tables of sentences for `numbers`, what a model may say for `llm`."""

from __future__ import annotations

import pytest

from millstream.rag.contradiction import Verdict
from millstream.rag.document import Chunk, chunk_ids
from millstream.rag.errors import ModelError, PartError
from millstream.rag.judges.llm import Llm
from millstream.rag.judges.numbers import Numbers
from millstream.rag.llm import Completion
from millstream.rag.parts import part_named
from millstream.rag.prompt import Prompt


def chunk(uri: str, text: str) -> Chunk:
    return Chunk(chunk_ids(uri, [text])[0], uri, text)


async def nobody(prompt: Prompt) -> Completion:
    raise AssertionError("a rule asks no model")


async def found(one: str, other: str, judge: Numbers | None = None) -> Verdict | None:
    """The same from either side."""
    judge = judge or Numbers()
    verdict = await judge.judge(chunk("a", one), chunk("b", other), nobody)
    turned = await judge.judge(chunk("b", other), chunk("a", one), nobody)
    assert (verdict is None) == (turned is None)
    return verdict


CONTRARY = [
    ("The lamp runs on 230 volts.", "The lamp runs on 110 volts."),
    ("The museum is open on Mondays.", "The museum is not open on Mondays."),
    ("The museum opens on Sunday mornings.", "The museum does not open on Sunday mornings."),
    ("Visitors can't take pictures in here.", "Visitors can take pictures in here."),
    ("The contract ends on 3 March 2024.", "The contract ends on 4 March 2024."),
    ("The contract ends in March of that year.", "The contract ends in April of that year."),
    ("The contract ends on 2024-03-01 at noon.", "The contract ends on 01.04.2024 at noon."),
    ("Der Vertrag endet am 3. März um zwölf.", "Der Vertrag endet am 3. April um zwölf."),
    ("Das Museum ist am Montag offen.", "Das Museum ist am Montag nicht offen."),
    ("Le musée est ouvert le lundi matin.", "Le musée n'est pas ouvert le lundi matin."),
    ("La tienda abre a las 9 horas.", "La tienda abre a las 10 horas."),
    ("会议室在三楼，有20个座位。", "会议室在三楼，有30个座位。"),
    ("The lamp weighs 2,500 grams in all.", "The lamp weighs 2,600 grams in all."),
    ("Price of the lamp: 2.50 euros.", "Price of the lamp: 2.55 euros."),
    ("1. The lamp costs 40 euros.", "7. The lamp costs 45 euros."),
    ("Intro.\n\nThe lamp costs 40 euros. It is green.", "The lamp costs 45 euros. Made in Jena."),
]
NOT_CONTRARY = [
    ("The lamp runs on 230 volts.", "The lamp runs on 230 V or volts."),
    ("The lamp weighs 2,500 grams in all.", "The lamp weighs 2500 grams in all."),
    ("The lamp weighs 2\u202f500 grams in all.", "The lamp weighs 2.500 grams in all."),
    ("Price of the lamp: 2.50 euros.", "Price of the lamp: 2,5 euros."),
    ("The contract ends on 2024-03-01 at noon.", "The contract ends on 1.3.2024 at noon."),
    ("The lamp runs on 230 volts.", "The lamp runs on \uff12\uff13\uff10 volts."),
    ("The lamp Alpha weighs 3 kilograms.", "The clock Beta weighs 4 kilograms."),
    ("The museum opens at 9.", "The museum opens at 9 and closes at 17."),
    ("1. The lamp costs 40 euros.", "7. The lamp costs 40 euros."),
    ("Room A has 20 seats. Room B has 30 seats.", "Room B has 30 seats. Room A has 20 seats."),
    ("Trains leave at noon.", "The lamp runs on 110 volts."),
    ("9", "10"),
    ("", ""),
]


@pytest.mark.parametrize(("one", "other"), CONTRARY)
async def test_near_copies_that_differ_in_a_value_or_a_not_contradict(one: str, other: str) -> None:
    verdict = await found(one, other)
    assert verdict is not None
    assert verdict.score >= 0.9


@pytest.mark.parametrize(("one", "other"), NOT_CONTRARY)
async def test_other_ways_to_write_the_same_and_other_things_do_not(one: str, other: str) -> None:
    assert await found(one, other) is None


async def test_what_contradicts_is_shown() -> None:
    verdict = await found("It is green. The lamp costs 40 euros.", "The lamp costs 45 euros.")
    assert verdict == Verdict("The lamp costs 40 euros. / The lamp costs 45 euros.", 1.0)


async def test_how_alike_is_a_setting() -> None:
    pair = ("The lamp Alpha weighs 3 kilograms.", "The lamp Beta weighs 4 kilograms.")
    assert await found(*pair) is None
    assert await found(*pair, Numbers(alike_min=0.75)) == Verdict(" / ".join(pair), 0.8)


async def test_what_is_beyond_the_limits_is_not_compared() -> None:
    pair = ("It is so. The lamp costs 40 euros.", "The lamp costs 45 euros.")
    assert await found(*pair, Numbers(sentences_max=1)) is None
    assert await found(*pair, Numbers(chars_max=12)) is None


@pytest.mark.parametrize(
    "option", [{"alike_min": 0}, {"alike_min": 1.1}, {"words_min": 0}, {"sentences_max": 0}, {"chars_max": 0}]
)
def test_limits_are_checked(option: dict[str, float]) -> None:
    with pytest.raises(PartError, match="must be"):
        part_named("judge", "numbers", option)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("yes: the price is 40 here and 45 there.", Verdict("the price is 40 here and 45 there.")),
        ('"Yes, one says\n 40."', Verdict('one says 40."')),
        ("YES", Verdict("the model gives no reason")),
        ("no", None),
        ("No. They are of two lamps.", None),
        (None, None),
    ],
)
async def test_a_model_says_yes_or_no(said: str | None, expected: Verdict | None) -> None:
    async def ask(prompt: Prompt) -> Completion:
        assert [(one.uri, one.text) for one in prompt.passages] == [("a", "forty"), ("b", "forty-")]
        return Completion(said)

    judge = Llm(chunk_chars_max=6)
    assert await judge.judge(chunk("a", "forty"), chunk("b", "forty-five"), ask) == expected


async def test_a_model_that_chats_is_an_error() -> None:
    async def ask(prompt: Prompt) -> Completion:
        return Completion("Well, yesterday it was different.")

    with pytest.raises(ModelError, match="judge 'llm': expected yes or no, got 'Well, yes"):
        await Llm().judge(chunk("a", "x"), chunk("b", "y"), ask)
