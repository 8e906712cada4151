"""`make chaos ARGS="MINUTES=30 SEED=7"`: every play on a real Kafka for as long as one asks, a report, a picture.

The first round plays everything once; then kills, and the other faults in turn, until the time is up. A round that has begun
is played to its end. What is found goes to `build/chaos/`; exit status 1 if anything was not as it must be, the negative
controls included, and logs of that play are kept there. `PLAYS=kills,resets` chooses, `SCALE=0.1` makes everything smaller.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from millstream.ops.local_broker import LocalBroker
from tests.scenarios.plays import PLAYS, Play, Stage
from tests.scenarios.report import HEAD, Played, line, summary, write

FOLDER = Path("build/chaos")


@dataclass(frozen=True)
class Wish:
    """What was asked for. `scale` 1: 50 kills and 100,000 records or more in a play of kills."""

    minutes: float = 30
    seed: int = 7
    scale: float = 1.0
    plays: tuple[str, ...] = tuple(play.name for play in PLAYS)

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Wish:
        """Raises ValueError naming the word."""
        told: Mapping[str, str] = dict(word.partition("=")[::2] for word in arguments)
        if unknown := told.keys() - {"MINUTES", "SEED", "SCALE", "PLAYS"}:
            raise ValueError(f"{', '.join(sorted(unknown))}: there are MINUTES=, SEED=, SCALE= and PLAYS=")
        names = tuple(name for name in told.get("PLAYS", "").split(",") if name) or cls.plays
        if wrong := set(names) - set(cls.plays):
            raise ValueError(f"PLAYS={','.join(sorted(wrong))}: there are {', '.join(cls.plays)}")
        return cls(float(told.get("MINUTES", "30")), int(told.get("SEED", "7")), float(told.get("SCALE", "1")), names)

    def command(self) -> str:
        chosen = "" if self.plays == Wish.plays else f" PLAYS={','.join(self.plays)}"
        scale = "" if self.scale == 1 else f" SCALE={self.scale:g}"
        return f'make chaos ARGS="MINUTES={self.minutes:g} SEED={self.seed}{scale}{chosen}"'


def order(wish: Wish, until: float) -> Iterator[Play]:
    """Everything once, then what must come out clean again and again while there is time."""
    chosen = [play for play in PLAYS if play.name in wish.plays]
    yield from chosen
    again = [play for play in chosen if play.expected == "clean"] or chosen
    for play in itertools.cycle(again):
        if time.monotonic() >= until:
            return
        yield play


def give(play: Play, wish: Wish, bootstrap: str, number: int) -> Played:
    """One play, in a folder of its own. Whatever it raises is a failure of the play, and told."""
    seed, begun = wish.seed + number, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="millstream-chaos-") as folder:
        stage = Stage(
            bootstrap,
            f"{play.name}-{number}",
            Path(folder),
            seed,
            kills=max(int(50 * wish.scale), 3),
            records_min=int(100_000 * wish.scale),
            rounds=2 if wish.scale >= 0.5 else 1,
        )
        try:
            outcome, failure = play.play(stage), ""
        except Exception as error:  # noqa: BLE001  told in the report, and by the exit status
            outcome, failure = None, f"{type(error).__name__}: {error}"
        played = Played(play, seed, time.monotonic() - begun, outcome, failure)
        if not played.as_expected:
            keep_logs(Path(folder), FOLDER / f"logs-{number}-{play.name}", failure)
    return played


def keep_logs(source: Path, target: Path, failure: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for log in source.glob("*.log"):
        (target / log.name).write_bytes(log.read_bytes())
    (target / "failure.txt").write_text(failure)


def main(arguments: Sequence[str]) -> int:
    try:
        wish = Wish.of(arguments)
    except ValueError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    until, all_played = time.monotonic() + wish.minutes * 60, list[Played]()
    print(f"{wish.command()}\n{HEAD}", flush=True)
    with LocalBroker() as broker:
        for number, play in enumerate(order(wish, until)):
            all_played.append(give(play, wish, broker.bootstrap, number))
            print(line(all_played[-1]), flush=True)
            write(FOLDER, all_played, wish.command())
    print(f"\n{summary(all_played)}\nreport and picture: {FOLDER}/report.txt, report.json, chaos.svg")
    return 0 if all(played.as_expected for played in all_played) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
