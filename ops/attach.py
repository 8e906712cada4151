"""Millstream inside a Faust worker: its windows and joins over the topics a Faust app already has, results as topics its agents read.

    clicks = topic_of(faust_app, "clicks", Click, key="user", event_time="ts")      # Click: a faust.Record
    app = App("shop-windows")
    app.stream(clicks).window(tumbling("10s"), by="user", grace="2s", emit="final").agg(n=count()).to("totals")
    attach(faust_app, app)

The Millstream app is a consumer group of its own beside the Faust app's, with its own offsets, state and guarantee: each Faust
worker process is one member of it. It starts with the Faust worker, stops with it (finishing its open commits), and ends it
when it fails. Broker address, user and password are the Faust app's; where TLS is used, `security` names the files, since an
SSL context cannot be read back.

Tried with faust-streaming 0.15 (extra `faust`).
"""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..topics.errors import ConfigurationError, SchemaError
from ..topics.kafka.broker import KafkaBroker
from ..topics.schema import Schema
from ..topics.topic import Topic, topic
from ..workers.app import App
from ..workers.instrument import Instrument
from ..workers.worker import Worker
from .run import databases_of

if TYPE_CHECKING:
    import faust

STOP_TIMEOUT_S = 30.0
"""How long a stopping Faust worker waits for the open commits."""


def attach(
    faust_app: faust.App, app: App, *, security: Mapping[str, str] | None = None, instrument: Instrument | None = None
) -> None:
    """Runs `app` in every worker of the Faust app; to be called where the Faust app is defined.

    `security`: Kafka's names (`ssl.ca.location`, ...), over what the Faust app's credentials say. State is kept in the app's
    `state_dir`, one process a folder. Raises ConfigurationError for a broker URL that is not Kafka's.
    """
    import mode

    connection = {**_connection(faust_app), **(security or {})}

    class MillstreamService(mode.Service):
        """The worker, as a service of the Faust app."""

        worker: Worker | None = None

        async def on_start(self) -> None:
            self.worker = Worker(
                app, KafkaBroker(connection), databases=databases_of(app.settings), instrument=instrument
            )

        @mode.Service.task
        async def work(self) -> None:
            """Ends when the worker does; what it raises ends the Faust worker."""
            if self.worker is not None:
                await self.worker.run()

        async def on_stop(self) -> None:
            if self.worker is not None:
                self.worker.stop()
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self.worker.wait_stopped()

    faust_app.service(MillstreamService)


def topic_of(faust_app: faust.App, name: str, model: type[faust.Record], **options: Any) -> Topic:
    """A topic whose columns are the fields of a Faust record; `options` as of `topic` (`key=`, `event_time=`, ...).

    Records must be plain JSON objects: a model with `include_metadata` writes a field more, which does no harm. Raises
    SchemaError for a field whose type is none of str, int, float, bool, or one of these that may be None.
    """
    hints = typing.get_type_hints(model)
    fields = {field: _column(model, field, hints.get(field, kind)) for field, kind in model._options.fields.items()}
    options.setdefault("partitions", faust_app.conf.topic_partitions)
    return topic(name, Schema.of(fields), **options)


def _column(model: type[Any], field: str, kind: Any) -> type:
    plain = [part for part in typing.get_args(kind) if part is not type(None)] or [kind]
    if len(plain) != 1 or plain[0] not in {str, int, float, bool}:
        raise SchemaError(
            f"{model.__name__}.{field} is {kind}: a column is str, int, float or bool; map it in Faust first"
        )
    found: type = plain[0]
    return found


def _connection(faust_app: faust.App) -> dict[str, str]:
    """The Faust app's brokers and credentials, by Kafka's names."""
    urls = faust_app.conf.broker
    wrong = next((url for url in urls if url.scheme not in {"kafka", "aiokafka", "confluent", ""}), None)
    if wrong is not None:
        raise ConfigurationError(f"the Faust app's broker {wrong} is no Kafka; expected kafka://host:port")
    brokers = ",".join(f"{url.host}:{url.port or 9092}" for url in urls)
    return {"bootstrap.servers": brokers, **_credentials(faust_app)}


def _credentials(faust_app: faust.App) -> dict[str, str]:
    given: Any = faust_app.conf.broker_credentials
    if given is None:
        return {}
    told = {"security.protocol": given.protocol.value}
    if getattr(given, "username", None) is not None:
        told |= {"sasl.mechanism": given.mechanism.value, "sasl.username": given.username}
        told |= {"sasl.password": given.password or ""}
    return told
