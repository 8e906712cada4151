"""Committed offsets: every error of the answer is read (the stock client takes some for "nothing was committed")."""

from __future__ import annotations

from types import SimpleNamespace

import aiokafka.errors as kafka
import pytest

from millstream.topics.batch import Partition
from millstream.topics.broker import Committed
from millstream.topics.errors import AuthorizationError, BrokerUnavailableError
from millstream.topics.kafka.offsets import committed_offsets
from millstream.topics.kafka.protocol import StableOffsetFetchRequest

PLACE = Partition("t", 0)


def answer(
    version: int, *, top: int = 0, code: int = 0, offset: int = 7, metadata: str | None = "w"
) -> SimpleNamespace:
    row = (0, offset, -1, metadata, code, {}) if version >= 7 else (0, offset, metadata, code)
    topic = ("t", [row], {}) if version >= 7 else ("t", [row])
    return SimpleNamespace(API_VERSION=version, topics=[topic], error_code=top)


class Coordinator:
    """Gives its answers in turn."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.lost = 0

    async def send(self, request: object) -> object:
        assert isinstance(request, StableOffsetFetchRequest)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, Exception):
            raise given
        return given

    async def committed(self, **more: int) -> dict[Partition, Committed]:
        def lose() -> None:
            self.lost += 1

        return await committed_offsets(
            self.send, "g", [PLACE], coordinator_lost=lose, retry_backoff_ms=1, **{"deadline_ms": 60_000, **more}
        )


@pytest.mark.parametrize("version", [3, 7])
async def test_offset_and_metadata(version):
    assert {PLACE: Committed(7, "w")} == await Coordinator(answer(version)).committed()
    assert {PLACE: Committed(7, "")} == await Coordinator(answer(version, metadata=None)).committed()
    assert {} == await Coordinator(answer(version, offset=-1)).committed()


@pytest.mark.parametrize("version", [3, 7])
@pytest.mark.parametrize(("code", "lost"), [(13, 0), (14, 0), (15, 1), (16, 1), (88, 0)])
@pytest.mark.parametrize("place", ["top", "code"])
async def test_not_now_is_asked_again(version, code, lost, place):
    """Loading, not the coordinator (any more), offsets of a transaction pending: at the top or at the partition."""
    coordinator = Coordinator(answer(version, offset=-1, **{place: code}), answer(version))
    assert {PLACE: Committed(7, "w")} == await coordinator.committed()
    assert lost == coordinator.lost


async def test_lost_connections_are_asked_again():
    coordinator = Coordinator(kafka.KafkaConnectionError("reset"), kafka.GroupCoordinatorNotAvailableError(), answer(7))
    assert {PLACE: Committed(7, "w")} == await coordinator.committed()


async def test_the_deadline_says_what_the_last_answer_was():
    with pytest.raises(BrokerUnavailableError, match=r"no answer for 20 ms, the last one was error 14"):
        await Coordinator(answer(7, top=14)).committed(deadline_ms=20)
    with pytest.raises(BrokerUnavailableError, match=r"error 88 \(a transaction over them is open"):
        await Coordinator(answer(7, code=88)).committed(deadline_ms=20)


async def test_a_refusal_is_final():
    with pytest.raises(AuthorizationError):
        await Coordinator(answer(7, top=30)).committed()
    with pytest.raises(AuthorizationError):
        await Coordinator(kafka.GroupAuthorizationFailedError("g")).committed()


def test_the_request_asks_for_stable_offsets_where_it_can():
    request = StableOffsetFetchRequest("g", [("t", [0, 1])])
    assert 7 == request.prepare({9: (0, 9)}).API_VERSION
    assert 3 == request.prepare({9: (0, 5)}).API_VERSION
    assert request.prepare({9: (0, 9)}).encode().endswith(b"\x01\x00")  # require_stable, no tags
