"""`millstream topics`: which there are, and what is in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ._options import Brokers, Set, SettingsFile, settings_of

if TYPE_CHECKING:
    from ...topics.batch import Partition
    from ...topics.broker import Broker, TopicInfo

OFTEN_ASKED = ("cleanup.policy", "max.message.bytes", "message.timestamp.type", "min.insync.replicas", "retention.ms")
"""What is shown of a topic's thirty-odd settings unless all are asked for."""

app = typer.Typer(name="topics", help="List the topics, or describe one.")


@app.command()
def topics(
    name: Annotated[str | None, typer.Argument(help="Describe this one.", show_default=False)] = None,
    internal: Annotated[
        bool, typer.Option("--all", help="List internal topics too, or show all of one's configuration.")
    ] = False,
    brokers: Brokers = None,
    file: SettingsFile = None,
    pairs: Set = None,
) -> None:
    """List the topics, or describe one: its partitions with the first and the next offset, and its configuration."""
    from ..client import with_broker

    settings = settings_of(file, pairs, brokers=brokers)

    async def work(broker: Broker) -> list[str]:
        return (
            await list_lines(broker, internal=internal)
            if name is None
            else await describe_lines(broker, name, whole=internal)
        )

    for line in with_broker(settings, work):
        typer.echo(line)


async def list_lines(broker: Broker, *, internal: bool = False) -> list[str]:
    """A line a topic: name and partitions."""
    names = [name for name in sorted(await broker.list_topics()) if internal or not is_internal(name)]
    found = await broker.describe_topics(names)
    width = max((len(name) for name in found), default=0)
    lines = [f"{name:<{width}}  {_partitions(found[name])}" for name in names if name in found]
    return lines or ["no topics yet; millstream produce makes one"]


async def describe_lines(broker: Broker, name: str, *, whole: bool = False) -> list[str]:
    """Raises InputError where there is none of that name."""
    from ...topics.batch import Partition
    from ..client import existing_topic

    info = await existing_topic(broker, name)
    partitions = [Partition(name, index) for index in range(info.partitions)]
    begins, ends = await offsets(broker, partitions)
    rows = [f"{one.index:>9}  {begins[one]:>9}  {ends[one]:>9}  {ends[one] - begins[one]:>15}" for one in partitions]
    head = f"{'partition':>9}  {'first':>9}  {'next':>9}  {'records at most':>15}"
    config = {key: value for key, value in sorted(info.config.items()) if whole or key in OFTEN_ASKED}
    return [f"{name}: {_partitions(info)}", head, *rows, *(f"{key} = {value}" for key, value in config.items())]


async def offsets(broker: Broker, partitions: list[Partition]) -> tuple[dict[Partition, int], dict[Partition, int]]:
    """First and next offset by partition."""
    reader = broker.reader()
    await reader.start()
    try:
        return await reader.begin_offsets(partitions), await reader.end_offsets(partitions)
    finally:
        await reader.stop()


def is_internal(name: str) -> bool:
    return name.startswith("__") or name.endswith(("-changelog", "-repartition", "-fingerprint"))


def _partitions(info: TopicInfo) -> str:
    return f"{info.partitions} partition{'' if info.partitions == 1 else 's'}"
