"""Topics at start: what is missing is created, what is there must be as declared."""

from __future__ import annotations

from collections.abc import Sequence

from .broker import Broker, TopicInfo, TopicSpec
from .errors import TopicMismatchError


async def ensure_topics(broker: Broker, specs: Sequence[TopicSpec], *, create: bool = True) -> dict[str, TopicInfo]:
    """The topics as the broker has them, by name, after creating the missing ones.

    Checked of an existing topic: the number of partitions where the spec gives one, and the cleanup policy ("compact,delete"
    compacts). Its other configuration is its owner's business. `create=False`: a missing topic is a mismatch.

    Raises TopicMismatchError with every mismatch, and for each what to do; then nothing was created.
    """
    names = [spec.name for spec in specs]
    found = await broker.describe_topics(names)
    problems = _clashes(specs)
    for spec in specs:
        info = found.get(spec.name)
        if info is not None:
            problems += _differences(spec, info)
        elif not create:
            problems.append(
                f"topic {spec.name!r} does not exist; create it{_as_declared(spec)}, or allow creating topics"
            )
    if problems:
        raise TopicMismatchError("\n".join(dict.fromkeys(problems)))
    missing = {spec.name: spec for spec in specs if spec.name not in found}
    if not missing:
        return found
    await broker.create_topics(list(missing.values()))
    found = await broker.describe_topics(names)
    # Somebody else may have created it otherwise in the meantime.
    if raced := [problem for spec in missing.values() for problem in _differences(spec, found[spec.name])]:
        raise TopicMismatchError("\n".join(raced))
    return found


async def ensure_topic(broker: Broker, spec: TopicSpec) -> None:
    """Makes a topic of our own where there is none; one that is there is taken as it is, whatever its partitions and settings.

    Raises TopicsError.
    """
    if spec.name not in await broker.describe_topics([spec.name]):
        await ensure_topics(broker, [spec])


def _clashes(specs: Sequence[TopicSpec]) -> list[str]:
    """The same name declared twice in two ways."""
    first: dict[str, TopicSpec] = {}
    problems = []
    for spec in specs:
        known = first.setdefault(spec.name, spec)
        if (known.partitions, known.cleanup) != (spec.partitions, spec.cleanup):
            problems.append(
                f"topic {spec.name!r} is declared twice, with {known.partitions} partitions, cleanup {known.cleanup!r} "
                f"and with {spec.partitions} partitions, cleanup {spec.cleanup!r}; declare it once"
            )
    return problems


def _differences(spec: TopicSpec, info: TopicInfo) -> list[str]:
    problems = []
    if spec.partitions is not None and spec.partitions != info.partitions:
        problems.append(
            f"topic {spec.name!r} has {info.partitions} partitions, declared are {spec.partitions}; "
            f"declare partitions={info.partitions}, or write to a new topic (keys move when partitions are added)"
        )
    policies = {policy.strip() for policy in info.config.get("cleanup.policy", "delete").split(",")}
    if spec.cleanup not in policies:
        has = info.config.get("cleanup.policy", "delete")
        loss = (
            "records it keeps would be lost by age" if spec.cleanup == "compact" else "records would be compacted away"
        )
        problems.append(
            f"topic {spec.name!r} has cleanup.policy={has}, declared is {spec.cleanup!r} ({loss}); "
            f"declare cleanup={has!r}, or alter the topic: cleanup.policy={spec.cleanup}"
        )
    return problems


def _as_declared(spec: TopicSpec) -> str:
    partitions = "" if spec.partitions is None else f" with {spec.partitions} partitions"
    return f"{partitions} with cleanup.policy={spec.cleanup}"
