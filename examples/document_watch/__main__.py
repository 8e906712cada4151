"""`python -m examples.document_watch`: a town's regulations are edited, and who relied on them hears of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

from examples.stage import Stage, play
from millstream.rag.document import Answer

QUESTIONS = {
    "terrace": "Until when may music be played on a terrace?",
    "fine": "What is the fine for parking without a permit?",
    "paper": "When is paper collected?",
}
ANSWERS = {
    "terrace": "Music may be played on a terrace until 22:00. [1]",
    "fine": "Parking without a permit costs a fine of 35 euros. [1]",
    "paper": "Paper is collected every second Tuesday. [1]",
}
"""The first ones."""
MARKET = "The weekly market is open on Wednesdays and Saturdays from 8:00 to"


class Town:
    """Standing questions, and a folder that is edited as by anybody with an editor."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.folder = stage.folder / "regulations"
        self._answers: dict[str, AsyncGenerator[Answer, None]] = {}

    def ask(self) -> None:
        for name, question in QUESTIONS.items():
            self._answers[name] = self.stage.client.follow(question, id=name)

    async def hear(self, name: str) -> Answer:
        """The next answer of a question. Raises Untrue when none comes."""
        answer = await self.stage.soon(anext(self._answers[name]), f"news for {name!r}")
        sources = ", ".join(dict.fromkeys(hit.chunk.document for hit in answer.sources[:1]))
        said = f"{answer.answer}   {sources}" if answer.answer else "(the regulations do not say)"
        self.stage.say("A", f"{QUESTIONS[name]}   revision {answer.revision}", said)
        return answer

    def edit(self, name: str, before: str, after: str) -> None:
        self.stage.say("→", f"{name}: {before!r} becomes {after!r}")
        self._write(name, (self.folder / name).read_text().replace(before, after))

    def add(self, name: str, text: str) -> None:
        self.stage.say("→", f"{name} is new: {text!r}")
        self._write(name, f"# {name.removesuffix('.md').title()}\n\n{text}\n")

    def _write(self, name: str, text: str) -> None:
        """As editors do it: written aside, then renamed."""
        aside = (self.folder / name).with_suffix(".tmp")
        aside.write_text(text)
        aside.replace(self.folder / name)

    def delete(self, name: str) -> None:
        self.stage.say("→", f"{name} is repealed")
        (self.folder / name).unlink()

    async def leave(self) -> None:
        for answers in self._answers.values():
            await answers.aclose()


async def story(stage: Stage) -> None:
    town = Town(stage)
    files = len(list(town.folder.glob("*.md")))
    await stage.rows("watch.documents-status", files, state="indexed")
    await stage.client.ask(QUESTIONS["fine"], fresh=True)  # once the index has them all
    stage.say("·", f"{files} regulations are read; three people ask, and want to be told when the answer changes")
    town.ask()
    first = {name: (await town.hear(name)).answer for name in QUESTIONS}
    stage.expect("the first answers are what the regulations say", first, ANSWERS)

    town.edit("noise.md", "terrace until 22:00", "terrace until 23:00")
    answer = await town.hear("terrace")
    stage.expect("who asked about terraces is told", "23:00" in (answer.answer or ""), True)
    town.edit("parking.md", "costs 60 euros a year", "costs 70 euros a year")  # nobody asked for that
    town.edit("parking.md", "a fine of 35 euros", "a fine of 50 euros")
    answer = await town.hear("fine")
    stage.expect("who asked about the fine is told", "50 euros" in (answer.answer or ""), True)
    town.delete("waste.md")
    answer = await town.hear("paper")
    stage.expect("what was repealed is no answer any more", answer.no_answer, True)
    await contradicted(stage, town)
    await town.leave()

    heard = {name: [row["revision"] for row in await stage.rows("watch.answers", 2, id=name)] for name in QUESTIONS}
    stage.expect("each was told what it is, and once that it changed", heard, {name: [0, 1] for name in QUESTIONS})


async def contradicted(stage: Stage, town: Town) -> None:
    """A new regulation says something else than an old one; then one of them is mended."""
    town.add("cleaning.md", f"{MARKET} 14:00.")
    finding = await stage.row("watch.contradictions")
    found = {one["uri"]: one["text"] for one in finding["between"]}
    stage.say("≠", *(f"{uri}: {text.splitlines()[-1]}" for uri, text in sorted(found.items())))
    stage.expect("two regulations contradict each other", sorted(found), ["cleaning.md", "markets.md"])
    town.edit("cleaning.md", "14:00", "13:00")
    stage.expect("and no longer, once one is mended", await stage.left("watch.contradictions", 0), [])


if __name__ == "__main__":
    raise SystemExit(play(Path(__file__).parent, "pipeline.yaml", story))
