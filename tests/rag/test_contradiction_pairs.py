"""What a change of one chunk does to the findings that hold; keys, the record of a change, limits."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.rag.contradiction import (
    ContradictionSettings,
    Finding,
    Verdict,
    pair_key,
    read_change,
    write_change,
    write_finding,
)
from millstream.rag.contradiction_pairs import Judged, Pairs, text_print
from millstream.rag.document import Chunk
from millstream.rag.errors import MessageError
from millstream.state.key_value import KeyValueState


def finding(one: str, other: str, judge: str = "numbers") -> Finding:
    return Finding(Chunk("1", one, "x"), Chunk("2", other, "y"), Verdict("x / y"), judge, 0.9)


def test_what_was_not_judged_again_stays_as_long_as_its_text_does() -> None:
    """Of two chunks one may be among the other's nearest and not the other way round."""
    pairs = Pairs(KeyValueState("findings"), 10)
    pairs.open()
    between = finding("a", "b")
    key = pair_key("a#1", "b#2")
    assert pairs.revise(Judged("a#1", text_print("x"), {"b#2": between})) == [(key, write_finding(between))]
    assert pairs.revise(Judged("b#2", text_print("y"), {})) == []
    assert pairs.revise(Judged("b#2", text_print("y"), {"a#1": between})) == []
    assert pairs.revise(Judged("b#2", text_print("y"), {"a#1": finding("a", "b", "llm")}))[0][0] == key
    assert pairs.revise(Judged("b#2", text_print("z"), {})) == [(key, None)]
    assert (len(pairs), pairs.revise(Judged("a#1", None, {}))) == (0, [])


def test_a_pair_has_one_key_and_a_change_comes_back() -> None:
    assert pair_key("b#2", "a#1") == pair_key("a#1", "b#2") == b'["a#1","b#2"]'
    assert read_change(write_change(3, 41)) == (3, 41)
    with pytest.raises(MessageError, match=r"at \$\.offset"):
        read_change(b'{"partition": 1}')


@pytest.mark.parametrize(
    "options", [{"neighbours_max": 0}, {"similarity_min": 1.1}, {"findings_max": 0}, {"concurrency_max": 0}]
)
def test_limits_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ContradictionSettings(**options)
