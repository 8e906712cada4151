"""The report of a chaos run: a table for people, JSON for machines, the picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from tests.scenarios.outcome import Outcome, quantile
from tests.scenarios.plays import Play
from tests.scenarios.timeline import timeline


@dataclass(frozen=True)
class Played:
    """A play that was given. `outcome` None: it broke off, and `failure` says why."""

    play: Play
    seed: int
    took_s: float
    outcome: Outcome | None
    failure: str = ""

    @property
    def as_expected(self) -> bool:
        return self.outcome is not None and self.play.as_expected(self.outcome)


HEAD = f"{'':2}{'play':<62}{'records':>9}{'kills':>6}{'lost':>6}{'twice':>7}{'wrong':>7}{'stall':>9}{'recovery p50, p99':>20}"


def line(played: Played) -> str:
    """One play in the table."""
    mark = "ok" if played.as_expected else "NO"
    outcome = played.outcome
    if outcome is None:
        return f"{mark} {played.play.title}: {played.failure.splitlines()[0] if played.failure else 'broke off'}"
    verdict = outcome.verdict
    other = verdict.out_of_order + verdict.vanished + verdict.went_back + verdict.stores_wrong
    text = (
        f"{mark} {played.play.title:<61}{outcome.records:>9,}{len(outcome.kills):>6}{verdict.lost:>6,}{verdict.duplicated:>7,}"
        f"{verdict.wrong + other:>7,}{outcome.longest_stall_s:>7.1f} s{_recovery(outcome.recoveries_s):>20}"
    )
    return text + "".join(f"\n     {note}" for note in outcome.notes)


def _recovery(values: Sequence[float]) -> str:
    return f"{quantile(values, 0.5):.1f} s, {quantile(values, 0.99):.1f} s" if values else "-"


def summary(all_played: Sequence[Played]) -> str:
    """The figures of the whole run; those of the controls, which must fail, are not in them."""
    outcomes = [played.outcome for played in all_played if played.outcome and played.play.expected == "clean"]
    recoveries = [value for outcome in outcomes for value in outcome.recoveries_s]
    failovers = [value for outcome in outcomes for value in outcome.failovers_s]
    controls = [played for played in all_played if played.play.expected != "clean"]
    return "\n".join(
        [
            f"records {sum(outcome.records for outcome in outcomes):,}",
            f"kills of workers {sum(len(outcome.kills) for outcome in outcomes)}",
            f"other faults {sum(len(outcome.marks) - len(outcome.kills) for outcome in outcomes)}",
            f"lost {sum(outcome.verdict.lost for outcome in outcomes)}",
            f"duplicated {sum(outcome.verdict.duplicated for outcome in outcomes)}",
            f"wrong in any other way {sum(_others(outcome) for outcome in outcomes)}",
            f"longest stall {max((outcome.longest_stall_s for outcome in outcomes), default=0.0):.1f} s",
            f"recovery, worker restarted at once: p50, p99 {_recovery(recoveries)} ({len(recoveries)} partitions)",
            f"recovery, others take over: p50, p99 {_recovery(failovers)} ({len(failovers)} partitions)",
            f"negative controls that were noticed {sum(played.as_expected for played in controls)} of {len(controls)}",
            f"machine {machine()}",
        ]
    )


def _others(outcome: Outcome) -> int:
    verdict = outcome.verdict
    return verdict.wrong + verdict.out_of_order + verdict.vanished + verdict.went_back + verdict.stores_wrong


def machine() -> str:
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {platform.system()}"


def write(folder: Path, all_played: Sequence[Played], command: str) -> None:
    """`report.txt`, `report.json`, `chaos.svg`."""
    table = "\n".join(
        [f"command {command}", "", HEAD, *(line(played) for played in all_played), "", summary(all_played), ""]
    )
    (folder / "report.txt").write_text(table)
    (folder / "report.json").write_bytes(
        orjson.dumps([_plain(played) for played in all_played], option=orjson.OPT_INDENT_2)
    )
    (folder / "chaos.svg").write_text(timeline(list(_first_of_each(all_played)), f"A chaos run: {command}"))


def _first_of_each(all_played: Iterable[Played]) -> Iterable[tuple[str, Outcome]]:
    seen = set()
    for played in all_played:
        if played.outcome is not None and played.play.name not in seen:
            seen.add(played.play.name)
            yield played.play.title, played.outcome


def _plain(played: Played) -> dict[str, Any]:
    outcome = played.outcome
    told = {"play": played.play.name, "expected": played.play.expected, "as_expected": played.as_expected}
    told |= {"seed": played.seed, "took_s": round(played.took_s, 1), "failure": played.failure}
    if outcome is None:
        return told
    return told | {
        "records": outcome.records,
        "kills": len(outcome.kills),
        "verdict": asdict(outcome.verdict),
        "longest_stall_s": round(outcome.longest_stall_s, 2),
        "recoveries_s": [round(value, 2) for value in outcome.recoveries_s],
        "failovers_s": [round(value, 2) for value in outcome.failovers_s],
        "notes": list(outcome.notes),
    }
