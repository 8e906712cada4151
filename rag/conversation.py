"""Conversations: what was asked and answered before, and what of it a follow-up question needs. Decisions; `understand.py` asks.

    turns kept    the last `turns_max`, none older than `age_max_ms` in event time; of `conversations_max` conversations a task
    follow-up     a question that is not understood by itself: it points back (it, there, those), begins with "and" or "what about",
                  or has fewer than three words that mean something
    looked up     without a model: the follow-up and the question before it together, and the model is asked the follow-up as it is

All state of one conversation is in one task: its records have its id as their key, so Kafka keeps them in one partition.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from ..state.key_value import KeyValueState
from .terms import Terms

ANSWER_CHARS_MAX: Final = 2_000
"""Of an answer so much is kept."""
_POINTS_BACK: Final = re.compile(
    r"\b(it|its|he|him|his|she|her|hers|they|them|their|theirs|this|that|these|those|there|then|one|ones|same|else|"
    r"er|sie|es|ihn|ihm|ihr|ihre|dessen|deren|dort|damit|davon|dafür|diese[rsmn]?|dies|das)\b",
    re.IGNORECASE,
)
_GOES_ON: Final = re.compile(
    r"^\W*(and|or|but|so|what about|how about|why|und|oder|aber|was ist mit|warum)\b", re.IGNORECASE
)
_TERMS_ALONE: Final = 3


@dataclass(frozen=True, slots=True)
class ConversationSettings:
    """How much of a conversation is kept, in the state of its task."""

    turns_max: int = 6
    age_max_ms: int = 3_600_000
    """In event time: the timestamps of the questions' records."""
    conversations_max: int = 10_000
    """Per task. One more, and the one that was silent longest is forgotten."""

    def __post_init__(self) -> None:
        if min(self.turns_max, self.age_max_ms, self.conversations_max) < 1:
            raise ValueError("turns_max, age_max_ms and conversations_max must be at least 1")


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, as it was understood, and its answer; "" where there was none."""

    question: str
    answer: str
    time_ms: int


Turns = tuple[Turn, ...]


def recent(turns: Sequence[Turn], now_ms: int, settings: ConversationSettings) -> Turns:
    """Those that still count."""
    young = [turn for turn in turns if turn.time_ms > now_ms - settings.age_max_ms]
    return tuple(young[-settings.turns_max :])


def is_follow_up(question: str, terms: Terms) -> bool:
    """Whether it needs what went before. English and German; other languages only by their brevity."""
    alone = len(terms.unique(question)) >= _TERMS_ALONE
    return not alone or bool(_POINTS_BACK.search(question) or _GOES_ON.search(question))


def with_before(question: str, turns: Sequence[Turn], terms: Terms) -> str:
    """What is looked up where no model can put the question in words of its own."""
    return f"{question} {turns[-1].question}" if turns and is_follow_up(question, terms) else question


class RecentTurns:
    """Of conversations with questions that are answered but not handed back yet. A conversation is here while one of it is under way."""

    def __init__(self) -> None:
        self._under_way: Counter[bytes] = Counter()
        self._turns: dict[bytes, Turns] = {}

    def began(self, conversation: bytes, held: Turns) -> Turns:
        """Gives back what is held, which counts where nothing newer is known when the call begins."""
        self._under_way[conversation] += 1
        return held

    def turns(self, conversation: bytes, held: Turns) -> Turns:
        return self._turns.get(conversation, held)

    def told(self, conversation: bytes, turns: Turns) -> None:
        self._turns[conversation] = turns

    def ended(self, conversation: bytes) -> None:
        self._under_way[conversation] -= 1
        if self._under_way[conversation] <= 0:
            del self._under_way[conversation]
            self._turns.pop(conversation, None)


class Conversations:
    """Over one `KeyValueState`: by the conversation's id its number (larger: later spoken in), the time of its last turn, its turns."""

    def __init__(self, state: KeyValueState, settings: ConversationSettings) -> None:
        self._state = state
        self._settings = settings
        self._last_ms: OrderedDict[bytes, int] = OrderedDict()
        """The one that was silent longest comes first."""
        self._next = 0

    def open(self) -> None:
        """After the state was restored."""
        held = sorted((_read(value)[:2], key) for key, value in self._state.scan_prefix())
        self._last_ms = OrderedDict((key, time_ms) for (_, time_ms), key in held)
        self._next = 1 + max((number for (number, _), _ in held), default=-1)

    def __len__(self) -> int:
        return len(self._last_ms)

    def turns(self, conversation: bytes) -> Turns:
        stored = self._state.get(conversation)
        return () if stored is None else _read(stored)[2]

    def add(self, conversation: bytes, turn: Turn) -> None:
        """And forgets what is too old, or too much."""
        turns = recent((*self.turns(conversation), turn), turn.time_ms, self._settings)
        self._state.put(conversation, orjson.dumps([self._next, turn.time_ms, [_row(one) for one in turns]]))
        self._next += 1
        self._last_ms[conversation] = turn.time_ms
        self._last_ms.move_to_end(conversation)
        while len(self._last_ms) > self._settings.conversations_max or self._is_over(turn.time_ms):
            forgotten, _ = self._last_ms.popitem(last=False)
            self._state.delete(forgotten)

    def _is_over(self, now_ms: int) -> bool:
        return next(iter(self._last_ms.values())) <= now_ms - self._settings.age_max_ms


def _row(turn: Turn) -> list[str | int]:
    return [turn.question, turn.answer[:ANSWER_CHARS_MAX], turn.time_ms]


def _read(stored: bytes) -> tuple[int, int, Turns]:
    number, time_ms, rows = orjson.loads(stored)
    return number, time_ms, tuple(Turn(*row) for row in rows)
