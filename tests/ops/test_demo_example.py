"""The example that the demo runs: Python and YAML say the same, and it is as short as the demo says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from millstream.ops.demo.answers import DELETED, EDITED, Edit
from millstream.ops.demo.director import LAST_DOCUMENT
from millstream.ops.demo.errors import DemoUnusable
from millstream.ops.demo.place import place_of
from millstream.ops.demo.settings import EXAMPLE, DemoSettings
from millstream.ops.load import load, load_app
from millstream.workers.app import App
from millstream.workers.graph import Node, Sink, Source


def _without_partitions(node: Node) -> Node:
    """The YAML has no place for the partitions of the documents' topics."""
    return replace(node, topic=replace(node.topic, partitions=None)) if isinstance(node, Source | Sink) else node


def _graph(app: App) -> dict[str, Node]:
    return {node.name: _without_partitions(node) for node in app.graph}


def test_the_yaml_says_the_same_as_the_python() -> None:
    in_python, (in_yaml, feeds) = load_app(str(EXAMPLE / "pipeline.py")), load(str(EXAMPLE / "pipeline.yaml"))
    assert _graph(in_yaml) == _graph(in_python)
    assert in_yaml.settings == in_python.settings
    assert [feed.folder.resolve() for feed in feeds] == [EXAMPLE / "documents"]


def test_the_pipeline_is_short() -> None:
    assert len((EXAMPLE / "pipeline.py").read_text(encoding="utf-8").splitlines()) <= 45


@pytest.mark.parametrize("edit", [EDITED, DELETED], ids=["edited", "deleted"])
def test_the_answer_stands_in_one_document_alone(edit: Edit) -> None:
    documents = EXAMPLE / "documents"
    holding = [path for path in documents.rglob("*.md") if edit.before in path.read_text(encoding="utf-8")]
    if edit.after:
        assert documents / edit.uri in holding
    else:
        assert holding == [documents / edit.uri]
    assert (documents / LAST_DOCUMENT[1]).exists()


def test_documents_are_edited_in_a_copy_that_is_gone_afterwards(tmp_path: Path) -> None:
    settings = DemoSettings(folder=tmp_path / "demo")
    with place_of(settings) as place:
        place.edit(EDITED.uri, EDITED.before, EDITED.after)
        place.delete(DELETED.uri)
        assert EDITED.after in (place.documents / EDITED.uri).read_text(encoding="utf-8")
        with pytest.raises(DemoUnusable, match="expected 'opens at 9:00' once, found it 0 times"):
            place.edit(EDITED.uri, EDITED.before, EDITED.after)
        with pytest.raises(DemoUnusable, match="another demo is running"), place_of(settings):
            pytest.fail("two demos in one folder")
    assert not settings.folder.exists()
    assert EDITED.before in (EXAMPLE / "documents" / EDITED.uri).read_text(encoding="utf-8")
    assert (EXAMPLE / "documents" / DELETED.uri).exists()


def test_what_was_kept_is_replaced_by_the_next_demo(tmp_path: Path) -> None:
    settings = DemoSettings(folder=tmp_path / "demo", keep=True)
    with place_of(settings) as place:
        place.delete(DELETED.uri)
    assert settings.folder.exists()
    with place_of(replace(settings, keep=False)) as place:
        assert (place.documents / DELETED.uri).exists()


def test_without_the_example_it_says_where_it_runs(tmp_path: Path) -> None:
    settings = DemoSettings(folder=tmp_path / "demo", example=tmp_path / "none")
    with pytest.raises(DemoUnusable, match="install millstream again"), place_of(settings):
        pytest.fail("there are no documents")
    assert not settings.folder.exists()
