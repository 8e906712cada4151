"""One component for all tasks of a process: made for the first, closed after the last, by its own `close` (`rag/shared.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from millstream.rag.shared import Shared


@dataclass
class Model:
    closed: int = 0

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Models:
    made: list[Model] = field(default_factory=list)

    def make(self) -> Model:
        self.made.append(Model())
        return self.made[-1]


async def test_it_is_made_once_and_closed_after_the_last_task() -> None:
    models = Models()
    shared = Shared(models.make)
    one, two = shared.lease(), shared.lease()
    assert one.take() is two.take()
    one.give_back()
    await shared.closed()
    assert [model.closed for model in models.made] == [0]
    two.give_back()
    await shared.closed()
    assert [model.closed for model in models.made] == [1]


async def test_a_task_gives_back_once_and_only_what_it_took() -> None:
    """One that is closed twice, and one that is closed before it was open, take nothing from the others."""
    models = Models()
    shared = Shared(models.make)
    one, two, never = shared.lease(), shared.lease(), shared.lease()
    one.take()
    two.take()
    never.give_back()
    one.give_back()
    one.give_back()
    await shared.closed()
    assert [model.closed for model in models.made] == [0], "the second task works on"
    two.give_back()
    await shared.closed()
    again = shared.lease()
    again.take()
    again.give_back()
    await shared.closed()
    assert [model.closed for model in models.made] == [1, 1]
