"""Where the demo is shown: a view that is drawn anew four times a second, or plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live

from .snapshot import Talk
from .stage import Stage
from .story import Step
from .view import ASCII, frame, plain

FRAMES_PER_S: Final = 4


class Screen(Protocol):
    """Shows a stage while it changes."""

    def tell(self, what: Step | Talk) -> None:
        """A step has ended, or something was said."""
        ...

    @contextmanager
    def showing(self, stage: Stage) -> Iterator[None]: ...

    def end(self, stage: Stage) -> None:
        """The last lines are known."""
        ...


@dataclass
class Lines:
    """One line a step, what was said below it, and the ending."""

    console: Console
    ascii_only: bool = False

    def tell(self, what: Step | Talk) -> None:
        text = plain(what, 7) if isinstance(what, Step) else f"      {what.mark:1} {what.text}"
        self._write(text)

    @contextmanager
    def showing(self, stage: Stage) -> Iterator[None]:
        yield

    def end(self, stage: Stage) -> None:
        told = "everything came out right" if stage.story.is_told else "something was not right:"
        self._write(f"{told} ({stage.elapsed_s:.0f} s)")
        for word, what, for_what in stage.ending:
            self._write(f"  {word:4} {what}{'   ' + for_what if for_what else ''}")

    def _write(self, text: str) -> None:
        if self.ascii_only:
            text = text.translate(ASCII).encode("ascii", "replace").decode()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Drawn:
    """Draws the stage as it is when rich asks for it."""

    stage: Stage
    ascii_only: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield frame(self.stage.snapshot(), *console.size, ascii_only=self.ascii_only)


@dataclass
class Terminal:
    """The view, on a screen of its own; its last state stays when it is over."""

    console: Console
    ascii_only: bool = False
    last: Group | None = field(default=None)

    def tell(self, what: Step | Talk) -> None:
        """The view shows it anyway."""

    @contextmanager
    def showing(self, stage: Stage) -> Iterator[None]:
        drawn = _Drawn(stage, self.ascii_only)
        with Live(drawn, console=self.console, screen=True, refresh_per_second=FRAMES_PER_S):
            yield
        if stage.ending:
            self.console.print(frame(stage.snapshot(), self.console.size[0], 200, ascii_only=self.ascii_only))

    def end(self, stage: Stage) -> None:
        """The view shows it anyway."""
