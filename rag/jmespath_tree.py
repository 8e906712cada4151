"""JMESPath's syntax tree as closures that count what they do. The grammar is that of https://github.com/jmespath/jmespath.py 1.1.

The package's own interpreter follows an expression wherever it leads: `[@,@]|[@,@]|...` doubles what it makes with each bar, and four
thousand characters of it are more than any memory. So here every node is a step, and every list, object and text that is
made, compared or given to a function costs as many steps as it is large; nothing can be made that was not paid for. The package
parses, and its functions are called. One difference: a text and a number are in no order, which gives null, as the specification
says; the package raises.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

from .errors import FilterError
from .filter_glob import Glob
from .parts import extra

Step = Callable[[Any], Any]
Node = dict[str, Any]

_DEPTH_MAX: Final = 50
_CHARS_A_STEP: Final = 64
_ORDER: Final = {"lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge}


class Meter:
    """How many steps are left."""

    def __init__(self) -> None:
        self.left = 0

    def spend(self, steps: int) -> None:
        """Raises FilterError where there are not so many."""
        self.left -= steps
        if self.left < 0:
            raise FilterError("filter: the JMESPath takes too many steps; write a simpler one")

    def pay_for(self, value: Any) -> Any:
        """The value, paid for by its size, whatever it holds twice counted twice."""
        pending, size = [value], 0
        while pending:
            one = pending.pop()
            size += 1 + (len(one) // _CHARS_A_STEP if isinstance(one, str) else 0)
            if isinstance(one, list):
                pending.extend(one)
            elif isinstance(one, dict):
                pending.extend(one.values())
            if size > self.left:
                break
        self.spend(size)
        return value


def compiled(tree: Node, meter: Meter) -> Step:
    """Raises FilterError: nested too deep, a function that is not there, a wrong number of arguments."""
    return _Compiler(meter).step(tree)


class _Expression:
    """`&name`, given to a function. The package's functions know it by this class's name, and call `visit`."""

    def __init__(self, step: Step) -> None:
        self.expression = step

    def visit(self, step: Step, value: Any) -> Any:
        return step(value)


class _Compiler:
    """A method for each type of node, called as the type is."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._depth = 0
        self._functions = extra("jmespath.functions").Functions()
        self._equals: Callable[[Any, Any], bool] = extra("jmespath.visitor").TreeInterpreter.COMPARATOR_FUNC["eq"]

    def step(self, node: Node) -> Step:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise FilterError(f"filter: the JMESPath is more than {_DEPTH_MAX} deep")
        inner: Step = getattr(self, f"_{node['type']}")(node)
        self._depth -= 1
        spend = self._meter.spend

        def counted(value: Any) -> Any:
            spend(1)
            return inner(value)

        return counted

    def _steps(self, node: Node) -> list[Step]:
        return [self.step(child) for child in node["children"]]

    # Names and literals

    def _field(self, node: Node) -> Step:
        name = node["value"]
        return lambda value: value.get(name) if isinstance(value, dict) else None

    def _literal(self, node: Node) -> Step:
        literal = node["value"]
        return lambda value: literal

    def _identity(self, node: Node) -> Step:
        return lambda value: value

    _current = _identity

    def _index(self, node: Node) -> Step:
        at = node["value"]

        def find(value: Any) -> Any:
            there = isinstance(value, list) and -len(value) <= at < len(value)
            return value[at] if there else None

        return find

    def _slice(self, node: Node) -> Step:
        part = slice(*node["children"])
        if part.step == 0:
            raise FilterError("filter: JMESPath: the step of a slice is 0")
        return lambda value: self._meter.pay_for(value[part]) if isinstance(value, list) else None

    def _subexpression(self, node: Node) -> Step:
        return _in_turn(self._steps(node))

    _index_expression = _subexpression

    def _pipe(self, node: Node) -> Step:
        return _in_turn([self.step(one) for one in _chain(node)])

    # Decisions

    def _or_expression(self, node: Node) -> Step:
        return _until([self.step(one) for one in _chain(node)], is_last=_is_true)

    def _and_expression(self, node: Node) -> Step:
        return _until([self.step(one) for one in _chain(node)], is_last=lambda value: not _is_true(value))

    def _not_expression(self, node: Node) -> Step:
        (inner,) = self._steps(node)
        return lambda value: not (_is_number(found := inner(value)) or found)

    def _comparator(self, node: Node) -> Step:
        left, right = self._steps(node)
        pay, kind = self._meter.pay_for, node["value"]
        if kind in _ORDER:
            return lambda value: _ordered(_ORDER[kind], left(value), right(value))
        wanted = kind == "eq"
        return lambda value: bool(self._equals(pay(left(value)), pay(right(value)))) is wanted

    # Lists and objects

    def _multi_select_list(self, node: Node) -> Step:
        steps, pay = self._steps(node), self._meter.pay_for
        return lambda value: None if value is None else pay([step(value) for step in steps])

    def _multi_select_dict(self, node: Node) -> Step:
        steps = {pair["value"]: self.step(pair["children"][0]) for pair in node["children"]}
        pay = self._meter.pay_for
        return lambda value: None if value is None else pay({name: step(value) for name, step in steps.items()})

    def _flatten(self, node: Node) -> Step:
        (base,) = self._steps(node)

        def flatten(value: Any) -> Any:
            whole = base(value)
            if not isinstance(whole, list):
                return None
            return self._meter.pay_for([x for one in whole for x in (one if isinstance(one, list) else [one])])

        return flatten

    def _projection(self, node: Node) -> Step:
        base, each = self._steps(node)
        return self._projected(base, each, lambda whole: whole if isinstance(whole, list) else None)

    def _value_projection(self, node: Node) -> Step:
        base, each = self._steps(node)
        return self._projected(base, each, lambda whole: list(whole.values()) if isinstance(whole, dict) else None)

    def _filter_projection(self, node: Node) -> Step:
        base, each, test = self._steps(node)

        def kept(whole: Any) -> list[Any] | None:
            return [one for one in whole if _is_true(test(one))] if isinstance(whole, list) else None

        return self._projected(base, each, kept)

    def _projected(self, base: Step, each: Step, elements: Callable[[Any], list[Any] | None]) -> Step:
        def project(value: Any) -> Any:
            found = elements(base(value))
            if found is None:
                return None
            return self._meter.pay_for([one for element in found if (one := each(element)) is not None])

        return project

    # Functions

    def _expref(self, node: Node) -> Step:
        (inner,) = self._steps(node)
        expression = _Expression(inner)
        return lambda value: expression

    def _function_expression(self, node: Node) -> Step:
        name, arguments = node["value"], self._steps(node)
        if name == "globmatch":
            return self._globmatch(arguments)
        known = self._functions.FUNCTION_TABLE.get(name)
        if known is None:
            raise FilterError(f"filter: JMESPath: there is no function {name}()")
        _check_count(name, known["signature"], len(arguments))

        def call(value: Any) -> Any:
            given = [self._meter.pay_for(argument(value)) for argument in arguments]
            if name == "join" and isinstance(given[0], str) and isinstance(given[1], list):
                self._meter.spend(len(given[0]) * len(given[1]) // _CHARS_A_STEP)
            return self._meter.pay_for(self._functions.call_function(name, given))

        return call

    def _globmatch(self, arguments: Sequence[Step]) -> Step:
        """Pathway's own function: the pattern, then the path."""
        _check_count("globmatch", ({}, {}), len(arguments))
        patterns: dict[str, Glob] = {}

        def call(value: Any) -> Any:
            pattern, path = (argument(value) for argument in arguments)
            if not isinstance(pattern, str) or not isinstance(path, str):
                raise TypeError("globmatch takes two texts")
            if pattern not in patterns:
                self._meter.spend(1 + len(pattern))
                patterns.clear()  # one is enough: it is a literal, as a rule
                patterns[pattern] = Glob(pattern)
            return patterns[pattern].matches(path, self._meter.spend)

        return call


def _check_count(name: str, signature: Sequence[dict[str, Any]], count: int) -> None:
    variadic = bool(signature) and bool(signature[-1].get("variadic"))
    if count < len(signature) or (count > len(signature) and not variadic):
        least = "at least " if variadic else ""
        raise FilterError(f"filter: JMESPath: {name}() takes {least}{len(signature)} arguments, got {count}")


def _chain(node: Node) -> list[Node]:
    """`a || b || c`, of any length, is one node of three and not nested."""
    kind, parts = node["type"], []
    while node["type"] == kind:
        left, right = node["children"]
        parts.append(right)
        node = left
    return [node, *reversed(parts)]


def _in_turn(steps: Sequence[Step]) -> Step:
    def run(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return run


def _until(steps: Sequence[Step], is_last: Callable[[Any], bool]) -> Step:
    def run(value: Any) -> Any:
        found = None
        for step in steps:
            found = step(value)
            if is_last(found):
                break
        return found

    return run


def _ordered(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
    both = (_is_number(left) and _is_number(right)) or (isinstance(left, str) and isinstance(right, str))
    return compare(left, right) if both else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_true(value: Any) -> bool:
    """JMESPath's: 0 is true; null, false and what is empty are not."""
    return not (value is None or value is False or (isinstance(value, str | list | dict) and not value))
