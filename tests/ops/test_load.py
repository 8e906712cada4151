"""From a text on the command line to an app."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream.ops.errors import TargetError
from millstream.ops.load import is_target, load_app, split_target
from millstream.workers.app import App

_APP = "from millstream.workers.app import App\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_gives_its_app(folder: Path) -> None:
    (folder / "shop.py").write_text(f"{_APP}app = App('shop')\nother = App('other')\n")
    assert load_app("shop.py").name == "shop"
    assert load_app(f"{folder}/shop.py:other").name == "other"


def test_a_file_imports_what_lies_beside_it_and_shadows_nothing(folder: Path) -> None:
    """A file called json.py is run under a name of its own."""
    (folder / "names.py").write_text("NAME = 'beside'\n")
    (folder / "json.py").write_text(f"{_APP}from names import NAME\napp = App(NAME)\n")
    import json

    assert load_app("json.py").name == "beside"
    assert sys.modules["json"] is json


def test_a_module_of_a_package(folder: Path) -> None:
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "__init__.py").write_text("")
    (folder / "pipelines" / "shop.py").write_text(f"{_APP}def build():\n    return App('built')\n")
    assert load_app("pipelines.shop:build").name == "built"


def test_a_pipeline_file(folder: Path) -> None:
    (folder / "p.yaml").write_text("app: shop\ntopics: {t: {schema: {a: int}}}\nstreams: [{from: t, to: u}]\n")
    assert load_app("p.yaml").name == "shop"


_WRONG = """
shop.p                | 'shop.p' ... no module 'shop.p'
nope.py               | no file 'nope.py'
shp.py                | no file 'shp.py'; did you mean 'shop.py'?
shop.py:pap           | shop.py:pap: no object 'pap'; did you mean shop.py:app?
shop.py:number        | shop.py:number: 'number' is int, not an App or a function that gives one
shop.py:wants         | shop.py:wants: wants() must need no arguments, it asks for path
shop.py:gives         | shop.py:gives: gives() gave NoneType, not an App
shop.py:fails         | shop.py:fails: fails():9: KeyError: 'x'
syntax.py             | syntax.py:2: invalid syntax
raises.py             | raises.py:2: ZeroDivisionError: division by zero
exits.py              | exits.py ends the process while it is imported
no/such/thing         | 'no/such/thing' is neither a Python file, nor a module, nor a pipeline
missing.yaml          | no file 'missing.yaml'
"""


@pytest.mark.parametrize("line", _WRONG.strip().splitlines())
def test_what_cannot_be_loaded_is_said_with_its_place(folder: Path, line: str) -> None:
    """`...` stands for any text between."""
    (folder / "shop.py").write_text(
        f"{_APP}app = App('shop')\nnumber = 1\ndef wants(path):\n    pass\ndef gives():\n    pass\n"
        "def fails():\n    return {}['x']\n"
    )
    (folder / "syntax.py").write_text("x = 1\ndef (\n")
    (folder / "raises.py").write_text("x = 1\n1 / 0\n")
    (folder / "exits.py").write_text("raise SystemExit(3)\n")
    target, expected = (part.strip() for part in line.split(" | "))
    with pytest.raises(TargetError) as raised:
        load_app(target)
    told = str(raised.value).replace(f"{folder}/", "")
    for part in expected.split("..."):
        assert part.strip().removeprefix("'shop.p'").strip() in told


_TARGETS = """
shop.py            | shop.py          |
shop.py:app        | shop.py          | app
/a/b.c/shop.py:app | /a/b.c/shop.py   | app
package.shop:app   | package.shop     | app
p.yaml             | p.yaml           |
C:shop             | C:shop           |
"""


@pytest.mark.parametrize("line", _TARGETS.strip().splitlines())
def test_the_name_stands_behind_the_last_colon(line: str) -> None:
    target, place, name = (part.strip() for part in line.split("|"))
    assert split_target(target) == (place, name)


def test_an_apps_name_is_no_target() -> None:
    targets = ["shop", "shop.live", "shop.py", "a.b:app", "p.yaml"]
    assert [one for one in targets if is_target(one)] == ["shop.py", "a.b:app", "p.yaml"]


def test_an_app_is_what_was_made(folder: Path) -> None:
    (folder / "shop.py").write_text(f"{_APP}app = App('shop')\n")
    assert isinstance(load_app("shop.py"), App)
