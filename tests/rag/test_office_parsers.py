"""What is made of office files, tables, JSON and e-mail, and where in them each chunk says it stands."""

from __future__ import annotations

import contextlib
import io
import random
import re
import sys
import zipfile
from datetime import date, datetime, time
from email.message import EmailMessage
from typing import Any

import pytest

from millstream.rag.errors import ParseError, ParseLimitError, PartError
from millstream.rag.parser import Limits, Parsed
from millstream.rag.parsers.email import safe_name
from millstream.rag.parts import part_named
from millstream.rag.places import places
from millstream.rag.sniff import chosen_parser
from tests.rag.hostile import OFFICE, with_member
from tests.rag.office_files import docx, email, pptx, xlsx
from tests.rag.pdfs import pdf
from tests.rag.pictures import picture


def parsed(name: str, content: bytes, limits: Limits | None = None, **options: object) -> Parsed:
    return part_named("parser", name, options).parse(content, "", limits or Limits())


def placed(found: Parsed, chars_max: int = 40) -> list[tuple[str, dict[str, Any]]]:
    pieces = part_named("splitter", "recursive", {"chars_max": chars_max}).split(found.text)
    return [(piece.text, place) for piece, place in zip(pieces, places(found.marks, pieces), strict=True)]


def test_a_word_document() -> None:
    found = parsed(
        "docx",
        docx(
            "# Lamps",
            "Made in Jena.",
            "## Prices",
            "- Reading: 40",
            "|reading|40|",
            "# Clocks",
            "In Basel.",
            title="Shop",
        ),
    )
    assert found.text == (
        "# Lamps\n\nMade in Jena.\n\n## Prices\n\n- Reading: 40\n\nreading | 40\n\n# Clocks\n\nIn Basel."
    )
    assert found.metadata == {"title": "Shop"}
    assert [place["heading"] for _, place in placed(found, 20)] == [
        "Lamps", "Lamps", "Lamps > Prices", "Lamps > Prices", "Lamps > Prices", "Clocks",
    ]  # fmt: skip


def test_a_presentation() -> None:
    found = parsed(
        "pptx", pptx(("Lamps", "Made in Jena.\nOf glass."), ("Clocks", "In Basel."), notes="Smile.", title="Shop")
    )
    assert found.text == "## Lamps\n\nMade in Jena.\nOf glass.\n\n## Clocks\n\nIn Basel.\n\nNotes: Smile."
    assert found.metadata == {"slides": 2, "title": "Shop"}
    assert [place for _, place in placed(found)] == [
        {"slide": 1, "heading": "Lamps"},
        {"slide": 2, "heading": "Clocks"},
        {"slide": 2, "heading": "Clocks"},
    ]


def test_a_workbook() -> None:
    content = xlsx(
        Prices=[
            ["name", "price", "since"],
            ["lamp", 40.5, date(2024, 2, 29)],
            [None, 0.1 + 0.2, None],
            ["clock", 7, "-"],
        ],
        Empty=[],
        Days=[[datetime(2024, 2, 29, 13, 30), time(7, 15), True, "=1+1"]],
    )
    found = parsed("xlsx", content)
    assert found.text == (
        "## Prices\n\nname: lamp | price: 40.5 | since: 2024-02-29\nprice: 0.3\nname: clock | price: 7 | since: -\n\n"
        "## Empty\n\n## Days\n\n2024-02-29 13:30:00 | 07:15:00 | TRUE"
    )
    assert found.metadata == {"sheets": 3}
    assert placed(found, 60)[1] == (
        "name: lamp | price: 40.5 | since: 2024-02-29\nprice: 0.3",
        {"sheet": "Prices", "heading": "Prices", "row": 2, "row_end": 3},
    )


def test_rows_without_names_are_their_values() -> None:
    assert parsed("csv", b"1,2\n3,4").text == "1 | 2\n3 | 4"
    assert parsed("csv", b"a,b\n1,2", header=False).text == "a | b\n1 | 2"
    assert parsed("csv", b"1,2\n3,4", header=True).text == "1: 3 | 2: 4"
    assert parsed("csv", b"name,price\n").text == "name | price"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"name,price\nlamp,40\n\nclock,7", "name: lamp | price: 40\nname: clock | price: 7"),
        (b"name;price\nlamp;40,5", "name: lamp | price: 40,5"),
        (b"name\tprice\nlamp\t40", "name: lamp | price: 40"),
        (
            b'name,price\n"a lamp,\n red",40\nclock,7,extra',
            "name: a lamp, red | price: 40\nname: clock | price: 7 | extra",
        ),
        ("größe,preis\nklein,4 €".encode("cp1252"), "größe: klein | preis: 4 €"),
        (b"", ""),
    ],
)
def test_csv_is_read_by_its_delimiter(content: bytes, text: str) -> None:
    assert text == parsed("csv", content).text


def test_a_row_is_counted_as_in_a_spreadsheet() -> None:
    found = parsed("csv", b"name,price\n" + b"".join(b"lamp %d,40\n" % n for n in range(4)))
    assert [place for _, place in placed(found, 60)] == [{"row": 2, "row_end": 3}, {"row": 4, "row_end": 5}]


@pytest.mark.parametrize(
    ("content", "text", "paths"),
    [
        (b'{"a": {"b": 1, "c": [2, null, "x"]}, "d": true}', "a.b: 1\na.c: 2\na.c: x\nd: true", ["$"]),
        (b'[{"a": 1}, {"a": 2}]', "a: 1\n\na: 2", ["$[0]", "$[1]"]),
        (b'{"v": 1, "items": [{"a": 1}, {"a": 2}]}', "v: 1\n\na: 1\n\na: 2", ["$", "$.items[0]", "$.items[1]"]),
        (b'{"a": 1}\n{"a": 2}\n', "a: 1\n\na: 2", ["$[0]", "$[1]"]),
        (b'"just text"', "just text", ["$"]),
    ],
)
def test_json_is_lines_of_names_and_values(content: bytes, text: str, paths: list[str]) -> None:
    found = parsed("json", content)
    assert (found.text, [mark.value for mark in found.marks]) == (text, paths)


def test_an_e_mail_with_attachments() -> None:
    content = email(
        "See the prices.", "<p>See <b>the</b> prices.</p>", "Grüße", prices__csv=b"name,price\nlamp,40", page__pdf=pdf("A", "B"),
        photo__png=b"\x89PNG\r\n\x1a\n",
    )  # fmt: skip
    found = parsed("email", content)
    head = "# Grüße\n\nFrom: Ada <ada@example.org>\nTo: Bob <bob@example.org>\nDate: Sat, 28 Nov 2026 10:00:00 +0000"
    tail = "Attachment: prices.csv\n\nname: lamp | price: 40\n\nAttachment: page.pdf\n\nA\n\nB"
    assert found.text == f"{head}\n\nSee the prices.\n\n{tail}"
    assert found.metadata["attachments"] == ["prices.csv", "page.pdf", "photo.png"]
    assert [one.partition(":")[0] for one in found.metadata["attachments_unread"]] == ["photo.png"]
    assert found.metadata["date"] == "2026-11-28T10:00:00+00:00"
    assert placed(found, 20)[-1] == ("A\n\nB", {"attachment": "page.pdf", "page": 1, "page_end": 2})
    assert placed(found, 20)[-3] == ("| price: 40", {"attachment": "prices.csv", "row": 2})


def test_html_is_read_where_there_is_no_plain_text() -> None:
    message = EmailMessage()
    message["Subject"] = "Hello"
    message.set_content("<h1>Big</h1><p>news</p>", subtype="html")
    assert parsed("email", message.as_bytes()).text == "# Hello\n\n# Big\n\nnews"


def test_an_e_mail_in_an_e_mail() -> None:
    inner = email("The inner text.", subject="Inner", sheet__xlsx=xlsx(S=[["deep", "down"]]))
    found = parsed("email", email("The outer text.", subject="Outer", mail__eml=inner))
    assert "The outer text." in found.text
    assert "The inner text." in found.text
    assert placed(found)[-1][1]["attachment"] == "sheet.xlsx"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system.ini", "system.ini"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("..", ""),
        ("x\0y\n.txt", "xy.txt"),
        ("a" * 500 + ".txt", "a" * 196 + ".txt"),
    ],
)
def test_a_name_is_a_label(name: str, shown: str) -> None:
    assert shown == safe_name(name)


@pytest.mark.parametrize(
    ("content", "content_type", "uri", "name"),
    [
        (pdf("x"), "text/plain", "notes.txt", "pdf"),
        (docx("x"), "application/pdf", "a.pdf", "docx"),
        (xlsx(S=[["x"]]), "", "no ending", "xlsx"),
        (pptx(("x", "y")), "application/octet-stream", "a.docx", "pptx"),
        (b"plain", "application/pdf", "a.pdf", "pdf"),
        (b"\x89PNG\r\n\x1a\n", "text/plain", "a.txt", "image"),
        (b"plain", "", "a.txt", "text"),
        (b"PK\x03\x04broken", "", "a.docx", "docx"),
    ],
)
def test_what_the_bytes_say_wins_over_the_name(content: bytes, content_type: str, uri: str, name: str) -> None:
    assert name == chosen_parser(content, content_type, uri)


@pytest.mark.parametrize("limits", [Limits(pages_max=1), Limits(cell_chars_max=3), Limits(archive_members_max=3)])
def test_limits_of_a_workbook(limits: Limits) -> None:
    with pytest.raises(ParseLimitError):
        parsed("xlsx", xlsx(A=[["some text"]], B=[["more text"]]), limits)


def test_an_unclosed_quote_is_a_huge_cell() -> None:
    with pytest.raises(ParseLimitError, match="an unclosed quote"):
        parsed("csv", b'a,"' + b"b,c\n" * 50_000)


def test_the_wrong_kind_of_office_file_is_refused() -> None:
    with pytest.raises(ParseError, match=r"no xl/workbook\.xml"):
        parsed("xlsx", docx("x"))


def test_a_picture_is_read_line_by_line() -> None:
    found = parsed("image", picture("The lamp is made", "in Jena."))
    assert (found.text, found.metadata) == ("The lamp is made\nin Jena.", {"width": 640, "height": 160})


def test_a_picture_without_text_is_refused() -> None:
    with pytest.raises(ParseError, match="no text was found"):
        parsed("image", picture(""))


def _mutated(xml: str, draw: random.Random) -> str:
    """Attributes and texts put in place of others, elements doubled or put inside themselves."""
    tokens = re.findall(r"<[^>]*>|[^<]+", xml)
    odd = ["", "-1", "9" * 20, "A", "XFD1048577", "s", "../../x", "1e999", "nan"]
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(tokens))
        element = re.match(r"<([\w:]+)[ >]", tokens[at])
        if not tokens[at].startswith("<"):
            tokens[at] = draw.choice(odd)
        elif draw.random() < 0.6:
            tokens[at] = re.sub(r'="[^"]*"', lambda _: f'="{draw.choice(odd)}"', tokens[at], count=2)
        elif tokens[at].endswith("/>"):
            tokens[at] *= 3
        elif element:
            tokens[at] += f"<{element[1]}></{element[1]}>"
    return "".join(tokens)


@pytest.mark.parametrize("kind", OFFICE)
def test_an_odd_office_file_gives_text_or_a_parse_error(kind: str) -> None:
    draw = random.Random(kind)
    good = OFFICE[kind]
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        names = [name for name in archive.namelist() if not re.search("theme|Layout|docProps", name) and "xml" in name]
        parts = {name: archive.read(name).decode() for name in names}
    for _ in range(40):
        name = draw.choice(sorted(parts))
        with contextlib.suppress(ParseError):
            parsed(kind, with_member(good, name, _mutated(parts[name], draw).encode())).text.encode()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(PartError, match=r"pip install 'millstream\[ocr\]'"):
        parsed("image", picture("x"))
