"""Documents made to hurt, each with the parser it is meant for and what the reason must say. None is kept as a file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from tests.rag.office_files import docx, email, pptx, xlsx
from tests.rag.pdfs import pdf
from tests.rag.pictures import huge_picture, picture

BOMB_BYTES = 250 << 20
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)

MAIN = {"docx": "word/document.xml", "pptx": "ppt/presentation.xml", "xlsx": "xl/workbook.xml"}
OFFICE = {"docx": docx("Hello."), "pptx": pptx(("Hello", "there.")), "xlsx": xlsx(S=[["Hello."]])}

_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BILLION_LAUGHS = f'<!DOCTYPE x [<!ENTITY l0 "ha">{_LAUGHS}]><x>&l9;</x>'.encode()
EXTERNAL = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
EXTERNAL_DTD = b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/evil.dtd"><x/>'


@dataclass(frozen=True)
class Hostile:
    """`make`: its bytes, made when asked for."""

    parser: str
    name: str
    reason: str
    """What stands in the status and in the dead letter: a regular expression."""
    make: Callable[[], bytes]

    @property
    def uri(self) -> str:
        ending = {"text": "txt", "markdown": "md", "email": "eml", "image": "png"}.get(self.parser, self.parser)
        return f"{self.name.replace(' ', '-')}-{self.parser}.{ending}"


def with_member(office: bytes, name: str, content: bytes) -> bytes:
    """The archive with one member put in, or put in its place."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(office)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
        new.writestr(name, content)
    return out.getvalue()


@cache
def zip_bomb(kind: str) -> bytes:
    return with_member(OFFICE[kind], MAIN[kind], bytes(BOMB_BYTES))


def lying_zip(kind: str) -> bytes:
    """A megabyte that says it is ten bytes, in both of its headers."""
    size = 1_234_567
    honest = with_member(OFFICE[kind], MAIN[kind], b" " * size)
    return honest.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little"))


def crowded_zip(kind: str) -> bytes:
    out = io.BytesIO(OFFICE[kind])
    with zipfile.ZipFile(out, "a") as file:
        for number in range(10_001):
            file.writestr(f"x{number}", b"")
    return out.getvalue()


def encrypted_zip(kind: str) -> bytes:
    """The flag that says so, in the central directory."""
    content = bytearray(OFFICE[kind])
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def encrypted_pdf() -> bytes:
    secret = "00" * 32
    rule = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{secret}> /U <{secret}> /P -4 >> /ID [<{secret}> <{secret}>]"
    return pdf("secret").replace(b"trailer << ", f"trailer << {rule} ".encode())


def deep_mime(levels: int) -> bytes:
    heads = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(levels))
    return f"Subject: deep\n{heads}\nend\n".encode()


def mails_in_mails(levels: int) -> bytes:
    content = email("The innermost.")
    for _ in range(levels):
        content = email("One more.", inner__eml=content)
    return content


def many_slides(count: int) -> bytes:
    ids = "".join(f'<sldId id="{n}"/>' for n in range(count))
    return with_member(
        OFFICE["pptx"], MAIN["pptx"], f"<presentation><sldIdLst>{ids}</sldIdLst></presentation>".encode()
    )


def many_sheets(count: int) -> bytes:
    sheets = "".join(f'<sheet name="s{n}"/>' for n in range(count))
    return with_member(OFFICE["xlsx"], MAIN["xlsx"], f"<workbook><sheets>{sheets}</sheets></workbook>".encode())


def huge_cell() -> bytes:
    row = f'<row><c t="inlineStr"><is><t>{"x" * 200_000}</t></is></c></row>'
    return with_member(
        OFFICE["xlsx"], "xl/worksheets/sheet1.xml", f"<worksheet><sheetData>{row}</sheetData></worksheet>".encode()
    )


def _office(kind: str) -> Iterator[Hostile]:
    part, good = MAIN[kind], OFFICE[kind]
    yield Hostile(kind, "zip bomb", r"archive_bytes_max.*zip bomb", lambda: zip_bomb(kind))
    yield Hostile(kind, "lying zip", "cannot be unpacked|broken XML", lambda: lying_zip(kind))
    yield Hostile(kind, "crowded zip", "archive_members_max", lambda: crowded_zip(kind))
    yield Hostile(kind, "path trick", "leads out of it", lambda: with_member(good, "../../evil.xml", b"x"))
    yield Hostile(kind, "absolute path", "leads out of it", lambda: with_member(good, "/etc/evil.xml", b"x"))
    yield Hostile(kind, "billion laughs", r"\(DTD\)", lambda: with_member(good, part, BILLION_LAUGHS))
    yield Hostile(kind, "external entity", r"\(DTD\)", lambda: with_member(good, part, EXTERNAL))
    yield Hostile(kind, "external DTD", r"\(DTD\)", lambda: with_member(good, part, EXTERNAL_DTD))
    yield Hostile(kind, "deep XML", "depth_max", lambda: with_member(good, part, b"<p>" * 100_000))
    yield Hostile(kind, "huge tag", "a tag or a comment", lambda: with_member(good, part, b"<p a='" + b"x" * (9 << 20)))
    yield Hostile(kind, "broken XML", "broken XML", lambda: with_member(good, part, b"<p><p></p>"))
    yield Hostile(kind, "encrypted zip", "encrypted", lambda: encrypted_zip(kind))
    yield Hostile(kind, "encrypted", "encrypted", lambda: OLD_OFFICE + "EncryptedPackage".encode("utf-16-le"))
    yield Hostile(kind, "before 2007", "before 2007", lambda: OLD_OFFICE)
    yield Hostile(kind, "truncated", "not a readable office file", lambda: good[: len(good) // 2])
    yield Hostile(kind, "text by that name", "not a readable office file", lambda: b"just text")


HOSTILE = [
    *(one for kind in MAIN for one in _office(kind)),
    Hostile("pptx", "10,000 slides", "10000 slides.*pages_max", lambda: many_slides(10_000)),
    Hostile("xlsx", "10,000 sheets", "10000 sheets.*pages_max", lambda: many_sheets(10_000)),
    Hostile("xlsx", "huge cell", "cell_chars_max", huge_cell),
    Hostile("pdf", "10,000 pages", "10000 pages.*pages_max", lambda: pdf(*["x"] * 10_000)),
    Hostile("pdf", "encrypted", "encrypted", encrypted_pdf),
    Hostile("pdf", "truncated", "not a readable PDF", lambda: pdf("x" * 500)[:300]),
    Hostile("pdf", "text by that name", "not a readable PDF", lambda: b"just text"),
    Hostile("pdf", "nothing", "not a readable PDF", lambda: b""),
    Hostile("csv", "unclosed quote", "cell_chars_max", lambda: b'a,"' + b"b,c\n" * 50_000),
    Hostile("csv", "huge cell", "cell_chars_max", lambda: b"x" * 200_000),
    Hostile("csv", "bytes", "NUL", lambda: bytes(range(256))),
    Hostile("json", "deep", "depth_max", lambda: b"[" * 100_000 + b"]" * 100_000),
    Hostile("json", "deep objects", "depth_max", lambda: b'{"a":' * 900 + b"1" + b"}" * 900),
    Hostile("json", "truncated", "not JSON", lambda: b'{"a": [1, 2'),
    Hostile("json", "too long", "text_chars_max", lambda: b"[" + b"1," * 6_000_000 + b"1]"),
    Hostile("email", "deep MIME", "attachments_max", lambda: deep_mime(5_000)),
    Hostile("email", "mails in mails", "attachments_depth_max", lambda: mails_in_mails(5)),
    Hostile("email", "attached bomb", "'bomb.docx'.*zip bomb", lambda: email("Look!", bomb__docx=zip_bomb("docx"))),
    Hostile(
        "email",
        "200 attachments",
        "attachments_max",
        lambda: email("x", "", "Many", **{f"a{n}__txt": b"x" for n in range(200)}),
    ),
    Hostile("email", "no header", "no e-mail", lambda: b"\n\njust text"),
    Hostile("image", "pixel bomb", "pixels_max", lambda: huge_picture(30_000)),
    Hostile("image", "larger pixel bomb", "pixels_max", lambda: huge_picture(400_000)),
    Hostile("image", "truncated", "not a readable picture", lambda: picture("Hello.")[:100]),
    Hostile("image", "text by that name", "not a readable picture", lambda: b"just text"),
    Hostile("html", "bytes", "NUL", lambda: bytes(range(256))),
    Hostile("markdown", "bytes", "NUL", lambda: bytes(range(256))),
    Hostile("text", "program", "program|NUL", lambda: b"\x7fELF" + bytes(64)),
    Hostile("text", "too many bytes", "content_bytes_max", lambda: b"x" * ((20 << 20) + 1)),
]
