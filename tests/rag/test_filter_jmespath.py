"""JMESPath filters: a table of what Pathway's clients send, the package itself as the oracle, and hostile expressions."""

from __future__ import annotations

from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from millstream.rag.errors import FilterError, UndecidedError
from millstream.rag.filter_jmespath import JmespathFilter
from millstream.rag.jmespath_tree import Meter, compiled
from millstream.rag.metadata_table import MetadataTable

NAMES = {
    "uri": "guide/a.md",
    "modified_at": 1_724_351_401,
    "owner": "ada",
    "tags": ["draft", "x"],
    "live": True,
    "size": 0,
    "o": {"p": [1, 2, 3]},
    "notes": [{"by": "ada", "n": 2}, {"by": "bob", "n": 1}],
}
pytestmark = pytest.mark.filterwarnings("ignore:deprecated string literal")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("contains(path, `guide`)", True),
        ('contains(path, `"guide"`)', True),
        ("contains(path, 'guide')", True),
        ("path == `guide/a.md`", True),
        ("path == uri", True),
        ("globmatch(`guide/*.md`, path)", True),
        ('globmatch(`"**/a.md"`, path)', True),
        ("globmatch('*.md', path)", True),
        ("globmatch('*.pdf', path)", False),
        ("modified_at >= `1700000000`", True),
        ("(path == `guide/a.md`) && (modified_at >= to_number(`1724351400`))", True),
        ("owner == 'ada' && path != 'b'", True),
        ("owner == 'bob' || live", True),
        ("!live", False),
        ("size", False),
        ("owner", False),
        ("missing == `null`", True),
        ("missing.deeper > `3`", False),
        ("owner > `3`", False),
        ("contains(tags, 'draft')", True),
        ("length(tags) == `2`", True),
        ("o.p[-1] == `3`", True),
        ("o.p[5] == `null`", True),
        ("notes[?by == 'ada'] | [0].n == `2`", True),
        ("sort_by(notes, &n)[0].by == 'bob'", True),
        ("map(&n, notes) == `[2, 1]`", True),
        (" || ".join(["owner == 'x'"] * 200 + ["live"]), True),
    ],
)
def test_what_matches(text: str, expected: bool) -> None:
    assert expected == JmespathFilter(text).matches(NAMES)


def test_metadata_called_path_wins_over_the_document_s_id() -> None:
    assert JmespathFilter("path == 'x'").matches({"uri": "a", "path": "x"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("owner ==", "Incomplete|Invalid"),
        ("owner = 'a'", "Unknown token '='"),
        ("owner == 'a", "Unclosed"),
        ("year > 2020", "Invalid|Unexpected|invalid"),
        ("nothing(path)", r"there is no function nothing\(\)"),
        ("contains(path)", r"contains\(\) takes 2 arguments, got 1"),
        ("globmatch(path)", r"globmatch\(\) takes 2 arguments, got 1"),
        ("merge()", r"merge\(\) takes at least 1 arguments, got 0"),
        ("o.p[::0]", "step of a slice is 0"),
        ("x" * 5_000, "at most 4096"),
        ("(" * 2_000 + "live" + ")" * 2_000, "too deep"),
        ("!" * 100 + "live", "more than 50 deep"),
        ("o" + "[*]" * 60, "more than 50 deep"),
        ("__import__('os')", "there is no function"),
    ],
)
def test_a_wrong_expression_is_an_error_at_once(text: str, reason: str) -> None:
    with pytest.raises(FilterError, match=reason):
        JmespathFilter(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("contains(missing, 'x')", r"contains\(\) takes array or string, got null"),
        ("abs(owner) > `1`", r"abs\(\) takes number, got string"),
        ("globmatch('*', missing)", "cannot be evaluated"),
        ("max_by(notes, &by.x)", r"max_by\(\) takes"),
        ("ceil(to_number('inf')) == `1`", "cannot be evaluated"),
    ],
)
def test_a_function_that_cannot_take_what_it_gets_decides_nothing(text: str, reason: str) -> None:
    """And says why, without the value: metadata is not everybody's."""
    with pytest.raises(UndecidedError, match=reason) as raised:
        JmespathFilter(text).matches(NAMES)
    assert "ada" not in str(raised.value)


HOSTILE = {
    "lists that double": "|".join(["[@,@]"] * 400),
    "flattened lists that double": "|".join(["[@,@][]"] * 300),
    "a text of what doubled": "|".join(["[@,@]"] * 60) + "|to_string(@)",
    "two that doubled, compared": "({0}) == ({0})".format("|".join(["[@,@]"] * 60)),
    "objects that double": "|".join(["{a:@,b:@}"] * 300),
    "maps of maps": "map(&map(&map(&@, [@,@,@,@,@]), [@,@,@,@,@]), long)",
    "a long glue": "|".join(["join(@, long_texts)"] * 20).replace("@", "text", 1),
    "a pattern": "globmatch('" + "**/" * 300 + "x', long_path)",
    "sorts of sorts": " && ".join(["sort(long_texts)"] * 150),
}
LARGE = NAMES | {
    "long": list(range(4_000)),
    "long_texts": ["x" * 10] * 1_000,
    "text": "y" * 4_000,
    "long_path": "a/" * 2_000,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_expression_runs_out_of_steps(what: str) -> None:
    with pytest.raises(FilterError, match="too many steps") as raised:
        JmespathFilter(HOSTILE[what]).matches(LARGE)
    assert not isinstance(raised.value, UndecidedError)


def test_steps_are_counted_over_all_documents_together() -> None:
    """What is bearable for one document is not for a hundred thousand."""
    dear = JmespathFilter("length(long[?@ > `1`]) > `1`")
    assert dear.matches({"long": list(range(3_000))})
    with pytest.raises(FilterError, match="too many steps"):
        [dear.matches({"long": list(range(3_000))}) for _ in range(3)]
    cheap = JmespathFilter("owner == 'ada' && modified_at > `3`")
    assert all(cheap.matches(NAMES) for _ in range(5_000))


def test_documents_on_which_it_cannot_be_evaluated_do_not_match() -> None:
    """Unless that is so for all of them: then the query is told."""
    table = MetadataTable()
    table.put(0, "a", {})
    wanted = JmespathFilter("contains(tags, 'x')")
    for _ in range(2):
        with pytest.raises(UndecidedError, match="got null"):
            table.bitmap(repr(wanted), wanted.matches)
    table.put(1, "b", {"tags": ["x"]})
    table.put(2, "c", {"tags": ["y"]})
    assert table.bitmap(repr(wanted), wanted.matches).nonzero()[0].tolist() == [1]


def test_no_documents_are_no_error() -> None:
    wanted = JmespathFilter("contains(tags, 'x')")
    assert not MetadataTable().bitmap(repr(wanted), wanted.matches).any()


literals = st.sampled_from(["`1`", "`0`", "`-1.5`", "'a'", "'ab'", "''", "`null`", "`true`", "`[1, 2]`", '`{"a": 1}`'])
names = st.sampled_from(["a", "b", "c", "a.b", "b[0]", "b[-1]", "b[1:]", "b[*].a", "b[]", "c.*", "@", "b[?a == `1`]"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(["{} == {}", "{} != {}", "{} < {}", "{} >= {}", "{} && {}", "{} || {}", "({}) | ({})"])
    listed = st.sampled_from(
        ["[{}, {}]", "{{x: {}, y: {}}}", "contains({}, {})", "starts_with({}, {})", "join({}, {})"]
    )
    one = st.sampled_from(
        ["!({})", "length({})", "to_string({})", "to_number({})", "type({})", "sort({})", "keys({})", "max({})",
         "not_null({})", "reverse({})", "({})[]", "({})[0]", "({}).a", "map(&a, {})", "sort_by({}, &a)", "sum({})"]
    )  # fmt: skip
    return st.one_of(
        st.builds(lambda form, left, right: form.format(f"({left})", f"({right})"), binary, inner, inner),
        st.builds(lambda form, left, right: form.format(left, right), listed, inner, inner),
        st.builds(lambda form, only: form.format(only), one, inner),
    )


expressions = st.recursive(st.one_of(literals, names), _grown, max_leaves=8)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "a", "ab"]), st.floats(-2, 2))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def _outcome(evaluate: Any) -> tuple[str, Any]:
    try:
        return "value", evaluate()
    except (JMESPathError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return "error", type(error)


@settings(max_examples=400)
@given(expressions, st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3))
def test_it_evaluates_as_the_package_itself(text: str, data: dict[str, Any]) -> None:
    """But for the order of a text and a number, which the package raises over."""
    tree = jmespath.compile(text).parsed
    meter = Meter()
    meter.left = 1_000_000
    step = compiled(tree, meter)
    expected = _outcome(lambda: jmespath.search(text, data))
    if expected == ("error", TypeError):
        return
    assert expected == _outcome(lambda: step(data))


@given(st.text(alphabet="ab.[]*?&|!()`'\"=<>@{}:,1 -", max_size=30))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    try:
        decided = JmespathFilter(text).matches(NAMES)
    except FilterError:
        return
    assert decided in {True, False}
