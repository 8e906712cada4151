"""What every parser promises: text or a ParseError, whatever the bytes; and what each makes of its own format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.rag.errors import ParseError, ParseLimitError
from millstream.rag.parser import Limits, Parser, parser_for
from millstream.rag.parts import part_named, part_names
from tests.rag.office_files import docx, email, pptx, xlsx
from tests.rag.pdfs import pdf
from tests.rag.pictures import picture
from tests.rag.transcriber import Transcriber, recording, transcribing

GOOD = {
    "audio": recording(),
    "csv": b"Hello there.\n",
    "docx": docx("Hello there."),
    "email": email("Hello there."),
    "json": b'{"greeting": "Hello there."}',
    "pptx": pptx(("", "Hello there.")),
    "text": b"Hello there.",
    "xlsx": xlsx(Greetings=[["Hello there."]]),
    "markdown": b"# Hello there.",
    "image": picture("Hello there."),
    "html": b"<h1>Hello there.</h1>",
    "pdf": pdf("Hello there."),
}


@pytest.fixture(scope="module")
def transcriber() -> Iterator[Transcriber]:
    with transcribing() as server:
        yield server


@pytest.fixture(params=part_names("parser"))
def parser(request: pytest.FixtureRequest, transcriber: Transcriber) -> Parser:
    return part_named("parser", request.param, {"url": transcriber.url} if request.param == "audio" else {})


@pytest.fixture
def good(request: pytest.FixtureRequest, parser: Parser) -> bytes:
    return GOOD[request.node.callspec.params["parser"]]


def test_text_is_found(parser: Parser, good: bytes) -> None:
    assert "Hello there." in parser.parse(good, "", Limits()).text


def test_the_same_bytes_give_the_same_text(parser: Parser, good: bytes) -> None:
    assert parser.parse(good, "", Limits()) == parser.parse(good, "", Limits())
    assert parser.fingerprint() == parser.fingerprint() != ""


def test_too_many_bytes_are_refused(parser: Parser, good: bytes) -> None:
    with pytest.raises(ParseLimitError, match="content_bytes_max"):
        parser.parse(good, "", Limits(content_bytes_max=5))


def test_too_many_characters_are_refused(parser: Parser, good: bytes) -> None:
    with pytest.raises(ParseLimitError, match="text_chars_max"):
        parser.parse(good, "", Limits(text_chars_max=5))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.binary(max_size=300), cut=st.integers(0, 400), where=st.integers(0, 400))
def test_broken_bytes_give_text_or_a_parse_error(
    parser: Parser, good: bytes, data: bytes, cut: int, where: int
) -> None:
    """Bytes put in, bytes cut off; and what comes out can always be written as UTF-8."""
    for content in (data, good[:cut], good[:where] + data + good[where:]):
        with contextlib.suppress(ParseError):
            parser.parse(content, "", Limits()).text.encode()


@pytest.mark.parametrize(
    ("content", "content_type", "text"),
    [
        (b"\xef\xbb\xbfa", "", "a"),
        ("ä€".encode("utf-16"), "", "ä€"),
        ("ä€".encode("cp1252"), "", "ä€"),
        ("я".encode("koi8-r"), "text/plain; charset=koi8-r", "я"),
        ("ä".encode(), "text/plain; charset=no-such", "ä"),
        (b"a\r\nb\rc", "", "a\nb\nc"),
        (b"a\x07\x1bb", "", "ab"),
        (b"", "", ""),
    ],
)
def test_text_is_decoded(content: bytes, content_type: str, text: str) -> None:
    assert text == part_named("parser", "text").parse(content, content_type, Limits()).text


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ParseError, match="NUL"):
        part_named("parser", "text").parse(b"\x7fELF\x00\x01", "", Limits())


def test_front_matter_is_metadata() -> None:
    content = b"---\ntitle: 'Prices'\nyear: 2024\nnested:\n  - x\n---\n\n# Other\n\nText <!-- hidden --> here."
    parsed = part_named("parser", "markdown").parse(content, "", Limits())
    assert parsed.text == "# Other\n\nText  here."
    assert parsed.metadata == {"title": "Prices", "year": "2024"}


def test_a_rule_is_no_front_matter() -> None:
    assert "---\nnot front" in part_named("parser", "markdown").parse(b"a\n---\nnot front\n---\n", "", Limits()).text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        (b"<p>a<p>b", "a\n\nb"),
        (b"<h2>A&amp;B</h2><ul><li>x<li>y</ul>", "## A&B\n\n- x\n\n- y"),
        (b"<script>bad()</script><style>p{}</style>ok<nav>menu</nav>", "ok"),
        (b"<script>if (a < b) {'<p>no</p>'}</script>yes", "yes"),
        (b"a<br>b", "a\nb"),
        (b"<table><tr><td>1<td>2<tr><td>3</table>", "1 | 2\n\n3"),
        (b"<p>a\n  b\t c</p>", "a b c"),
        (b"<nav><p>a</nav>b</nav>c", "bc"),
        (b"<div>" * 100_000 + b"deep", "deep"),
        (b'<meta charset="iso-8859-1"><p>\xe4', "ä"),
        (b"<svg/>shown", "shown"),
    ],
)
def test_html_is_what_a_reader_sees(html: bytes, text: str) -> None:
    assert text == part_named("parser", "html").parse(html, "", Limits()).text


def test_a_page_s_title_is_metadata() -> None:
    parsed = part_named("parser", "html").parse(b"<title>A\n B</title><p>c", "", Limits())
    assert (parsed.text, parsed.metadata) == ("c", {"title": "A B"})


def test_pdf_pages_are_paragraphs() -> None:
    parsed = part_named("parser", "pdf").parse(pdf("One.", "Two.", title="T"), "", Limits())
    assert (parsed.text, parsed.metadata) == ("One.\n\nTwo.", {"pages": 2, "title": "T"})
    assert [(parsed.text[mark.start :].strip()[:3], mark.key, mark.value) for mark in parsed.marks] == [
        ("One", "page", 1),
        ("Two", "page", 2),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%PDF-1.7 broken", "not a readable PDF"),
        (b"", "not a readable PDF"),
        (pdf("x")[:200], "not a readable PDF"),
        (pdf("", ""), "no text in 2 pages"),
    ],
)
def test_a_broken_pdf_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        part_named("parser", "pdf").parse(content, "", Limits())


def test_too_many_pages_are_refused() -> None:
    with pytest.raises(ParseLimitError, match="3 pages, at most 2"):
        part_named("parser", "pdf").parse(pdf("a", "b", "c"), "", Limits(pages_max=2))


@pytest.mark.parametrize(
    ("content_type", "uri", "name"),
    [
        ("", "a/b.md", "markdown"),
        ("text/plain", "a.md", "markdown"),
        ("text/html; charset=utf-8", "a", "html"),
        ("application/octet-stream", "x.PDF", "pdf"),
        ("text/csv", "x.csv", "csv"),
        ("text/plain", "x.jsonl", "json"),
        ("text/plain", "x.pdf", "text"),
        ("text/plain", "x.png", "text"),
        ("message/rfc822", "x", "email"),
        ("application/x-own", "x", "markdown"),
    ],
)
def test_a_parser_is_chosen_by_type_then_by_ending(content_type: str, uri: str, name: str) -> None:
    assert name == parser_for(content_type, uri, {"application/x-own": "markdown"})


def test_a_type_nobody_parses_is_refused() -> None:
    with pytest.raises(ParseError, match=r"video/mp4.*a\.mp4"):
        parser_for("video/mp4", "a.mp4")
