"""Pictures of live documents (`docs/rag.md`): the topics and steps of a pipeline as it is planned, and one edit as it was worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from millstream import App
from millstream.ops.describe.outline import outline_of
from millstream.rag.document import Document
from millstream.rag.messages import write_document
from millstream.rag.operators.ingest import STATUS, UPDATES, Ingest
from millstream.rag.parse_job import Part
from millstream.rag.pipeline import document_pipeline
from millstream.rag.settings import IngestSettings
from millstream.rag.updates import read_update
from tests.docs.drawing import Drawing
from tests.rag.running import Record, Running

HIGH = 44
"""Of a topic or a step, px."""


@dataclass(frozen=True)
class Box:
    """Where a topic, a step or the index stands."""

    x: float
    y: float
    width: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> float:
        return self.y + HIGH / 2


class Way:
    """Topics are round, steps square, the index has a double line."""

    def __init__(self, title: str, told: str, height: float) -> None:
        self.drawing = Drawing(title, told, height)

    def topic(self, box: Box, name: str, what: str) -> Box:
        self._rectangle(box, "shade axis", HIGH / 2)
        return self._named(box, name, what)

    def step(self, box: Box, name: str, what: str) -> Box:
        self._rectangle(box, "bar", 3)
        return self._named(box, name, what)

    def index(self, box: Box, name: str, what: str) -> Box:
        self._rectangle(Box(box.x - 4, box.y, box.width + 8), "half", 6, around=4)
        self._rectangle(box, "half", 3)
        return self._named(box, name, what)

    def arrow(self, *points: tuple[float, float], kind: str = "blue") -> None:
        self.drawing.path(points, kind)
        (x1, y1), (x, y) = points[-2:]
        along = (x > x1) - (x < x1), (y > y1) - (y < y1)
        across = along[1], along[0]
        back = x - 9 * along[0], y - 9 * along[1]
        corners = [(x, y), (back[0] + 5 * across[0], back[1] + 5 * across[1])]
        corners.append((back[0] - 5 * across[0], back[1] - 5 * across[1]))
        told = " L".join(f"{a:g},{b:g}" for a, b in corners)
        self.drawing.signs.append(f'<path class="{"amber-text" if kind == "amber" else "dot"}" d="M{told} z"/>')

    def between(self, left: Box, right: Box) -> None:
        """An arrow from one to the other, with a corner half way where they stand at different heights."""
        middle = (left.right + right.x) / 2
        corners = [(middle, left.middle), (middle, right.middle)] if left.middle != right.middle else []
        self.arrow((left.right, left.middle), *corners, (right.x, right.middle))

    def _rectangle(self, box: Box, kind: str, radius: float, around: float = 0) -> None:
        size = f'width="{box.width:g}" height="{HIGH + 2 * around:g}" rx="{radius:g}"'
        self.drawing.parts.append(f'<rect class="{kind}" x="{box.x:g}" y="{box.y - around:g}" {size}/>')

    def _named(self, box: Box, name: str, what: str) -> Box:
        self.drawing.text(box.x + box.width / 2, box.y + 19, name, "strong", "middle")
        self.drawing.text(box.x + box.width / 2, box.y + 35, what, "soft", "middle")
        return box


# -- the way of documents and of questions

WHAT = {
    "documents": "by document id",
    "index-updates": "chunk and vector",
    "documents-status": "what became of it",
    "dead-letters": "with the reason",
    "queries": "by question id",
    "answers": "with their sources",
    "retrievals": "chunks alone",
}


DRAWN = {
    ("help.documents", "ingest"),
    ("ingest", "help.index-updates"),
    ("ingest", "help.documents-status"),
    ("help.queries", "answer"),
    ("answer", "help.answers"),
    ("answer", "help.retrievals"),
}
"""What the plan must say. Dead letters, and what the index reads and asks, are no part of a plan."""


def way() -> Drawing:
    """Topics, steps, and what reads and writes what, are those of the plan: with another plan there is no picture."""
    app = App("help")
    pipeline = document_pipeline(app, embedder="hashing")
    planned = {tuple(end.partition(":")[2] for end in arrow) for arrow in outline_of(app).as_json()["arrows"]}
    assert planned == DRAWN, planned ^ DRAWN
    told = (
        "Documents go through the step ingest to the topic index-updates. Every answering worker reads all of that topic into "
        "its index. Questions go through the step answer, which looks into the index, to answers. A standing question is put "
        "into the topic of questions again when its chunks have changed."
    )
    shown = Way("The way of a document, and of a question", told, 416)
    columns = {"documents": (20, 70), "queries": (20, 340)} | {
        "index_updates": (500, 70),
        "documents_status": (650, 140),
        "dead_letters": (500, 140),
        "answers": (500, 340),
        "retrievals": (650, 340),
    }
    boxes = {}
    for name, (x, y) in columns.items():
        short = getattr(pipeline.settings.topics, name).removeprefix("help.")
        boxes[name] = shown.topic(Box(x, y, 142), short, WHAT[short])
    ingest = shown.step(Box(230, 70, 210), pipeline.ingest.kind, "parse, split, diff, embed")
    answer = shown.step(Box(230, 340, 210), pipeline.answer.kind, "retrieve, rerank, ask")
    index = shown.index(Box(230, 210, 210), "index", "in each answering worker")
    _arrows(shown, boxes, ingest, answer, index)
    shown.drawing.text(20, 52, "files, programs", "soft")
    shown.drawing.text(20, 402, "programs, HTTP, other streams", "soft")
    return shown.drawing


def _arrows(shown: Way, boxes: dict[str, Box], ingest: Box, answer: Box, index: Box) -> None:
    shown.between(boxes["documents"], ingest)
    shown.between(ingest, boxes["index_updates"])
    for name in ("dead_letters", "documents_status"):
        x = boxes[name].x + 71
        shown.arrow((ingest.right, 106), (468, 106), (468, 128), (x, 128), (x, 140))
    updates = boxes["index_updates"]
    shown.arrow((updates.right, updates.middle), (806, updates.middle), (806, index.middle), (444, index.middle))
    shown.drawing.text(456, index.middle - 8, "all partitions, committed records only", "soft")
    shown.arrow((370, index.y + HIGH + 6), (370, answer.y))
    shown.drawing.text(380, 300, "chunks, and the positions they stand for", "soft")
    shown.between(boxes["queries"], answer)
    shown.between(answer, boxes["answers"])
    x = boxes["retrievals"].x + 71
    shown.arrow((answer.right, 354), (468, 354), (468, 328), (x, 328), (x, 340))
    shown.arrow((226, index.middle), (91, index.middle), (91, 340), kind="amber")
    shown.drawing.text(98, 262, "standing: its chunks", "amber-text")
    shown.drawing.text(98, 278, "are others, ask again", "amber-text")


# -- one edit

BEFORE = (
    "The lamp is made in Jena.",
    "It costs 40 euros.",
    "Its bulb is changed without tools.",
    "The cable is two metres.",
)
AFTER = ("New: a lamp for walls, too.", "The lamp is made in Jena.", "It costs 45 euros.", "The cable is two metres.")
LINE = 34


def edit() -> Drawing:
    """Two versions of one document, through the step `ingest`: what is on this picture is what it wrote."""
    first, second, status = asyncio.run(_worked_on())
    told = "Chunks of two versions of a document: those that stayed the same, wherever they stand, are neither embedded nor written."
    rows = max(len(BEFORE), len(AFTER))
    drawing = Drawing("One edit: what is worked on again", told, 138 + LINE * rows)
    held = dict(first)
    written = {text for text in dict(second).values() if text is not None}
    gone = {held[key] for key, text in second if text is None}
    places = {text: 66 + LINE * number for number, text in enumerate(BEFORE)}
    drawing.text(20, 54, "version 1", "soft")
    drawing.text(460, 54, "version 2", "soft")
    for text, y in places.items():
        drawing.bar(20, 300, y, text)
        if text in gone:
            drawing.cross(318, y + 10)
            drawing.text(332, y + 14, "removed", "amber-text")
    for number, text in enumerate(AFTER):
        y = 66 + LINE * number
        drawing.bar(460, 720, y, text)
        if text in written:
            drawing.dot(738, y + 10)
            drawing.text(752, y + 14, "embedded", "soft")
        else:
            drawing.line(300, places[text] + 10, 460, y + 10, "axis")
    y = 96 + LINE * rows
    drawing.text(20, y, "documents-status:", "soft")
    drawing.text(150, y, ", ".join(f"{name} {status[name]}" for name in ("chunks", "embedded", "reused")), "code")
    drawing.text(20, y + 24, "index-updates, in one commit:", "soft")
    drawing.text(220, y + 24, f"{len(written)} chunks with their vectors, {len(gone)} without a value", "code")
    return drawing


Texts = Sequence[tuple[bytes | None, str | None]]


async def _worked_on() -> tuple[Texts, Texts, dict[str, int]]:
    """Records of index-updates of either version, and the status of the second."""
    step = Ingest(IngestSettings(embedder=Part("hashing"), splitter=Part("recursive", {"chars_max": 40})))
    running = Running(step)
    try:
        records = []
        for version, sentences in enumerate((BEFORE, AFTER), 1):
            document = Document("lamp.md", text="\n\n".join(sentences), content_type="text/markdown", version=version)
            await running.process([(b"lamp.md", write_document(document))])
            running.commit()
            records.append(_texts(running.outputs.pop(UPDATES)))
        return records[0], records[1], orjson.loads(running.outputs[STATUS][-1][1] or b"")
    finally:
        running.operator.close()


def _texts(records: Sequence[Record]) -> Texts:
    return [(key, None if value is None else read_update(key, value).chunk.text) for key, value in records]
