"""Which contradictions hold, as one task keeps them, and what a change of one chunk does to them. Decisions only.

    state "findings"   hash(chunk) + hash(other chunk)  ->  [key of the record, print of the chunk's text, of the other's, the judge]
                       once in each direction, so that a change of either finds all its pairs

    a chunk went                     all its pairs end
    it came, or came again           pairs judged now: as judged now
                                     pairs not judged now: they stay if its text is the one they were found in, and else end

A finding is given once for as long as both texts and the judge stay: a chunk that comes again with other metadata says nothing
new. The hash is of 128 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from ..state.key_value import KeyValueState
from .contradiction import Finding, pair_key, write_finding
from .document import digest

_HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Judged:
    """What a change of one chunk came to."""

    key: str
    text: str | None
    """Print of its text; None: it is gone."""
    pairs: Mapping[str, Finding | None]
    """By the other chunk's key: those that were judged."""


@dataclass(frozen=True, slots=True)
class _Held:
    record: bytes
    text: str
    other_text: str
    judge: str

    def to_bytes(self) -> bytes:
        return orjson.dumps([self.record.decode(), self.text, self.other_text, self.judge])

    def turned(self) -> _Held:
        return _Held(self.record, self.other_text, self.text, self.judge)

    @classmethod
    def from_bytes(cls, stored: bytes) -> _Held:
        record, text, other_text, judge = orjson.loads(stored)
        return cls(record.encode(), text, other_text, judge)


def text_print(text: str) -> str:
    """Changes with every character."""
    return digest(text, hex_digits=32)


class Pairs:
    """Over one `KeyValueState`. `findings_max`: that hold at once."""

    def __init__(self, state: KeyValueState, findings_max: int) -> None:
        self._state = state
        self._findings_max = findings_max
        self._count = 0
        self.left_out = 0
        """Findings that were not given since there were too many."""

    def open(self) -> None:
        """After the state is restored."""
        self._count = sum(1 for _ in self._state.scan_prefix()) // 2

    def __len__(self) -> int:
        return self._count

    def revise(self, judged: Judged) -> list[tuple[bytes, bytes | None]]:
        """Records of what begins and what ends."""
        mine = _hash(judged.key)
        held = {key[_HASH_BYTES:]: _Held.from_bytes(value) for key, value in self._state.scan_prefix(mine)}
        ended = list(self._ended(judged, mine, held))
        return [*ended, *self._begun(judged, mine, held)]

    def _ended(self, judged: Judged, mine: bytes, held: Mapping[bytes, _Held]) -> Iterator[tuple[bytes, None]]:
        looked_at = {_hash(key): finding for key, finding in judged.pairs.items()}
        for other, one in held.items():
            holds = looked_at[other] is not None if other in looked_at else one.text == judged.text
            if judged.text is None or not holds:
                self._state.delete(mine + other)
                self._state.delete(other + mine)
                self._count -= 1
                yield one.record, None

    def _begun(self, judged: Judged, mine: bytes, held: Mapping[bytes, _Held]) -> Iterator[tuple[bytes, bytes]]:
        for key, finding in judged.pairs.items():
            if finding is None or judged.text is None:
                continue
            other = _hash(key)
            now = _held_of(judged.key, finding)
            if held.get(other) == now:
                continue
            if other not in held and self._count >= self._findings_max:
                self.left_out += 1
                continue
            self._count += other not in held
            self._state.put(mine + other, now.to_bytes())
            self._state.put(other + mine, now.turned().to_bytes())
            yield now.record, write_finding(finding)


def _held_of(key: str, finding: Finding) -> _Held:
    one, other = finding.one, finding.other
    held = _Held(pair_key(one.key, other.key), text_print(one.text), text_print(other.text), finding.judge)
    return held if one.key == key else held.turned()


def _hash(key: str) -> bytes:
    return bytes.fromhex(digest(key, hex_digits=2 * _HASH_BYTES))
