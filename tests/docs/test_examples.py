"""Every example is run: over rows where it has topics of its own, over documents where it answers questions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Driver
from millstream.ops.describe.outline import outline_of
from millstream.ops.load import load, load_app

EXAMPLES = Path(__file__).parents[2] / "examples"


def _shop(app: App) -> None:
    driver = Driver(app)
    rows = [{"user": "ada", "page": "/", "price": 2.5, "ts": second * 1_000} for second in (1, 2, 3, 30)]
    driver.send("clicks", rows)
    driver.commit()
    assert driver.rows("totals") == [{"user": "ada", "window_start": 0, "window_end": 10_000, "n": 3, "total": 7.5}]


def _views_and_orders(app: App) -> None:
    driver = Driver(app)
    driver.send("views", [{"user": "ada", "page": page, "ts": 1_000} for page in ("/p/tea", "/")])
    driver.send("orders", [{"user": "ada", "price": 3.5, "ts": 200_000}, {"user": "ada", "price": 9.0, "ts": 400_000}])
    driver.end()
    assert driver.rows("views-with-orders") == [{"user": "ada", "page": "/p/tea", "price": 3.5}]
    newest = {row["window_start"]: (row["n"], row["revenue"]) for row in driver.rows("pages")}
    assert newest == {150_000: (1, 3.5), 180_000: (1, 3.5)}


def _documents(app: App) -> None:
    """The whole of it runs in the tests of rag/ and, on a real Kafka, in the demo; here that it can be planned and is fed."""
    assert {"help.documents", "help.queries"} <= set(app.plan().source_topics)
    (feed,) = load(str(EXAMPLES / "documents.yaml"))[1]
    assert (feed.folder / "help" / "returns.md").exists()


CHECKS: dict[str, Callable[[App], Any]] = {
    "documents.yaml": _documents,
    "shop.py": _shop,
    "shop.yaml": _shop,
    "views_and_orders.py": _views_and_orders,
    "views_and_orders.py:build": _views_and_orders,
}


@pytest.mark.parametrize("target", CHECKS)
def test_an_example_does_what_it_says(target: str) -> None:
    CHECKS[target](load_app(str(EXAMPLES / target)))


def test_no_example_is_forgotten() -> None:
    """`stage.py` is what the stories in folders of their own need; those are tried in tests/examples."""
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".yaml"}}
    assert files == {target.partition(":")[0] for target in CHECKS} | {"stage.py"}


def test_the_two_shops_are_one() -> None:
    """But for the text of the filter, which SQL and polars write in different ways."""

    def told(name: str) -> dict[str, Any]:
        outline = outline_of(load_app(str(EXAMPLES / name))).as_json()
        return {
            **outline,
            "boxes": [{**box, "details": {}} if box["what"] == "filter" else box for box in outline["boxes"]],
        }

    assert told("shop.py") == told("shop.yaml")
