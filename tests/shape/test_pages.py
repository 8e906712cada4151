"""The pages: every link of ours leads somewhere, and a decision has its four headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.shape.tree import ROOT, files, short

_PAGES = files(suffix=".md")
_DECISIONS = [path for path in _PAGES if re.fullmatch(r"docs/decisions/\d{4}-.*\.md", short(path))]


def _anchor(heading: str) -> str:
    """A heading's anchor as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    return {_anchor(line.lstrip("#")) for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")}


def _is_broken(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    path = (page.parent / target).resolve() if target else page
    return not path.exists() or bool(anchor and path.suffix == ".md" and anchor not in _anchors(path))


def _prose(page: Path) -> str:
    """The page without its blocks of code: what looks like a link there is none."""
    return re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", _PAGES, ids=short)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", _prose(page))
    assert [link for link in links if _is_broken(page, link)] == []


@pytest.mark.parametrize("page", _DECISIONS, ids=short)
def test_a_decision_has_its_headings(page: Path) -> None:
    headings = re.findall(r"(?m)^## (.*)$", page.read_text(encoding="utf-8"))
    assert headings == ["Context", "Decision", "Consequences", "Non-goals"]


def test_the_list_of_decisions_is_whole() -> None:
    listed = re.findall(r"\]\((\d{4}-[^)]*\.md)\)", (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8"))
    assert listed == [path.name for path in _DECISIONS]
