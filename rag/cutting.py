"""Cuts text at the largest unit that fits, and knows where each piece stood: what the splitters are made of. Pure.

Paragraphs, then lines, sentences, words, characters; small neighbours are joined. A boundary may depend on the pieces beside it
only, never on the distance from the top, or an inserted line would shift every boundary below it. So a chunk ends when the next
piece does not fit, and also, once it is half full, after any piece whose checksum is even: two versions of a text fall into step
again a few pieces after an edit. (Content-defined chunking, as rsync and LBFS do it: Muthitacharoen et al., "A low-bandwidth
network file system", 2001.)

Sizes are those of `size`: characters (`len`), or tokens. It is taken piece by piece and added up, with that of what joins them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from .splitter import Piece

Size = Callable[[str], int]

PARAGRAPHS, LINES, SENTENCES, WORDS = range(4)

_CUTS: Final = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…。！？])[\"')\]]*\s+"),
    re.compile(r"\s+"),
)
_JOINTS: Final = ("\n\n", "\n", " ", " ")


def cut(text: str, size_max: int, size: Size = len, offset: int = 0, level: int = PARAGRAPHS) -> list[Piece]:
    """Pieces of at most `size_max`, none blank, in their order. `offset`: where `text` stands in the document."""
    whole = trimmed(text, offset)
    if not whole.text:
        return []
    if size(whole.text) <= size_max:
        return [whole]
    if level == len(_CUTS):
        return _slices(whole, size_max, size)
    return _joined(units(whole, level), size_max, size, level)


def trimmed(text: str, offset: int) -> Piece:
    """Without the white space around it."""
    bare = text.strip()
    start = offset + len(text) - len(text.lstrip()) if bare else offset
    return Piece(bare, start, start + len(bare))


def units(whole: Piece, level: int) -> list[Piece]:
    """Cut at every boundary of this level; what stands before the white space stays (a sentence keeps its quote mark)."""
    stops = [match.end() for match in _CUTS[level].finditer(whole.text)]
    spans = zip([0, *stops], [*stops, len(whole.text)], strict=True)
    pieces = (trimmed(whole.text[start:stop], whole.start + start) for start, stop in spans)
    return [piece for piece in pieces if piece.text]


def sentences(text: str, size_max: int, size: Size = len) -> list[Piece]:
    """The text's sentences; a paragraph ends one too. One that is longer than `size_max` is cut."""
    paragraphs = units(trimmed(text, 0), PARAGRAPHS)
    whole = (sentence for paragraph in paragraphs for sentence in units(paragraph, SENTENCES))
    return [piece for sentence in whole for piece in cut(sentence.text, size_max, size, sentence.start, LINES)]


def joint_between(text: str, before: Piece, after: Piece) -> str:
    """What joins neighbours of a text as they were: a blank line, a line's end or a space."""
    ends = text.count("\n", before.stop, after.start)
    return " " if ends == 0 else "\n" if ends == 1 else "\n\n"


def join_as_written(text: str, pieces: list[Piece]) -> Piece:
    """Neighbours as one, with lines and paragraphs kept apart."""
    joints = (joint_between(text, before, after) for before, after in pairwise(pieces))
    rest = "".join(f"{joint}{piece.text}" for joint, piece in zip(joints, pieces[1:], strict=True))
    return Piece(pieces[0].text + rest, pieces[0].start, pieces[-1].stop)


def is_boundary(piece: Piece) -> bool:
    """After half of all pieces, by what they say: where a chunk that is full enough ends."""
    return zlib.crc32(piece.text.encode("utf-8", "surrogatepass")) % 2 == 0


def join(pieces: list[Piece], joint: str) -> Piece:
    """Neighbours as one."""
    return Piece(joint.join(piece.text for piece in pieces), pieces[0].start, pieces[-1].stop)


def _slices(whole: Piece, size_max: int, size: Size) -> list[Piece]:
    """By characters, where there is no white space left: halves, until each fits."""
    starts = range(0, len(whole.text), size_max)
    return [
        fitting
        for start in starts
        for fitting in _halved(whole.text[start : start + size_max], whole.start + start, size_max, size)
    ]


def _halved(text: str, offset: int, size_max: int, size: Size) -> list[Piece]:
    piece = trimmed(text, offset)
    if not piece.text:
        return []
    if len(text) == 1 or size(text) <= size_max:
        return [piece]
    middle = len(text) // 2
    return _halved(text[:middle], offset, size_max, size) + _halved(text[middle:], offset + middle, size_max, size)


def _joined(pieces: list[Piece], size_max: int, size: Size, level: int) -> list[Piece]:
    chunks: list[Piece] = []
    held: list[Piece] = []
    filled, joint = 0, _JOINTS[level]
    gap = size(joint)
    for piece in pieces:
        length = size(piece.text)
        if held and filled + gap + length > size_max:
            chunks.append(join(held, joint))
            held, filled = [], 0
        if length > size_max:
            chunks += cut(piece.text, size_max, size, piece.start, level + 1)
            continue
        filled += length + (gap if held else 0)
        held.append(piece)
        if filled * 2 >= size_max and is_boundary(piece):
            chunks.append(join(held, joint))
            held, filled = [], 0
    return [*chunks, join(held, joint)] if held else chunks
