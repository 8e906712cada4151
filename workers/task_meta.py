"""What a task's database says about itself: which changelog offsets and which input offsets its contents stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..state.store import Database
from ..topics.batch import Partition


@dataclass(frozen=True, slots=True)
class TaskMeta:
    """`changelog`: by store the offset to replay from. `topic_ids`: by store the id of the changelog topic, so that one that
    was deleted and made anew is noticed. `inputs`: by input partition the offset to read from. `digests`: by store what the
    code that wrote it says of it (`fingerprint.py`)."""

    changelog: Mapping[str, int] = field(default_factory=dict)
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[Partition, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> dict[str, bytes | None]:
        entries: dict[str, bytes | None] = {f"changelog/{store}": b"%d" % end for store, end in self.changelog.items()}
        entries |= {f"topic_id/{store}": topic_id.encode() for store, topic_id in self.topic_ids.items()}
        entries |= {f"digest/{store}": digest.encode() for store, digest in self.digests.items()}
        entries |= {
            f"input/{partition.topic}/{partition.index}": b"%d" % offset for partition, offset in self.inputs.items()
        }
        return entries


def read_meta(database: Database, stores: list[str], inputs: list[Partition]) -> TaskMeta:
    """Entries that are not there are missing."""
    changelog = {store: int(found) for store in stores if (found := database.meta(f"changelog/{store}")) is not None}
    topic_ids = {store: found.decode() for store in stores if (found := database.meta(f"topic_id/{store}")) is not None}
    digests = {store: found.decode() for store in stores if (found := database.meta(f"digest/{store}")) is not None}
    offsets = {
        partition: int(found)
        for partition in inputs
        if (found := database.meta(f"input/{partition.topic}/{partition.index}")) is not None
    }
    return TaskMeta(changelog, topic_ids, offsets, digests)


def usable_meta(
    database: Database,
    stores: list[str],
    inputs: Sequence[Partition],
    topic_ids: Mapping[str, str],
    digests: Mapping[str, str],
) -> TaskMeta:
    """What the database stands for; nothing, and an empty database, when its changelog was made anew, or when it was
    written by code of which the changelog (it was checked before) is not any more."""
    meta = read_meta(database, stores, list(inputs))
    made_anew = any(told not in {"", topic_ids.get(store, "")} for store, told in meta.topic_ids.items())
    if made_anew or any(told != digests.get(store) for store, told in meta.digests.items()):
        database.clear()
        return TaskMeta()
    return meta
