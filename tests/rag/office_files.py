"""Office files and e-mails, written by the libraries that people write them with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any

import docx as python_docx
import openpyxl
import pptx as python_pptx

EPOCH = (1980, 1, 1, 0, 0, 0)


def saved(file: Any) -> bytes:
    out = io.BytesIO()
    file.save(out)
    return out.getvalue()


def docx(*paragraphs: str, title: str = "") -> bytes:
    """Paragraphs; one that begins with `#`s is a heading, one with `- ` an item, one with `|` a row of a table."""
    file = python_docx.Document()
    file.core_properties.title = title
    for text in paragraphs:
        marks, _, rest = text.partition(" ")
        if marks and not marks.strip("#"):
            file.add_heading(rest, len(marks))
        elif marks == "-":
            file.add_paragraph(rest, style="List Bullet")
        elif text.startswith("|"):
            cells = text.strip("|").split("|")
            for cell, value in zip(file.add_table(1, len(cells)).rows[0].cells, cells, strict=True):
                cell.text = value
        else:
            file.add_paragraph(text)
    return saved(file)


def pptx(*slides: tuple[str, str], notes: str = "", title: str = "") -> bytes:
    """Slides of a title and a text; the notes are those of the last."""
    file = python_pptx.Presentation()
    file.core_properties.title = title
    for heading, text in slides:
        slide = file.slides.add_slide(file.slide_layouts[1])
        slide.shapes.title.text = heading
        slide.placeholders[1].text = text
        if notes and (heading, text) == slides[-1]:
            slide.notes_slide.notes_text_frame.text = notes
    return saved(file)


def xlsx(**sheets: Sequence[Sequence[object]]) -> bytes:
    """Sheets by name, each of rows."""
    file = openpyxl.Workbook()
    file.remove(file.active)
    for name, rows in sheets.items():
        sheet = file.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    return saved(file)


def email(text: str, html: str = "", subject: str = "Hello", **attachments: bytes) -> bytes:
    """`attachments` by name, with `__` for the dot."""
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "Ada <ada@example.org>"
    message["To"] = "Bob <bob@example.org>"
    message["Date"] = "Sat, 28 Nov 2026 10:00:00 +0000"
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    for name, content in attachments.items():
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=name.replace("__", ".")
        )
    return message.as_bytes()
