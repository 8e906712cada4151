"""Office files (docx, pptx, xlsx): a zip archive of XML parts that name each other by relations. ECMA-376, parts 1 and 2.

Read as a stream: expat calls a handler, no tree is made, nothing is ever written to disk. So a part of any size costs what its
handler keeps. Refused, each with its reason, before anything is unpacked: archives that would unpack to more than
`archive_bytes_max`, too many members, names that lead out of the archive, encryption. Refused while reading: a document type
(DTD) in any part, since only there entities can be declared, to multiply (the "billion laughs") or to be fetched; and
elements nested deeper than `depth_max`.

What this does not do: macros, embedded objects, pictures, the binary formats before 2007.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Final, Protocol
from xml.parsers import expat

from .errors import ParseError, ParseLimitError
from .parser import Limits

OLD_OFFICE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How a compound file begins: Office before 2007, and every Office file with a password."""

_READ_BYTES: Final = 1 << 16
_TAG_BYTES_MAX: Final = 4 << 20
_LEADS_OUT = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:|\0")
_TITLE_CHARS_MAX: Final = 300

Attributes = Mapping[str, str]


class Handler(Protocol):
    """Hears of one part's XML, names without their namespaces."""

    def start(self, name: str, attributes: Attributes) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, data: str) -> None: ...


def attribute(attributes: Attributes, name: str) -> str:
    """With a namespace or without one; empty where there is none. One in a namespace wins (`r:id` over `id`)."""
    marked = f" {name}"
    return next((value for key, value in attributes.items() if key.endswith(marked)), attributes.get(name, ""))


class Archive:
    """An office file's parts by name. Raises ParseError, ParseLimitError."""

    def __init__(self, content: bytes, limits: Limits) -> None:
        limits.check_bytes(content)
        self._limits = limits
        self._left = limits.archive_bytes_max
        if content.startswith(OLD_OFFICE):
            raise ParseError(old_office(content))
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise ParseError(f"not a readable office file, or a part of one: {error}") from None
        self._check()

    def _check(self) -> None:
        members = self._zip.infolist()
        if len(members) > self._limits.archive_members_max:
            raise ParseLimitError(
                f"the archive has {len(members)} members, at most {self._limits.archive_members_max} (archive_members_max)"
            )
        size = sum(member.file_size for member in members)
        if size > self._limits.archive_bytes_max:
            raise _too_large(f"{size}", self._limits)
        for member in members:
            if _LEADS_OUT.search(member.orig_filename):
                raise ParseError(f"the archive has a member whose name leads out of it: {member.orig_filename[:100]!r}")
            if member.flag_bits & 1:
                raise ParseError("the archive is encrypted, and no password is known here: give a copy without one")

    def has(self, part: str) -> bool:
        return part in self._zip.NameToInfo

    def read(self, part: str, handler: Handler) -> None:
        """All of a part's XML to the handler."""
        try:
            with self._zip.open(part) as file:
                _parse(file, part, handler, self._take, self._limits)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
            NotImplementedError,
            KeyError,
        ) as error:
            raise ParseError(f"{part} cannot be unpacked: {error}") from None

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _too_large("more", self._limits)

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """By id: the last word of the kind, and the part that is meant. What lies outside the archive is left out."""
        folder, _, name = part.rpartition("/")
        page = posixpath.join(folder, "_rels", f"{name}.rels")
        found = _Relations(folder)
        if self.has(page):
            self.read(page, found)
        return {key: (kind, target) for key, (kind, target) in found.found.items() if self.has(target)}

    def main_part(self, usual: str) -> str:
        """The one that the archive begins with."""
        folder = usual.partition("/")[0] + "/"
        begins = [target for kind, target in self.relations("").values() if kind == "officeDocument"]
        named = [target for target in begins if target.startswith(folder)]
        part = named[0] if named else usual
        if not self.has(part):
            raise ParseError(f"the archive has no {usual}: another kind of file, or a broken one")
        return part

    def title(self) -> dict[str, str]:
        """`title`, as the file's properties have it."""
        found = Texts("title")
        if self.has("docProps/core.xml"):
            self.read("docProps/core.xml", found)
        title = " ".join("".join(found.found[:1]).split())[:_TITLE_CHARS_MAX]
        return {"title": title} if title else {}


def old_office(content: bytes) -> str:
    """Why a compound file is not read."""
    if "EncryptedPackage".encode("utf-16-le") in content:
        return "the office file is encrypted, and no password is known here: give a copy without one"
    return "an office file of before 2007 (.doc, .ppt, .xls): save it as .docx, .pptx or .xlsx"


def _too_large(size: str, limits: Limits) -> ParseLimitError:
    return ParseLimitError(
        f"the archive unpacks to {size} bytes, at most {limits.archive_bytes_max} (archive_bytes_max): a zip bomb?"
    )


def _parse(file: IO[bytes], part: str, handler: Handler, take: Callable[[int], None], limits: Limits) -> None:
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        limits.check_depth(depth, f"the elements of {part}")
        handler.start(name.rpartition(" ")[2], attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(name.rpartition(" ")[2])

    def refuse(*_: object) -> None:
        raise ParseError(f"{part} declares a document type (DTD): entities are neither made nor fetched")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, handler.text
    parser.StartDoctypeDeclHandler = refuse
    try:
        read = 0
        while data := file.read(_READ_BYTES):
            read += len(data)
            take(len(data))
            parser.Parse(data)
            if read - max(0, parser.CurrentByteIndex) > _TAG_BYTES_MAX:  # looked at again with every piece that is read
                raise ParseLimitError(f"{part} has a tag or a comment of more than {_TAG_BYTES_MAX} bytes")
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ParseError(f"{part} is broken XML: {error}") from None


class Texts:
    """The texts of all elements of a name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inside = False
        self.found: list[str] = []

    def start(self, name: str, attributes: Attributes) -> None:
        if name == self._name:
            self._inside = True
            self.found.append("")

    def end(self, name: str) -> None:
        self._inside = self._inside and name != self._name

    def text(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data


class _Relations:
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.found: dict[str, tuple[str, str]] = {}

    def start(self, name: str, attributes: Attributes) -> None:
        if name != "Relationship" or attributes.get("TargetMode") == "External":
            return
        target = posixpath.normpath(posixpath.join("/", self._folder, attributes.get("Target", "")))
        self.found[attributes.get("Id", "")] = (attributes.get("Type", "").rpartition("/")[2], target.lstrip("/"))

    def end(self, name: str) -> None:
        """Relations have nothing inside."""

    def text(self, data: str) -> None:
        """Nor any text."""
