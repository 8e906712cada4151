"""Bringing a task's states back: from its database, then from the changelog's tail since the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..state.checkpoint import is_backed
from ..state.store import Changes, Database, DurableState
from ..topics.arrow_buffers import large_binary
from ..topics.batch import Fetch


def restore_states(
    states: Mapping[str, DurableState], database: Database, tails: Mapping[str, Sequence[Changes]]
) -> None:
    """`tails`: changes by store since the database's checkpoint, oldest first; missing where there are none."""
    for name, state in states.items():
        store = database.store(name)
        stored: Iterable[Changes] = store.scan()
        if is_backed(state):
            state.bind(store)
            stored = ()
        state.restore(stored, tails.get(name, ()))


def changes_of(fetches: Iterable[Fetch]) -> Iterator[Changes]:
    """Records of a changelog as changes; a record without a key is not ours and is passed over."""
    for fetch in fetches:
        keyed = [row for row, key in enumerate(fetch.keys) if key is not None]
        if keyed:
            keys = [fetch.keys[row] for row in keyed]
            yield Changes(large_binary(keys), large_binary([fetch.values[row] for row in keyed]))
