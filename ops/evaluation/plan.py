"""What is to be evaluated: whose settings, which documents and questions, in which configurations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...rag.document import Document
from ...rag.errors import MessageError, PartError
from ...rag.evaluation.calibrate import Calibration, Row, calibrated, rows_of
from ...rag.evaluation.cases import Case, read_cases, read_documents
from ...rag.evaluation.configuration import configured
from ...rag.evaluation.corpus import Corpus, corpus_of
from ...rag.evaluation.run import Judged, judged
from ...rag.evaluation.summary import Summary, summary
from ...rag.operators.answer import Answer
from ...rag.operators.ingest import Ingest
from ...rag.parse_job import Part
from ...rag.settings import AnswerSettings, IngestSettings
from ...rag.weights import PACKAGED, packaged_model
from ...workers.graph import Work
from ..errors import InputError
from ..load import load_app

EXAMPLE = Path(__file__).parents[2] / "rag" / "evaluation" / "example"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it, read and checked."""

    ingest: IngestSettings
    answer: AnswerSettings
    documents: Sequence[Document]
    cases: Sequence[Case]
    configurations: Sequence[tuple[str, AnswerSettings]]


def plan_of(questions: Path | None, documents: Path | None, target: str | None, configurations: Sequence[str]) -> Plan:
    """The packaged example where no questions are given. Raises InputError, TargetError, PipelineFileError, PartError."""
    if questions is not None and documents is None:
        raise InputError("questions need documents: give --documents, a folder or a file of JSON lines")
    ingest, answer = _settings(target)
    try:
        cases = read_cases(questions or EXAMPLE / "questions.jsonl")
        found = read_documents(documents or EXAMPLE / "documents")
    except OSError as error:
        raise InputError(f"{error.filename!r} cannot be read: {error.strerror}") from error
    except MessageError as error:
        raise InputError(str(error)) from error
    if not cases or not found:
        raise InputError(f"{len(cases)} questions over {len(found)} documents: there is nothing to evaluate")
    named = [(name, configured(answer, changes)) for name, changes in map(name_of, configurations)]
    return Plan(ingest, answer, found, cases, named or [("as it is set", answer)])


def name_of(text: str) -> tuple[str, str]:
    """`large: k=9 reranker=none` has a name of its own; without one the changes are its name."""
    name, colon, changes = text.partition(": ")
    return (name.strip(), changes) if colon and "=" not in name else (text, text)


def _settings(target: str | None) -> tuple[IngestSettings, AnswerSettings]:
    """Of an app's document pipeline; without one, parts that need no network: the local embedder where its weights are."""
    if target is None:
        part = Part("local" if _has_weights() else "hashing")
        return IngestSettings(embedder=part), AnswerSettings(embedder=part)
    steps = [node.step for node in load_app(target).graph if isinstance(node, Work)]
    answers = [step.settings for step in steps if isinstance(step, Answer)]
    ingests = [step.settings for step in steps if isinstance(step, Ingest)]
    if not answers:
        raise InputError(f"{target} answers no questions: it has no document pipeline")
    answer = answers[0]
    return ingests[0] if ingests else IngestSettings(embedder=answer.embedder), answer


def _has_weights() -> bool:
    try:
        packaged_model(next(iter(PACKAGED)))
    except PartError:
        return False
    return True


async def indexed(plan: Plan, tell: Tell) -> Corpus:
    corpus = await corpus_of(plan.documents, plan.ingest, plan.answer)
    for uri, reason in corpus.failed.items():
        tell(f"{uri} cannot be read: {reason}")
    tell(
        f"{len(plan.documents) - len(corpus.failed)} documents, {len(corpus.view)} chunks, {len(plan.cases)} questions"
    )
    return corpus


async def evaluated(plan: Plan, corpus: Corpus, tell: Tell, *, judge: bool) -> list[tuple[Summary, list[Judged]]]:
    found = []
    for name, settings in plan.configurations:
        tell(f"asking: {name}")
        outcomes = [one async for one in judged(plan.cases, corpus, settings, judge=judge)]
        found.append((summary(name, outcomes), outcomes))
    return found


async def calibration(plan: Plan, corpus: Corpus) -> Calibration:
    """Of the first configuration. Raises InputError where the questions tell nothing apart."""
    rows: list[Row] = [row async for row in rows_of(plan.cases, corpus, plan.configurations[0][1])]
    try:
        return calibrated(rows)
    except ValueError as error:
        raise InputError(str(error)) from error
