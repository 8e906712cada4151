"""`python -m examples.iot`: half an hour of a plant's sensors, in a few seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

from examples.stage import Stage, play

MODELS = {"pump-1": "P-200", "pump-2": "P-200", "pump-3": "P-200", "fan-1": "F-10", "fan-2": "F-10", "fan-3": "F-10"}
MINUTES = 30
STEP_S = 10
ODD = {("pump-3", 20): 9.0, ("fan-2", 24): -7.0}
"""By device and minute: by how many degrees it is off."""


def readings(start_ms: int) -> Iterator[dict]:
    """Every ten seconds of each device: its own level, a slow wave, and a ripple."""
    for second in range(5, MINUTES * 60, STEP_S):
        for number, device in enumerate(MODELS):
            wave = math.sin(second / 700 + number) + 0.6 * math.sin(second * (3 + number))
            celsius = 40 + 5 * number + wave + ODD.get((device, second // 60), 0.0)
            yield {"device": device, "celsius": round(celsius, 2), "ts": start_ms + 1_000 * second}


async def story(stage: Stage) -> None:
    await stage.rows("plant.documents-status", 2, state="indexed")
    await stage.client.ask("Is everything read?", fresh=True)
    devices = [{"device": device, "model": model, "place": "hall 2"} for device, model in MODELS.items()]
    await stage.send("plant.devices", devices)
    stage.say("·", f"two manuals are read, {len(devices)} devices are known")

    start_ms = int(time.time()) // 600 * 600_000 - 3_600_000
    sent = list(readings(start_ms))
    await stage.send("plant.readings", sent)
    minutes = await stage.rows("plant.minutes", (MINUTES - 1) * len(MODELS))
    stage.say("·", f"{len(sent)} readings, {len(minutes)} minutes with their mean and spread")
    stage.expect("every minute is right", [row for row in minutes if not is_right(row, sent)], [])

    found = [await advised(stage, device) for device, _ in ODD]
    odd = [(f"{device}@{start_ms + 60_000 * minute}", f"{MODELS[device].lower()}.md") for device, minute in ODD]
    stage.expect("each alert has advice from the manual of its model", found, odd)
    stage.expect("nothing else was an alert", len(stage.seen("plant.advice")), len(ODD))


def is_right(minute: dict, sent: list[dict]) -> bool:
    """Its mean again, from what was sent."""
    start = minute["window_start"]
    values = [one["celsius"] for one in sent if one["device"] == minute["device"] and 0 <= one["ts"] - start < 60_000]
    return math.isclose(minute["celsius"], math.fsum(values) / len(values))


async def advised(stage: Stage, device: str) -> tuple[str, str]:
    """Says what is wrong and what to do; gives the alert's id and where the advice is from."""
    alert = await stage.row("plant.advice", device=device)
    answer = await stage.row("plant.answers", id=alert["id"])
    source = next((one["uri"] for one in answer["sources"]), "")
    now, usual = (f"{alert[name]:.1f} degrees" for name in ("celsius", "usual"))
    told = f"{device} ({alert['model']}, {alert['place']}) is {alert['what']}: {now}, usual are {usual}"
    stage.say("!", told, alert["answer"] or "(the manual does not say)", f"[1] {source}")
    return alert["id"], source


if __name__ == "__main__":
    raise SystemExit(play(Path(__file__).parent, "pipeline.yaml", story))
