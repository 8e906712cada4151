"""The demo's folder: a copy of the documents to be edited, state, logs and Kafka's data. Gone at the end, unless it is kept."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import DemoUnusable
from .settings import DemoSettings

_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Place:
    """Paths in the folder."""

    folder: Path

    @property
    def documents(self) -> Path:
        return self.folder / "documents"

    @property
    def broker(self) -> Path:
        return self.folder / "broker"

    @property
    def memory(self) -> Path:
        """What the files source remembers."""
        return self.folder / "files.json"

    def state(self, worker: int) -> Path:
        return self.folder / f"worker-{worker}"

    def log(self, worker: int) -> Path:
        return self.folder / f"worker-{worker}.log"

    def edit(self, uri: str, old: str, new: str) -> None:
        """As an editor does it: written aside, then renamed. Raises DemoUnusable where the text is not as it should be."""
        path = self.documents / uri
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise DemoUnusable(f"{path}: expected {old!r} once, found it {text.count(old)} times")
        aside = path.with_suffix(".tmp")
        aside.write_text(text.replace(old, new), encoding="utf-8")
        aside.replace(path)

    def delete(self, uri: str) -> None:
        (self.documents / uri).unlink()


@contextmanager
def place_of(settings: DemoSettings) -> Iterator[Place]:
    """Made anew, and locked. Raises DemoUnusable."""
    source = settings.example / "documents"
    if not source.is_dir():
        raise DemoUnusable(
            f"the demo's documents are not in {source}: install millstream again, or run `make demo` in a checkout"
        )
    place = Place(settings.folder.absolute())
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoUnusable(f"another demo is running in {settings.folder}; wait for its end, or stop it") from None
        try:
            _cleared(place.folder)
            shutil.copytree(source, place.documents)
            yield place
        finally:
            if not settings.keep:
                shutil.rmtree(place.folder, ignore_errors=True)


def _cleared(folder: Path) -> None:
    """Of what an earlier demo was told to keep."""
    for path in folder.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
