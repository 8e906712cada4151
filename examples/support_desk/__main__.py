"""`python -m examples.support_desk`: one afternoon at a support desk, in a few seconds."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from pathlib import Path

from examples.stage import Stage, play

CUSTOMERS = {"ada": "business", "bob": "basic", "cyd": "basic", "dan": "basic", "eve": "business"}
REFUND = "How long does a refund take?"
PHONE = "Can I reach you by phone?"
PARCEL = {
    "bob": "Where is my parcel?",
    "cyd": "My parcel is not here, where is it?",
    "dan": "Can a delivery be tracked?",
}


class Desk:
    """Messages of today, one a second of event time, from the beginning of a ten minutes."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._number = count(1)
        self._start_ms = int(time.time()) // 600 * 600_000 - 3_600_000

    async def write(self, customer: str, text: str, talk: str | None = None) -> dict:
        """The draft for this message, and what it was made from. `talk`: a conversation that goes on; else a new one."""
        number = next(self._number)
        name = f"m{number}"
        time_ms = self._start_ms + 1_000 * number
        message = {"id": name, "talk": talk or f"talk-{number}", "customer": customer, "text": text, "ts": time_ms}
        await self.stage.send("desk.messages", [message])
        draft = await self.stage.row("desk.drafts", id=name)
        suggested = await self.stage.row("desk.retrievals", id=name)
        self.stage.say("Q", f"{customer} ({draft['plan']}): {text}")
        articles = ", ".join(dict.fromkeys(source["uri"] for source in suggested["sources"]))
        self.stage.say("A", draft["answer"] or "(the articles do not say)", f"   suggested: {articles}")
        return draft


async def story(stage: Stage) -> None:
    desk = Desk(stage)
    await stage.send(
        "desk.customers", [{"id": one, "name": one.title(), "plan": plan} for one, plan in CUSTOMERS.items()]
    )
    files = sorted((stage.folder / "articles").glob("*.md"))
    put = await asyncio.gather(*(stage.client.put(file.name, content=file.read_bytes()) for file in files))
    await stage.client.ask(REFUND, fresh=True)  # once the index has them all
    stage.say("·", f"{len(files)} help articles, {sum(one.chunks for one in put)} chunks")

    draft = await desk.write("ada", REFUND)
    stage.expect(
        "a draft from the article on refunds",
        (draft["article"], "four working days" in draft["answer"]),
        ("refunds.md", True),
    )
    await plans(stage, desk)
    await many(stage, desk)
    await edited(stage, desk)
    draft = await desk.write("eve", "Do you sell umbrellas?")
    stage.expect("nothing is made up", draft["answer"], None)


async def plans(stage: Stage, desk: Desk) -> None:
    """The same question of two customers, whose plans have different articles."""
    articles = [(await desk.write(customer, PHONE))["article"] for customer in ("ada", "bob")]
    stage.expect("each from the articles of their plan", articles, ["contact-business.md", "contact-basic.md"])


async def many(stage: Stage, desk: Desk) -> None:
    """Three customers ask in their own words, and one of them goes on."""
    drafts = {customer: await desk.write(customer, text) for customer, text in PARCEL.items()}
    alert = await stage.row("desk.alerts", article="delivery.md")
    stage.say("!", f"{alert['customers']} customers ask about {alert['article']}, as in: {alert['example']}")
    stage.expect("what many ask is an alert", alert["customers"], len(PARCEL))
    price = await desk.write("dan", "And what does it cost?", drafts["dan"]["talk"])
    stage.expect("a question that goes on is understood", "Delivery costs 4 euros" in (price["answer"] or ""), True)


async def edited(stage: Stage, desk: Desk) -> None:
    """An article changes between two messages."""
    text = (stage.folder / "articles" / "refunds.md").read_text().replace("four working days", "two working days")
    status = await stage.client.put("refunds.md", text=text)
    await stage.client.ask(REFUND, fresh=True)
    stage.say(
        "·", f"refunds.md: two working days from now on; {status.embedded} of {status.chunks} chunks embedded anew"
    )
    draft = await desk.write("cyd", REFUND)
    stage.expect("the next draft is from the new text", "two working days" in draft["answer"], True)
    stage.expect("and from nothing else", "four" in draft["answer"], False)


if __name__ == "__main__":
    raise SystemExit(play(Path(__file__).parent, "pipeline.py", story))
