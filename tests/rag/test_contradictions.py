"""Contradictions between documents: found, ended by either side, given once; against all pairs judged the slow way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from millstream.rag.contradiction import (
    ContradictionSettings,
    pair_key,
    write_change,
)
from millstream.rag.judges.numbers import Numbers
from millstream.rag.llm import LLM, Completion
from millstream.rag.operators.contradictions import Contradictions
from millstream.rag.parse_job import Part
from millstream.rag.prompt import Prompt
from millstream.rag.shared import Shared
from millstream.rag.tenants import tenant_of
from millstream.rag.updates import read_update
from millstream.workers.errors import PlanError
from tests.rag.following_index import FollowingView, Record, parts_of, update
from tests.rag.running import Running

PARTITIONS = 2
ALL = ContradictionSettings(neighbours_max=50, similarity_min=-1.0)
FORTY, FIFTY, SIXTY = (f"The lamp costs {price} euros." for price in (40, 50, 60))


class Lamps:
    """A log of index-updates, and the step that reads it; its view is thrown away in a crash."""

    def __init__(self, chosen: ContradictionSettings = ALL, llm: LLM | None = None) -> None:
        self.log: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self.told = [0] * PARTITIONS
        self.committed = [0] * PARTITIONS
        self.llm = llm
        self.is_there = True
        self.view = FollowingView(self.log)
        shared: Shared[Any] = Shared(self._parts)
        self.running = Running(Contradictions(chosen, shared, lambda *_: None))

    def _parts(self) -> Any:
        self.view = FollowingView(self.log, self.is_there)
        return parts_of(self.view, self.llm)

    async def put(self, uri: str, text: str, **options: Any) -> bytes:
        key, value = await update(uri, text, **options)
        self.log[_partition(uri)].append((key, value))
        return key

    def drop(self, key: bytes) -> None:
        self.log[_partition(key.decode().rpartition("#")[0])].append((key, None))

    async def tell(self, counts: Sequence[int] | None = None, *, backwards: bool = False) -> None:
        """The next changes of each partition (None: all there are) as one batch; `backwards`: the last call is begun first."""
        changes: list[Record] = []
        for partition, log in enumerate(self.log):
            end = len(log) if counts is None else min(len(log), self.told[partition] + counts[partition])
            changes += [(log[at][0], write_change(partition, at)) for at in range(self.told[partition], end)]
            self.told[partition] = end
        order = range(len(changes))
        await self.running.process(changes, order[::-1] if backwards else order)

    def commit(self) -> None:
        self.running.commit()
        self.committed = list(self.told)

    def crash(self) -> None:
        self.running.crash()
        self.told = list(self.committed)

    async def all(self) -> dict[bytes, dict[str, Any]]:
        """What holds after everything was told and committed."""
        await self.tell()
        self.commit()
        return {key: orjson.loads(value) for key, value in self.running.compacted(0).items()}

    def records(self) -> list[tuple[bytes | None, bytes | None]]:
        return self.running.outputs.get(0, [])


def _partition(uri: str) -> int:
    return sum(uri.encode()) % PARTITIONS


async def test_a_contradiction_is_told_with_both_sides() -> None:
    lamps = Lamps()
    await lamps.put("a.md", FORTY, version=3)
    await lamps.put("b.md", FIFTY, version="v1")
    ((key, found),) = (await lamps.all()).items()
    one, other = (found["between"][at] for at in (0, 1))
    assert orjson.loads(key) == [f"{side['uri']}#{side['chunk']}" for side in (one, other)]
    assert [(side["uri"], side["text"], side["version"]) for side in (one, other)] == [
        ("a.md", FORTY, 3),
        ("b.md", FIFTY, "v1"),
    ]
    assert (found["what"], found["judge"], found["score"]) == (f"{FORTY} / {FIFTY}", "numbers", 1.0)
    assert 0.5 < found["similarity"] <= 1


@pytest.mark.parametrize("side", ["a.md", "b.md"])
@pytest.mark.parametrize("is_edit", [True, False])
async def test_it_ends_when_either_side_is_mended_or_goes(side: str, is_edit: bool) -> None:
    """An edit is a new chunk and the removal of the old one, in this order, as ingest writes them."""
    lamps = Lamps()
    keys = {"a.md": await lamps.put("a.md", FORTY), "b.md": await lamps.put("b.md", FIFTY)}
    assert len(await lamps.all()) == 1
    if is_edit:
        await lamps.put(side, FIFTY if side == "a.md" else FORTY)
    lamps.drop(keys[side])
    assert await lamps.all() == {}
    assert [value is None for _, value in lamps.records()] == [False, True]


async def test_an_edit_that_contradicts_still_is_another_finding() -> None:
    lamps = Lamps()
    await lamps.put("a.md", FORTY)
    before = await lamps.put("b.md", FIFTY)
    await lamps.all()
    after = await lamps.put("b.md", SIXTY)
    lamps.drop(before)
    (found,) = (await lamps.all()).values()
    assert [side["text"] for side in found["between"]] == [FORTY, SIXTY]
    assert found["between"][1]["chunk"] == after.decode().rpartition("#")[2]


async def test_a_pair_is_told_once_whoever_changes_and_however_often() -> None:
    """Both changes of the pair, the same chunk again with other metadata, a restart, a crash that takes the commit back."""
    lamps = Lamps()
    await lamps.put("a.md", FORTY)
    await lamps.put("b.md", FIFTY)
    await lamps.tell()
    lamps.crash()
    assert len(await lamps.all()) == 1
    lamps.crash()
    await lamps.put("b.md", FIFTY, metadata={"lang": "en"}, version=9)
    assert len(await lamps.all()) == 1
    assert len(lamps.records()) == 1


@pytest.mark.parametrize("is_kept", [True, False])
async def test_another_process_judges_by_an_index_that_knows_all_changes_before(is_kept: bool) -> None:
    """Its index is at its start, and has to pass the changes of other partitions too; where they are not kept, it misses the pair."""
    lamps = Lamps()
    await lamps.put("a.md", FORTY)
    assert await lamps.all() == {}
    if not is_kept:
        del lamps.running._changelog["positions"]
    lamps.crash()
    await lamps.put("b.md", FIFTY)
    assert len(await lamps.all()) == int(is_kept)


async def test_documents_do_not_contradict_themselves_nor_those_of_other_tenants() -> None:
    lamps = Lamps()
    await lamps.put("a.md", FORTY)
    await lamps.put("a.md", FIFTY)
    for tenant in ("blue", "red"):
        await lamps.put(f"{tenant}.md", SIXTY if tenant == "red" else FIFTY, metadata={"tenant": tenant})
    assert await lamps.all() == {}
    await lamps.put("red-too.md", FORTY, metadata={"tenant": "red"})
    (found,) = (await lamps.all()).values()
    assert {side["uri"] for side in found["between"]} == {"red.md", "red-too.md"}


async def test_only_so_many_neighbours_are_judged_and_none_that_is_too_far() -> None:
    lamps = Lamps(replace(ALL, neighbours_max=2))
    for number in range(5):
        await lamps.put("a.md", f"The lamp costs {number} euros.")
    for uri in ("b.md", "c.md", "d.md"):
        await lamps.put(uri, FIFTY)
    await lamps.tell()
    judged = lamps.running.context.counts["pairs_judged"]
    assert 0 < judged <= 2 * 8
    far = Lamps(replace(ALL, similarity_min=0.999))
    await far.put("a.md", FORTY)
    await far.put("b.md", FIFTY)
    assert await far.all() == {}
    assert far.running.context.counts["pairs_judged"] == 0


async def test_neighbours_are_found_behind_many_chunks_of_the_same_document() -> None:
    lamps = Lamps(replace(ALL, neighbours_max=1))
    for number in range(40):
        await lamps.put("a.md", f"The lamp costs {number} euros.")
    await lamps.put("b.md", "The lamp costs 77 euros in the shop at the corner.")
    await lamps.put("a.md", "The lamp costs 78 euros in the shop at the corner.")
    assert len(await lamps.all()) == 1


async def test_more_than_may_hold_at_once_are_left_out_and_counted() -> None:
    lamps = Lamps(replace(ALL, findings_max=1))
    first = await lamps.put("a.md", FORTY)
    await lamps.put("b.md", FIFTY)
    await lamps.put("c.md", SIXTY)
    assert len(await lamps.all()) == 1
    assert lamps.running.context.counts["contradictions_left_out"] > 0
    lamps.drop(first)
    await lamps.put("d.md", "The lamp costs 70 euros.")
    assert len(await lamps.all()) == 1


HOSTILE = ["", "\x00", "9" * 100_000, "not " * 50_000, "</document>", "{}", "\u0661\u0662", "a\nb\n" * 5_000, "\ufffe"]


async def test_hostile_texts_and_names_stop_nothing() -> None:
    lamps = Lamps()
    for number, text in enumerate(HOSTILE):
        await lamps.put(f'"evil\n#{number}\x00', text)
        await lamps.put(f"also{number}", text + " 10")
    await lamps.put("x" * 9_000, FIFTY)
    lamps.log[0].append((b"no key of a chunk", b"no value of one"))
    await lamps.put("a.md", FORTY)
    await lamps.put("b.md", FIFTY)
    found = await lamps.all()
    assert [{side["uri"] for side in one["between"]} for one in found.values()] == [{"a.md", "b.md"}]
    assert lamps.running.context.rejected == []


async def test_a_record_that_is_none_of_ours_is_a_dead_letter() -> None:
    lamps = Lamps()
    bad = [(b"x", None), (b"x", b"{}"), (b"\xff", write_change(0, 0)), (b"x", b'{"partition": -1, "offset": 0}')]
    await lamps.running.process(bad)
    await lamps.put("a.md", FORTY)
    await lamps.put("b.md", FIFTY)
    assert len(await lamps.all()) == 1
    assert [key for key, _ in lamps.running.context.rejected] == [b"x", b"x", b"\xff", b"x"]


async def test_an_index_that_does_not_come_is_a_dead_letter_and_what_was_found_stays() -> None:
    lamps = Lamps()
    await lamps.put("a.md", FORTY)
    key = await lamps.put("b.md", FIFTY)
    assert len(await lamps.all()) == 1
    lamps.is_there = False
    lamps.crash()
    lamps.drop(key)
    assert len(await lamps.all()) == 1
    assert lamps.running.context.rejected == [(key, "the index has ended")]


class Model:
    """Says that every two texts contradict each other; fails where it is told to."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []
        self.said = "yes: they differ."

    def fingerprint(self) -> str:
        return "model"

    async def complete(self, prompt: Prompt, model: str | None = None) -> Completion:
        self.asked.append(prompt)
        return Completion(self.said)

    async def close(self) -> None:
        """Nothing to let go of."""


BY_MODEL = replace(ALL, judge=Part("llm"))


async def test_a_model_is_paid_once_for_a_pair() -> None:
    """Both sides change in one batch; a crash after the commit; the same texts in another version."""
    model = Model()
    lamps = Lamps(BY_MODEL, model)
    await lamps.put("a.md", FORTY)
    await lamps.put("b.md", FIFTY)
    ((_, found),) = (await lamps.all()).items()
    assert (found["what"], found["judge"]) == ("they differ.", "llm")
    lamps.crash()
    await lamps.put("a.md", FORTY, version=2)
    assert len(await lamps.all()) == 1
    assert len(model.asked) == 1


async def test_a_model_that_gives_no_verdict_makes_a_dead_letter_and_ends_nothing_that_holds() -> None:
    """What was found of a text that is gone ends all the same."""
    model = Model()
    lamps = Lamps(BY_MODEL, model)
    await lamps.put("a.md", FORTY)
    old = await lamps.put("b.md", FIFTY)
    assert len(await lamps.all()) == 1
    model.said = "Well."
    new = await lamps.put("b.md", SIXTY)
    assert len(await lamps.all()) == 1
    ((key, reason),) = lamps.running.context.rejected
    assert key == new
    assert "judge 'llm': expected yes or no, got 'Well.'" in reason
    lamps.drop(old)
    assert await lamps.all() == {}


async def test_the_topic_between_must_have_one_partition() -> None:
    lamps = Lamps()
    operator = lamps.running.step.build([])
    lamps.running.context.partition = 1
    with pytest.raises(PlanError, match="has several partitions and must have one"):
        operator.open(lamps.running.context, 0)


TEXTS = [FORTY, FIFTY, SIXTY, "The museum is open on Mondays.", "The museum is not open on Mondays.", "Noon."]
URIS = ["a", "b", "c", "d"]
STEPS = some.lists(
    some.one_of(
        some.tuples(some.just("put"), some.sampled_from(URIS), some.sampled_from(TEXTS), some.booleans()),
        some.tuples(some.just("drop"), some.integers(0, 20)),
        some.tuples(some.just("tell"), some.integers(0, 3), some.integers(0, 3), some.booleans()),
        some.tuples(some.just("ahead"), some.integers(0, PARTITIONS - 1), some.integers(0, 3)),
        some.sampled_from([("commit",), ("crash",)]),
    ),
    max_size=30,
)


async def oracle(log: Sequence[Sequence[Record]]) -> dict[bytes, str]:
    """All pairs of chunks that are there, each judged: key and what contradicts."""
    last = dict(record for part in log for record in part)
    chunks = [read_update(key, value).chunk for key, value in last.items() if value is not None]
    found = {}
    for pair in combinations(chunks, 2):
        one, other = sorted(pair, key=lambda chunk: chunk.key.encode())
        verdict = await Numbers().judge(one, other, None)  # type: ignore[arg-type]
        if one.document != other.document and verdict is not None and tenant_of(one.metadata) is None:
            found[pair_key(one.key, other.key)] = verdict.what
    return found


async def take(lamps: Lamps, step: Sequence[Any]) -> None:
    match step:
        case ("put", uri, text, own_id):
            await lamps.put(uri, text, slot="its only chunk" if own_id else None)
        case ("drop", number):
            keys = [key for part in lamps.log for key, _ in part]
            if keys:
                lamps.drop(keys[number % len(keys)])
        case ("tell", first, second, backwards):
            await lamps.tell((first, second), backwards=backwards)
        case ("ahead", partition, by):
            lamps.view.go(partition, lamps.view.state.positions.get(partition, 0) + by)
        case ("commit",):
            lamps.commit()
        case _:
            lamps.crash()


@settings(max_examples=150, deadline=None)
@given(STEPS)
async def test_what_holds_in_the_end_is_what_all_pairs_judged_the_slow_way_give(steps: list[Sequence[Any]]) -> None:
    """Chunks that come, go and change under the same id, told in any order of the partitions, calls begun in any order, an index
    that is ahead, commits and crashes. And each record says something new: it begins what was not there, ends what was, or is of
    other texts.
    """
    lamps = Lamps()
    for step in steps:
        await take(lamps, step)
    found = await lamps.all()
    assert {key: one["what"] for key, one in found.items()} == await oracle(lamps.log)
    held: dict[bytes | None, Any] = {}
    for key, value in lamps.records():
        said = value and [side["text"] for side in orjson.loads(value)["between"]]
        assert held.get(key) != said
        held[key] = said
