r"""No model: nearly the same sentence in both texts, with other numbers or dates in it, or with a "not" in one of them.

    sentence -> words (rough stems), values (numbers, parts of dates, months, days of the week), negated or not
    two sentences are of one thing     2 * |shared words| / (|words| + |words|) >= alike_min     (Dice, 1945)
    they contradict each other         each has a value the other lacks, or one alone is negated while their values are equal
    unless                             one of the two stands as it is in the other text as well: then they are of two things

    1,000 = 1.000 = 1000    2.50 = 2,5    2024-03-01 = 1.3.2024    230V = 230 V    full width = half width, any script's digits

It knows nothing of meaning: "10 km" against "6 miles" is not seen, "1 km" against "1,000 m" is seen wrongly, and sentences that
are alike but for the name of the thing they are of (with `alike_min` below about 0.85) are taken for one. Words of negation and the
names of months and days are known in English, German, French, Spanish, Italian, Portuguese and Dutch; numbers in all languages
that put something between sentences. Chinese and Japanese are compared character by character, without negation but for a few.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..contradiction import Verdict
from ..document import Chunk
from ..rewriter import AskModel

_LEAD: Final = re.compile(r"^(?:[#>|*•-]+|\d{1,3}[.)])\s+")
_TOKEN: Final = re.compile(
    r"\d+(?:[.,:/'’-]\d+)*"
    r"|[\u3040-\u30ff\u3400-\u9fff]"
    r"|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+(?:['’][^\W\d_]+)*"
)
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:([.,'’])\d{3})(?:\1\d{3})*")
_DECIMAL: Final = re.compile(r"(\d+)[.,](\d+)")
_THIN_SPACE: Final = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
"""Between thousands."""
_DIGITS_MAX: Final = 40
_SHOWN_CHARS_MAX: Final = 300

_NOT: Final = frozenset(
    "not no never none nothing nobody neither nor without cannot "
    "nicht kein keine keinen keinem keiner keines nie niemals nichts niemand ohne "
    "ne pas jamais aucun aucune rien sans nunca jamás ningún ninguna nada sin "
    "non mai nessun nessuna senza não nunca nenhum nenhuma sem niet geen nooit zonder 不 没 沒 未 無 无 非".split()
)
_HELPERS: Final = frozenset({"do", "does", "did"})
"""Stand beside a "not" and nowhere else."""
_SHORT: Final = {"can't": "can", "won't": "will", "shan't": "shall", "cannot": "can"}
_NAMED: Final = frozenset(
    "january february march april may june july august september october november december "
    "monday tuesday wednesday thursday friday saturday sunday "
    "januar jänner februar märz mai juni juli oktober dezember "
    "montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag "
    "janvier février mars avril juin juillet août septembre octobre novembre décembre "
    "lundi mardi mercredi jeudi vendredi samedi dimanche "
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre "
    "lunes martes miércoles jueves viernes sábado domingo "
    "gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre "
    "lunedì martedì mercoledì giovedì venerdì sabato domenica "
    "janeiro fevereiro março maio junho julho setembro outubro novembro dezembro "
    "januari februari maart mei augustus maandag dinsdag woensdag donderdag vrijdag zaterdag zondag".split()
)

_DAY_OF_MONTH: Final = rf"(?<=\d\.)(?!\s+(?:{'|'.join(sorted(_NAMED))})\b)"
"""German and others write "3. März": no sentence ends there."""
_SENTENCE: Final = re.compile(
    rf"(?:(?<=[!?…])|(?<=[^\d]\.)|{_DAY_OF_MONTH})[\"')\]]*\s+|(?<=[。！？])|\n+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence as far as it is compared."""

    text: str
    words: frozenset[str]
    values: tuple[str, ...]
    """Sorted."""
    negated: bool


class Numbers:
    """`alike_min`: from 0 to 1. `words_min`: shared words. The first `chars_max` characters of a chunk and the first `sentences_max`
    sentences of them are compared.
    """

    def __init__(
        self, alike_min: float = 0.9, words_min: int = 3, sentences_max: int = 60, chars_max: int = 20_000
    ) -> None:
        if not 0 < alike_min <= 1:
            raise ValueError(f"alike_min must be above 0 and at most 1, got {alike_min}")
        if min(words_min, sentences_max, chars_max) < 1:
            raise ValueError("words_min, sentences_max and chars_max must be at least 1")
        self._alike_min = alike_min
        self._words_min = words_min
        self._sentences_max = sentences_max
        self._chars_max = chars_max

    def fingerprint(self) -> str:
        return f"numbers/1 {self._alike_min} {self._words_min} {self._sentences_max} {self._chars_max}"

    async def judge(self, one: Chunk, other: Chunk, ask: AskModel) -> Verdict | None:
        """Of several contradictions the one between the sentences most alike; of those the first."""
        first, second = self._statements(one.text), self._statements(other.text)
        held, held_too = set(map(_said, first)), set(map(_said, second))
        best: tuple[float, Statement, Statement] | None = None
        for left in (left for left in first if _said(left) not in held_too):
            for right in (right for right in second if _said(right) not in held):
                alike = self._alike(left, right)
                if alike >= self._alike_min and (best is None or alike > best[0]) and contrary(left, right):
                    best = alike, left, right
        return None if best is None else Verdict(f"{_shown(best[1])} / {_shown(best[2])}", best[0])

    def _statements(self, text: str) -> list[Statement]:
        plain = unicodedata.normalize("NFKC", _THIN_SPACE.sub("", text[: self._chars_max]))
        parts = (_LEAD.sub("", " ".join(part.split())) for part in _SENTENCE.split(plain))
        return [statement(part) for part in parts if part][: self._sentences_max]

    def _alike(self, one: Statement, other: Statement) -> float:
        shared = len(one.words & other.words)
        return 0.0 if shared < self._words_min else 2 * shared / (len(one.words) + len(other.words))


def contrary(one: Statement, other: Statement) -> bool:
    """Of two sentences of one thing: each has a value the other lacks, or one of them says that it is not so."""
    if one.values == other.values:
        return one.negated != other.negated
    mine, others = Counter(one.values), Counter(other.values)
    return bool(mine - others) and bool(others - mine)


def statement(sentence: str) -> Statement:
    """`sentence`: in NFKC."""
    words: set[str] = set()
    values: list[str] = []
    negated = False
    for token in _TOKEN.findall(sentence.casefold()):
        if token[0].isdecimal():
            values += _values(token)
        elif token in _NAMED:
            values.append(token)
        else:
            kept, is_not = _word(token)
            negated |= is_not
            words.update(kept)
    return Statement(sentence, frozenset(words), tuple(sorted(values)), negated)


def _word(token: str) -> tuple[Sequence[str], bool]:
    """What is left of it beside a "not", and whether there is one."""
    token = token.replace("’", "'")
    if token.startswith("n'"):  # French
        return (token[2:],), True
    is_not = token in _NOT or token.endswith("n't")
    stem = _SHORT.get(token) or ("" if token in _NOT else token.removesuffix("n't"))
    if not stem or stem in _HELPERS:
        return (), is_not
    return (stem[:-1] if len(stem) > 3 and stem.endswith("s") else stem,), is_not


def _values(token: str) -> Iterator[str]:
    """One number, or the parts of a date, a time, a version."""
    token = "".join(one if not one.isdecimal() else str(unicodedata.decimal(one)) for one in token)
    decimal = _DECIMAL.fullmatch(token)
    if _THOUSANDS.fullmatch(token):
        yield _whole(re.sub(r"\D", "", token))
    elif decimal is not None:
        rest = decimal[2][:_DIGITS_MAX].rstrip("0")
        yield _whole(decimal[1]) + (f".{rest}" if rest else "")
    else:
        yield from map(_whole, re.findall(r"\d+", token))


def _whole(digits: str) -> str:
    return digits[:_DIGITS_MAX].lstrip("0") or "0"


def _said(one: Statement) -> tuple[frozenset[str], tuple[str, ...], bool]:
    return one.words, one.values, one.negated


def _shown(one: Statement) -> str:
    return one.text[:_SHOWN_CHARS_MAX]
