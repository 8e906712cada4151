"""E-mail (.eml, RFC 5322 and MIME): the header, the text, and the attachments, each read by its own parser.

Of alternatives the plain text is taken, else the HTML. What is attached is read where its kind is known; what is not (a
picture, a broken file) is named in the metadata with the reason, and the rest is indexed. An attachment that goes beyond a
limit (a zip bomb, the fourth e-mail in an e-mail) fails the whole e-mail: it is not there by accident.

Names of attachments are labels: nothing is written anywhere, folders and control characters are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from email import errors, message_from_bytes, policy
from email.header import decode_header
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Final

from ..blocks import Blocks, clean
from ..errors import ParseError, ParseLimitError
from ..parser import Limits, Parsed
from ..parts import part_named
from ..sniff import chosen_parser
from .text import decoded

_MULTIPARTS = re.compile(rb"(?im)^content-type:\s*(?:multipart/|message/)")
_HEADER = re.compile(rb"(?m)\A(?:From [^\n]*\n)?(?:[!-9;-~]+:[^\n]*\n|[ \t][^\n]*\n){1,2000}")
_NOT_READ: Final = frozenset({"image", "audio"})
"""Each takes seconds, and every signature has a logo."""
_NAME_CHARS_MAX: Final = 200
_HEADER_CHARS_MAX: Final = 1_000
_DISPLAY = re.compile("[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Email:
    """The metadata has `title` (the subject), `from`, `to`, `date`, `attachments`, `attachments_unread`.

    A chunk's place: `heading`; in an attachment its name as `attachment`, and what its own parser gives (`page`, `sheet`, ...).
    """

    def fingerprint(self) -> str:
        return "email/1"

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError for what is no e-mail; ParseLimitError: too many parts, nested too deep, an attachment's limit."""
        limits.check_bytes(content)
        lines = content.replace(b"\r\n", b"\n")
        if not _HEADER.match(lines):
            raise ParseError("no e-mail: it does not begin with a header such as 'Subject: ...'")
        parts = sum(1 for _ in _MULTIPARTS.finditer(lines))
        if parts > limits.attachments_max:
            raise ParseLimitError(
                f"the e-mail has {parts} multipart bodies, at most {limits.attachments_max} (attachments_max)"
            )
        try:
            message = message_from_bytes(lines, policy=policy.compat32)
            return _Reader(limits).parsed(message)
        except (errors.MessageError, LookupError, ValueError, RecursionError) as error:
            raise ParseError(f"no readable e-mail: {type(error).__name__}: {error}") from None


class _Reader:
    """One e-mail to blocks."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._blocks = Blocks(limits)
        self._names: list[str] = []
        self._unread: list[str] = []

    def parsed(self, message: Message) -> Parsed:
        said = {name: _header(message, name) for name in ("subject", "from", "to", "cc", "date")}
        self._blocks.heading(1, said["subject"])
        self._blocks.add(
            "\n".join(f"{name.title()}: {said[name]}" for name in ("from", "to", "cc", "date") if said[name])
        )
        attached = list(self._bodies(message))
        if len(attached) > self._limits.attachments_max:
            raise ParseLimitError(
                f"the e-mail has {len(attached)} attachments, at most {self._limits.attachments_max} (attachments_max)"
            )
        for part in attached:
            self._attach(part)
        metadata = {"title": said["subject"], "from": said["from"], "to": said["to"], "date": _moment(said["date"])}
        lists = {"attachments": self._names, "attachments_unread": self._unread}
        return self._blocks.parsed({name: value for name, value in (metadata | lists).items() if value})

    def _bodies(self, part: Message) -> Iterator[Message]:
        """Adds the bodies to the blocks; gives what is attached."""
        kind = part.get_content_type()
        if kind == "multipart/alternative" and part.is_multipart():
            yield from self._bodies(_preferred([one for one in part.get_payload() if isinstance(one, Message)]))
        elif part.get_content_maintype() == "multipart" and part.is_multipart():
            for one in part.get_payload():
                yield from self._bodies(one) if isinstance(one, Message) else ()
        elif kind in {"text/plain", "text/html"} and not _is_attached(part):
            self._add_body(part, "html" if kind == "text/html" else "text")
        else:
            yield part

    def _add_body(self, part: Message, parser: str) -> None:
        parsed = part_named("parser", parser).parse(_content(part), str(part.get("content-type", "")), self._within())
        if parser == "text":
            self._blocks.add(parsed.text)
        else:
            self._blocks.adopt(parsed)

    def _attach(self, part: Message) -> None:
        name = safe_name(part.get_filename() or "") or f"attachment {len(self._names) + 1}"
        self._names.append(name)
        kind = "" if part.get_content_type() == "application/octet-stream" else part.get_content_type()
        try:
            content = _content(part)
            parser = chosen_parser(content, kind, name)
            if parser in _NOT_READ:
                raise ParseError("pictures and sound in an e-mail are not read")
            parsed = part_named("parser", parser).parse(
                content, str(part.get("content-type", "")), self._inside(parser)
            )
        except ParseLimitError as error:
            raise ParseLimitError(f"attachment {name!r}: {error}") from None
        except ParseError as error:
            self._unread.append(f"{name}: {error}"[:_HEADER_CHARS_MAX])
            return
        self._blocks.leave()
        self._blocks.mark("attachment", name)
        self._blocks.add(f"Attachment: {name}")
        self._blocks.adopt(parsed)

    def _within(self) -> Limits:
        return replace(self._limits, text_chars_max=self._limits.text_chars_max - self._blocks.chars)

    def _inside(self, parser: str) -> Limits:
        if parser != "email":
            return self._within()
        if self._limits.attachments_depth_max <= 1:
            raise ParseLimitError("e-mails are attached to one another too deep (attachments_depth_max)")
        return replace(self._within(), attachments_depth_max=self._limits.attachments_depth_max - 1)


def _preferred(alternatives: list[Message]) -> Message:
    """Plain text, else HTML, else the last, which the sender thinks best."""
    for kind in ("text/plain", "text/html"):
        found = [one for one in alternatives if one.get_content_type() == kind]
        if found:
            return found[0]
    return alternatives[-1] if alternatives else Message()


def _is_attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or bool(part.get_filename())


def _content(part: Message) -> bytes:
    if part.get_content_maintype() == "message" and part.is_multipart():
        payload = part.get_payload()
        return b"\n".join(one.as_bytes() for one in payload if isinstance(one, Message))
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _header(message: Message, name: str) -> str:
    raw = str(message.get(name, ""))[:_HEADER_CHARS_MAX]
    parts = []
    for data, charset in decode_header(raw):
        text = data if isinstance(data, str) else decoded(data, f"charset={charset or 'utf-8'}", Limits())
        parts.append(text)
    return " ".join(clean("".join(parts)).split())


def _moment(date: str) -> str:
    """ISO 8601, or as it stands where it is no date."""
    try:
        return parsedate_to_datetime(date).isoformat() if date else ""
    except (ValueError, TypeError, IndexError, OverflowError):
        return date


def safe_name(name: str) -> str:
    """A file's name to be shown: the part after the last slash, without marks that turn the direction of writing."""
    shown = _DISPLAY.sub("", clean(name).replace("\\", "/").rpartition("/")[2]).strip(" .")
    return shown[-_NAME_CHARS_MAX:]
