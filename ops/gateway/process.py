"""What `millstream gateway` runs: the pipeline is loaded, its answering step bound to Kafka, and served."""

from __future__ import annotations

from ...rag.document_topics import DocumentTopics
from ..load import app_or_name
from ..run import bind_index, kafka_of
from ..settings import RunSettings
from .run import answer_of, serve
from .settings import GatewaySettings


async def run_gateway(target: str, settings: RunSettings) -> None:
    """`target`: a pipeline, or the name of its app. Raises SettingsError, InputError, and what Kafka's client raises."""
    chosen = GatewaySettings.of(settings)
    app, base = app_or_name(target)
    wait_s = settings.connect_timeout_ms / 1000
    if app is None:
        await serve(chosen, DocumentTopics.of(base.name), lambda: kafka_of(settings), None, wait_s=wait_s)
        return
    answer = answer_of(app)
    topics = answer.topics or DocumentTopics.of(app.name)
    if not settings.gateway_index:
        await serve(chosen, topics, lambda: kafka_of(settings), None, wait_s=wait_s)
        return
    reads = kafka_of(settings)
    bind_index(app, reads, settings.applied_to(app.settings).state_dir / app.name / "gateway-index")
    await reads.start()
    try:
        await serve(chosen, topics, lambda: kafka_of(settings), answer, wait_s=wait_s)
    finally:
        await reads.stop()
