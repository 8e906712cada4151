"""Pictures that are made by running the engine. `python -m tests.docs.pictures` writes them into `docs/images`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.docs import rag_pictures as rag
from tests.docs import time_watermarks as watermarks
from tests.docs import time_windows as windows
from tests.docs.drawing import Drawing

IMAGES = Path(__file__).parents[2] / "docs" / "images"

PICTURES: dict[str, Callable[[], Drawing]] = {
    "time-windows": windows.kinds,
    "time-session-merge": windows.merge,
    "time-late": partial(windows.lateness, windows.LATENESS),
    "time-late-for-some": partial(windows.lateness, windows.PARTLY),
    "time-emission": windows.emission,
    "time-idle": watermarks.idle,
    "time-repartition": watermarks.repartition,
    "time-chained": watermarks.chained,
    "rag-way": rag.way,
    "rag-edit": rag.edit,
}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
