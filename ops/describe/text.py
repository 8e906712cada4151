"""A topology as a tree of text. A step with several inputs stands under the first of them; the others point to it."""

from __future__ import annotations

from collections.abc import Iterator

from ...topics.duration import duration_text
from .outline import Box, Outline


def as_text(outline: Outline) -> str:
    """Lines of a tree for each sub-topology."""
    interval = duration_text(outline.commit_interval_ms)
    lines = [f"{outline.app}: {outline.guarantee.replace('_', ' ')}, a commit every {interval}"]
    told: set[str] = set()
    for name, tasks in outline.subs:
        lines += ["", f"sub-topology {name}: {_count(tasks, 'task')}"]
        for root in _roots(outline, name):
            lines.append(_line(root))
            told.add(root.id)
            lines += _below(outline, root, "", told, name)
    if outline.changelogs:
        lines += ["", f"changelogs: {', '.join(outline.changelogs)}"]
    return "\n".join(lines) + "\n"


def _roots(outline: Outline, sub: str) -> list[Box]:
    """Topics that steps of the sub-topology read, or that it copies to another topic."""
    readers = {source for source, target in outline.arrows if outline.box(target).sub == sub}
    return [box for box in outline.boxes if box.kind != "step" and box.id in readers]


def _below(outline: Outline, box: Box, indent: str, told: set[str], sub: str) -> Iterator[str]:
    inside = [outline.box(target) for target in outline.after(box.id)]
    shown = [one for one in inside if one.sub == sub or one.kind != "step"]
    for number, child in enumerate(shown):
        last = number == len(shown) - 1
        branch, deeper = ("└─ ", "   ") if last else ("├─ ", "│  ")
        if child.kind == "step" and child.id in told:
            yield f"{indent}{branch}{child.name}, above"
            continue
        yield f"{indent}{branch}{_line(child)}"
        told.add(child.id)
        if child.kind == "step":
            yield from _below(outline, child, indent + deeper, told, sub)


def _line(box: Box) -> str:
    details = "; ".join(f"{name} {told}" for name, told in box.details if name != "columns")
    stores = f" [store {', '.join(box.stores)}]" if box.stores else ""
    return f"{box.name}  {box.what}{': ' if details else ''}{details}{stores}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
