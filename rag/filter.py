"""A small, safe language for filters over metadata.

    filter      := and ("or" and)*                      and := not ("and" not)*              not := "not" not | test
    test        := "(" filter ")" | operand
                 | operand ("==" | "=" | "!=" | "<" | "<=" | ">" | ">=") operand
                 | operand ["not"] "in" "[" literal, ... "]"
                 | operand "contains" operand          a list holds the value, or a text holds the text
                 | operand "glob" text                  `*` any run, `?` one character, case counts
    operand     := name | literal                       name := word ("." word)*  |  `any characters`
    literal     := 12 | 1.5 | 'text' | "text" | true | false | null

`lang == 'en' and (year >= 2020 or tags contains 'draft') and uri glob 'guide/*'`. Besides the metadata's own names there is `uri`,
the document's id. A name that is not there is null. Null, and values of two kinds, are never `<` or `>`; `==` compares number
with number and text with text. Dates are compared as ISO 8601 text. No functions, no arithmetic, no attribute of anything: a
filter is parsed into a tree of closures that can only look up names in one dictionary. Limits: 4,096 characters, 50 deep.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from .errors import FilterError

Test = Callable[[Mapping[str, Any]], Any]

_CHARS_MAX: Final = 4_096
_DEPTH_MAX: Final = 50
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])|(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<quoted>`[^`]+`)|(?P<word>[^\W\d][\w-]*(?:\.[^\W\d][\w-]*)*)|(?P<sign>==|!=|<=|>=|[=<>()\[\],]))"""
)
_LITERALS: Final = {"true": True, "false": False, "null": None}
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "contains", "glob"})


class Filter:
    """A parsed filter: `Filter("year > 2000").matches({"year": 2024})`. Raises FilterError naming the place."""

    def __init__(self, text: str) -> None:
        if len(text) > _CHARS_MAX:
            raise FilterError(f"the filter has {len(text)} characters, at most {_CHARS_MAX}")
        self.text = text
        self._test = _Parser(text).filter()

    def matches(self, names: Mapping[str, Any]) -> bool:
        """Never raises: metadata may be anything."""
        return _true(self._test(names))

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            raise FilterError(f"filter: cannot read {text[place : place + 12]!r} at character {place + 1} of {text!r}")
        kind = match.lastgroup
        tokens.append(_Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return [*tokens, _Token("end", "", len(text))]


class _Parser:
    """Recursive descent over the grammar above; each rule gives a closure."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def filter(self) -> Test:
        test = self._or()
        if self._tokens[self._next].kind != "end":
            raise self._wrong("and, or, or the end")
        return test

    def _wrong(self, expected: str) -> FilterError:
        token = self._tokens[self._next]
        got = repr(token.text) if token.text else "the end"
        hint = "; a text needs quotes" if token.kind == "word" and expected == "a value" else ""
        return FilterError(
            f"filter: expected {expected}, got {got} at character {token.at + 1} of {self._text!r}{hint}"
        )

    def _take(self, *texts: str) -> str | None:
        """The next token if it is one of these signs or keywords."""
        token = self._tokens[self._next]
        found = token.text.lower() if token.kind == "word" else token.text
        if token.kind in {"word", "sign"} and found in texts:
            self._next += 1
            return found
        return None

    def _need(self, text: str) -> None:
        if self._take(text) is None:
            raise self._wrong(repr(text))

    def _or(self) -> Test:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise FilterError(f"filter: more than {_DEPTH_MAX} deep")
        tests = [self._and()]
        while self._take("or"):
            tests.append(self._and())
        self._depth -= 1
        return tests[0] if len(tests) == 1 else lambda names: any(_true(test(names)) for test in tests)

    def _and(self) -> Test:
        tests = [self._not()]
        while self._take("and"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda names: all(_true(test(names)) for test in tests)

    def _not(self) -> Test:
        turned = False
        while self._take("not"):
            turned = not turned
        test = self._test()
        return (lambda names: not _true(test(names))) if turned else test

    def _test(self) -> Test:
        if self._take("("):
            inner = self._or()
            self._need(")")
            return inner
        left = self._operand()
        sign = self._take("==", "=", "!=", "<", "<=", ">", ">=")
        if sign is not None:
            compare, right = _COMPARE[sign], self._operand()
            return lambda names: compare(left(names), right(names))
        if self._take("contains"):
            held = self._operand()
            return lambda names: _contains(left(names), held(names))
        if self._take("glob"):
            return _glob(left, self._glob_text())
        turned = self._take("not") is not None
        if self._take("in"):
            members = self._members()
            return lambda names: any(_equal(left(names), member) for member in members) != turned
        if turned:
            raise self._wrong("'in'")
        return left

    def _glob_text(self) -> str:
        pattern = self._literal()
        if not isinstance(pattern, str):
            raise FilterError(f"filter: glob takes a text, got {pattern!r} in {self._text!r}")
        return pattern

    def _members(self) -> list[Any]:
        self._need("[")
        members = []
        while not self._take("]"):
            members.append(self._literal())
            if self._tokens[self._next].text != "]":
                self._need(",")
        return members

    def _operand(self) -> Test:
        token = self._tokens[self._next]
        if token.kind == "quoted":
            self._next += 1
            name = token.text[1:-1]
            return lambda names: names.get(name)
        if token.kind == "word" and token.text.lower() not in _KEYWORDS | _LITERALS.keys():
            self._next += 1
            return _lookup(token.text)
        value = self._literal()
        return lambda names: value

    def _literal(self) -> Any:
        token = self._tokens[self._next]
        if token.kind == "number":
            value: Any = float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        elif token.kind == "text":
            value = re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        elif token.kind == "word" and token.text.lower() in _LITERALS:
            value = _LITERALS[token.text.lower()]
        else:
            raise self._wrong("a value")
        self._next += 1
        return value


def _lookup(name: str) -> Test:
    """`a.b`: the name itself where it is there, else `b` within the object `a`."""
    path = name.split(".")

    def find(names: Mapping[str, Any]) -> Any:
        if name in names:
            return names[name]
        value: Any = names
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    return find


def _true(value: Any) -> bool:
    """Only true is true: a name alone is a test of a boolean."""
    return value is True


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def _equal(left: Any, right: Any) -> bool:
    return _kind(left) == _kind(right) and bool(left == right)


def _ordered(decide: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        return _kind(left) == _kind(right) and _kind(left) in {"number", "str"} and decide(left, right)

    return compare


_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": _equal,
    "=": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _ordered(lambda left, right: left < right),
    "<=": _ordered(lambda left, right: left <= right),
    ">": _ordered(lambda left, right: left > right),
    ">=": _ordered(lambda left, right: left >= right),
}


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, str):
        return isinstance(part, str) and part in whole
    return isinstance(whole, list) and any(_equal(member, part) for member in whole)


def _glob(operand: Test, pattern: str) -> Test:
    matches = re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match
    return lambda names: isinstance(value := operand(names), str) and matches(value) is not None
