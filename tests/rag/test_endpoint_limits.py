"""How hard an endpoint is asked, and when it is let alone: the rules by themselves, then through every part that asks one."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from millstream.rag.circuit import Circuit, Ticket
from millstream.rag.endpoint_counts import CountsSince
from millstream.rag.endpoint_gate import EndpointCounts, EndpointLimits
from millstream.rag.errors import (
    CircuitOpenError,
    EmbeddingError,
    ModelRefusedError,
    ModelUnavailableError,
    PartError,
    RateLimitedError,
)
from millstream.rag.llm import streamed
from millstream.rag.llms.openai import Openai
from millstream.rag.parts import part_named
from millstream.rag.token_bucket import TokenBucket
from tests.contracts.test_llm_streams import openai
from tests.contracts.test_llms import LAMP, said
from tests.contracts.test_rerankers import TEI, candidates
from tests.rag.http_server import Reply, serving


class Time:
    """A clock that is moved by hand, and by whoever sleeps."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now_s += seconds


# The token bucket


@given(
    some.integers(1, 600),
    some.integers(1_000, 60_000),
    some.lists(some.tuples(some.floats(0, 20_000), some.integers(1, 50)), min_size=1, max_size=60),
)
def test_never_more_than_flows_in_and_in_order(per_minute: int, burst_ms: int, comers: list[tuple[float, int]]) -> None:
    """Against the definition: in any stretch of time no more goes than the bucket held and what flowed in, but for one that is larger
    than the bucket; and nobody overtakes.
    """
    bucket, now_ms, went = TokenBucket(per_minute, burst_ms), 0.0, []
    for pause_ms, amount in comers:
        now_ms += pause_ms
        went.append((now_ms + bucket.wait_ms(amount, now_ms), amount))
        bucket.take(amount, now_ms)
    assert all(earlier <= later + 1e-6 for (earlier, _), (later, _) in pairwise(went))
    size = max(1.0, per_minute * burst_ms / 60_000)
    for first, (begin_ms, _) in enumerate(went):
        for last in range(first, len(went)):
            stretch_ms = went[last][0] - begin_ms
            gone = sum(amount for _, amount in went[first : last + 1])
            largest = max(amount for _, amount in went[first : last + 1])
            assert gone <= max(size, largest) + size + stretch_ms * per_minute / 60_000 + 1e-6


def test_one_who_comes_alone_does_not_wait_and_what_was_not_used_is_given_back() -> None:
    bucket = TokenBucket(60, 1_000)
    assert bucket.wait_ms(1, 0) == 0
    bucket.take(1, 0)
    assert bucket.wait_ms(1, 0) == 1_000
    assert bucket.wait_ms(100, 400) == 600, "what is larger than the bucket goes when it is full"
    bucket.take(-1, 0)
    assert bucket.wait_ms(1, 0) == 0


# The circuit


def walk(circuit: Circuit, steps: str) -> str:
    """Each step a millisecond: `+` and `-` an attempt that succeeds or fails, `?` one that tells nothing, `.` a wait of 100 ms, `x` one
    that is not let through. Gives the first letter of the state behind each.
    """
    now_ms, states = 0.0, ""
    for step in steps:
        now_ms += 100 if step == "." else 1
        admitted = circuit.admit(now_ms) if step != "." else None
        assert isinstance(admitted, Ticket) == (step in "+-?"), (steps, states)
        if isinstance(admitted, Ticket):
            circuit.told(admitted, {"+": True, "-": False, "?": None}[step], now_ms)
        states += circuit.state[0]
    return states


@pytest.mark.parametrize(
    ("steps", "states"),
    [
        ("--+--+", "cccccc"),
        ("---xx", "ccooo"),
        ("---.+--+", "ccooc" + "ccc"),
        ("---.-x.-", "ccooo" + "ooo"),
        ("---.?+", "ccoohc"),
        ("--?-x", "cccoo"),
        ("-?-?-", "cccco"),
    ],
)
def test_failures_in_a_row_open_the_circuit(steps: str, states: str) -> None:
    assert walk(Circuit(3, 0.0, 10, 100.0), steps) == states


@pytest.mark.parametrize(
    ("steps", "states"), [("-+-+-x", "ccccoo"), ("+-+-x", "cccoo"), ("---+-x", "ccccoo"), ("-+++-++++-", "c" * 10)]
)
def test_a_share_of_failures_opens_it_once_there_are_enough(steps: str, states: str) -> None:
    """Half of the last four."""
    assert walk(Circuit(0, 0.5, 4, 100.0), steps) == states


def test_what_was_under_way_when_it_opened_changes_nothing() -> None:
    circuit = Circuit(1, 0.0, 10, 100.0)
    early, late = circuit.admit(0), circuit.admit(0)
    assert isinstance(early, Ticket)
    assert isinstance(late, Ticket)
    assert circuit.told(early, False, 0)
    circuit.told(late, True, 1)
    assert circuit.left_ms(1) == 99
    trial = circuit.admit(100)
    assert isinstance(trial, Ticket)
    assert circuit.admit(101) == 0.0, "one is tried on, the others are told to wait"
    circuit.told(late, False, 101)
    assert circuit.admit(101) == 0.0
    circuit.told(trial, True, 102)
    assert circuit.state == "closed"


# Through a model


def model(url: str, time: Time, **limits: Any) -> Openai:
    return Openai(url, "m", api_key_env="", attempts_max=1, limits=limits, clock=time.clock, sleep=time.sleep)


async def test_requests_wait_for_their_turn_in_order() -> None:
    """Six a minute, one at once: the second waits ten seconds, the third twenty."""
    time = Time()
    async with serving(*[said(str(n)) for n in range(3)]) as server:
        llm = model(server.url, time, requests_per_minute=6)
        done = [await llm.complete(LAMP) for _ in range(3)]
        await llm.close()
    assert [one.text for one in done] == ["0", "1", "2"]
    assert time.slept == [10.0, 10.0]
    assert llm.counts == EndpointCounts(attempts=3, waited_ms=20_000)


async def test_two_parts_with_one_endpoint_have_one_limit() -> None:
    time = Time()
    async with serving(said("a"), said("b"), said("c")) as server:
        first, second = (model(server.url, time, requests_per_minute=6) for _ in range(2))
        other = model(server.url, time, requests_per_minute=12)
        for llm in (first, second, other):
            await llm.complete(LAMP)
            await llm.close()
    assert time.slept == [10.0]


async def test_tokens_are_counted_as_the_endpoint_accounts_for_them() -> None:
    """6,000 a minute, 1,000 at once. The first costs all that there is and more: the second waits until it is paid for."""
    time = Time()
    async with serving(said("a", usage={"prompt_tokens": 2_000, "completion_tokens": 100}), said("b")) as server:
        llm = model(server.url, time, tokens_per_minute=6_000)
        await llm.complete(LAMP)
        assert time.slept == []
        await llm.complete(LAMP)
        await llm.close()
        size = len(str(server.requests[1]["body"])) / 4
    assert time.slept[0] == pytest.approx((1_100 + size) / 100, rel=0.1)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"requests_per_minute": 6, "wait_ms_max": 9_000}, "in 10000 ms, more than wait_ms_max"),
        ({"requests_per_minute": 6, "waiting_max": 0}, "0 requests wait for the rate limit already"),
    ],
)
async def test_who_would_wait_too_long_is_told_at_once(limits: dict[str, Any], reason: str) -> None:
    time = Time()
    async with serving(said("a"), said("b")) as server:
        llm = model(server.url, time, **limits)
        await llm.complete(LAMP)
        with pytest.raises(RateLimitedError, match=reason):
            await llm.complete(LAMP)
        time.now_s += 10
        assert (await llm.complete(LAMP)).text == "b", "and takes nobody's turn"
        await llm.close()
    assert llm.counts.refused_by_rate_limit == 1


async def test_an_endpoint_that_only_fails_is_let_alone_and_tried_again_later() -> None:
    time = Time()
    async with serving(
        Reply(500, b"boom"), Reply(503, b"busy"), Reply(502, b"gone"), said("Ada"), said("Ada")
    ) as server:
        llm = model(server.url, time, failures_max=2, open_ms=30_000)
        for _ in range(2):
            with pytest.raises(ModelUnavailableError):
                await llm.complete(LAMP)
        with pytest.raises(CircuitOpenError, match=r"not asked for 30000 ms more \(last: status 503: busy\)"):
            await llm.complete(LAMP)
        assert len(server.requests) == 2, "nobody was asked"
        time.now_s += 30
        with pytest.raises(ModelUnavailableError, match="gone"):
            await llm.complete(LAMP)
        with pytest.raises(CircuitOpenError, match="30000 ms"):
            await llm.complete(LAMP)
        time.now_s += 30
        assert [(await llm.complete(LAMP)).text for _ in range(2)] == ["Ada", "Ada"]
        await llm.close()
    assert llm.counts == EndpointCounts(attempts=5, attempts_failed=3, refused_by_circuit=2, circuit_opened=2)


async def test_without_a_circuit_it_is_asked_for_ever() -> None:
    time = Time()
    async with serving(*[Reply(500)] * 30) as server:
        llm = model(server.url, time, failures_max=0)
        for _ in range(30):
            with pytest.raises(ModelUnavailableError, match="status 500"):
                await llm.complete(LAMP)
        await llm.close()


async def test_an_open_circuit_ends_the_tries_of_a_call() -> None:
    time = Time()
    async with serving(*[Reply(500)] * 4) as server:
        llm = Openai(server.url, "m", api_key_env="", limits={"failures_max": 2}, clock=time.clock, sleep=time.sleep)
        with pytest.raises(CircuitOpenError):
            await llm.complete(LAMP)
        await llm.close()
        assert len(server.requests) == 2


async def test_what_the_caller_did_wrong_and_too_many_requests_open_nothing() -> None:
    time = Time()
    replies = [Reply(400, b"no"), Reply(429), Reply(401, b"no"), Reply(429), said("Ada")]
    async with serving(*replies) as server:
        llm = model(server.url, time, failures_max=1)
        for error in (ModelRefusedError, ModelUnavailableError) * 2:
            with pytest.raises(error):
                await llm.complete(LAMP)
        assert (await llm.complete(LAMP)).text == "Ada"
        await llm.close()


async def test_one_who_goes_while_it_is_tried_on_leaves_the_try_to_the_next() -> None:
    time = Time()
    async with serving(Reply(500), Reply(hang=True), said("Ada")) as server:
        llm = model(server.url, time, failures_max=1, open_ms=1_000)
        with pytest.raises(ModelUnavailableError):
            await llm.complete(LAMP)
        time.now_s += 1
        trying = asyncio.ensure_future(llm.complete(LAMP))
        while len(server.requests) < 2:
            await asyncio.sleep(0)
        with pytest.raises(CircuitOpenError, match="while one request is tried on it"):
            await llm.complete(LAMP)
        trying.cancel()
        await asyncio.wait([trying])
        assert (await llm.complete(LAMP)).text == "Ada"
        await llm.close()


async def test_streams_stand_before_the_same_gate() -> None:
    time = Time()
    async with serving(Reply(500), Reply(body=openai("Ada"))) as server:
        llm = model(server.url, time, failures_max=1, open_ms=1_000, requests_per_minute=60, burst_ms=60_000)
        pieces: list[str] = []
        for error in (ModelUnavailableError, CircuitOpenError):
            with pytest.raises(error):
                await streamed(llm, LAMP, None, pieces.append)
        time.now_s += 1
        done = await streamed(llm, LAMP, None, pieces.append)
        await llm.close()
    assert (done.text, pieces) == ("Ada", ["Ada"])


# Through every part that asks an endpoint


VECTORS = {"data": [{"index": 0, "embedding": [1.0, 0.0]}], "embeddings": {"float": [[1.0, 0.0]]}}
PARTS = [
    ("llm", name, {"model": "m"}, ModelUnavailableError) for name in ("openai", "anthropic", "cohere", "gemini")
] + [
    ("reranker", "http", {"shape": "tei"}, ModelUnavailableError),
    ("embedder", "openai", {"model": "m", "dimensions": 2}, EmbeddingError),
    ("embedder", "cohere", {"model": "m", "dimensions": 2}, EmbeddingError),
]


async def use(kind: str, part: Any) -> Any:
    if kind == "llm":
        return await part.complete(LAMP)
    return await (part.rerank(candidates()) if kind == "reranker" else part.embed(["a"], "query"))


@pytest.mark.parametrize(("kind", "name", "options", "error"), PARTS)
async def test_every_part_that_asks_an_endpoint_has_limits(
    kind: str, name: str, options: dict[str, Any], error: type[Exception]
) -> None:
    time = Time()
    limits = {"failures_max": 1, "open_ms": 5_000}
    async with serving(Reply(500, b"boom"), Reply(body=TEI if kind == "reranker" else VECTORS)) as server:
        chosen = {"url": server.url, "api_key_env": "", "attempts_max": 1, "limits": limits}
        part = part_named(kind, name, {**chosen, **options, "clock": time.clock, "sleep": time.sleep})
        told = CountsSince({kind: part, "other": object()})
        for reason in ("boom", "is not asked for"):
            with pytest.raises(error, match=reason):
                await use(kind, part)
        assert len(server.requests) == 1
        await part.close()
    assert told.take() == {
        f"{kind}_attempts": 1,
        f"{kind}_attempts_failed": 1,
        f"{kind}_circuit_opened": 1,
        f"{kind}_refused_by_circuit": 1,
    }
    assert told.take() == {}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"requests": 5}, "no limit 'requests'; there are burst_ms"),
        ({"requests_per_minute": "many"}, "requests_per_minute must be a number, got 'many'"),
        ({"requests_per_minute": -1}, "must not be negative"),
        ({"open_ms": 0}, "must be at least 1"),
        ({"failures_share_max": 2}, "from 0 to 1"),
    ],
)
def test_wrong_limits_name_what_is_wrong(limits: dict[str, Any], reason: str) -> None:
    with pytest.raises(PartError, match=reason):
        part_named("llm", "openai", {"url": "http://x", "model": "m", "api_key_env": "", "limits": limits})


def test_limits_are_no_part_of_what_an_answer_depends_on() -> None:
    plain, limited = (
        Openai("http://x", "m", api_key_env="", limits=limits)
        for limits in (None, EndpointLimits(requests_per_minute=1))
    )
    assert plain.fingerprint() == limited.fingerprint()
