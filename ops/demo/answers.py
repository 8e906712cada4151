"""Step five: two questions, one document edited and one deleted, the same questions again, and what that cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from .asking import Answered, Asker
from .errors import Differs
from .figures import span
from .outputs import Outputs
from .place import Place
from .settings import DemoSettings
from .snapshot import Talk
from .stage import Stage


@dataclass(frozen=True, slots=True)
class Edit:
    """A question, and a change of the document that holds its answer."""

    question: str
    uri: str
    before: str
    """Stands in the document, and in an answer from it."""
    after: str
    """Empty: the document is deleted."""


EDITED: Final = Edit(
    "When does the Rotterdam shop open on Saturday?", "shops/rotterdam.md", "opens at 9:00", "opens at 11:00"
)
DELETED: Final = Edit("Which code takes ten percent off every lamp?", "offers/november.md", "FROST10", "")


async def changes(stage: Stage, place: Place, asker: Asker, outputs: Outputs, settings: DemoSettings) -> str:
    """The figure of the step. Raises Differs."""
    await _asked(EDITED, stage, asker)
    await _asked(DELETED, stage, asker)
    statuses = settings.topic("documents-status")
    known = outputs.last(statuses)[EDITED.uri]
    stage.say(Talk("→", f"{EDITED.uri}: {EDITED.before}, from now on {EDITED.after}; {DELETED.uri}: deleted", "warn"))
    saved = time.monotonic()
    place.edit(EDITED.uri, EDITED.before, EDITED.after)
    place.delete(DELETED.uri)
    answer = await asker.ask_until(EDITED.question, lambda one: is_changed(EDITED, one))
    changed = span((time.monotonic() - saved) * 1000)
    gone = await asker.ask_until(DELETED.question, lambda one: is_changed(DELETED, one))
    gone_after = span((time.monotonic() - saved) * 1000)
    await outputs.wait_until(
        lambda: outputs.last(statuses)[EDITED.uri] != known and outputs.last(statuses)[DELETED.uri] is None,
        settings.step_timeout_s,
        f"the new state of {EDITED.uri} and of {DELETED.uri}",
    )
    cost = cost_of(outputs.last(statuses)[EDITED.uri])
    stage.say(
        Talk("A", answer.text, "strong"),
        Talk("", f"[1] {answer.sources[0]}, {changed} after it was saved; {cost}", "soft"),
        Talk("A", gone.text or "The documents do not say.", "strong"),
        Talk("", f"no source is {DELETED.uri}, {gone_after} after it was deleted", "soft"),
    )
    return f"changed after {changed}, gone after {gone_after}"


async def _asked(edit: Edit, stage: Stage, asker: Asker) -> Answered:
    stage.say(Talk("Q", edit.question, "strong"))
    answer = await asker.ask(edit.question)
    if edit.before not in answer.text or edit.uri not in answer.sources:
        raise Differs(
            f"{edit.question!r} was answered {answer.text!r} from {', '.join(answer.sources)}; "
            f"expected {edit.before!r} from {edit.uri}"
        )
    took = f"{span(answer.took_ms)}   no tokens paid for: the model {answer.model!r} only cites"
    stage.say(Talk("A", answer.text), Talk("", f"[1] {edit.uri}   {took}", "soft"))
    return answer


def is_changed(edit: Edit, answer: Answered) -> bool:
    """Whether an answer is what it must be after the change."""
    if not edit.after:
        return edit.before not in answer.text and edit.uri not in answer.sources
    return edit.after in answer.text and edit.before not in answer.text and edit.uri in answer.sources


def cost_of(status: dict[str, Any] | None) -> str:
    """What the edit cost. Raises Differs where more was embedded than the one chunk that changed."""
    if status is None or (status["state"], status["embedded"]) != ("indexed", 1) or status["reused"] < 1:
        raise Differs(f"one chunk of {EDITED.uri} changed, but its state is {status}")
    return f"{status['embedded']} of {status['chunks']} chunks embedded anew"
