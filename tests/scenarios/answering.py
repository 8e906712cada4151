"""Documents to answers as a process that is killed: `python -m tests.scenarios.answering JOB NUMBER FOLDER`, the job as JSON."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from millstream.rag.parse_job import Part
from millstream.rag.pipeline import DocumentPipeline, DocumentSettings, bind_answers, document_pipeline
from millstream.rag.settings import PaidCallSettings
from millstream.state.directory import StateDirectory
from millstream.state.settings import StateSettings
from millstream.state.stores.rocksdb import RocksDatabase, RocksShared
from millstream.topics.kafka.broker import KafkaBroker
from millstream.workers.app import App
from millstream.workers.worker import Worker
from tests.scenarios.counting_model import DIMENSIONS, PASSAGE, QUERY


@dataclass(frozen=True)
class Job:
    """What all workers of a run are told. `model`: the URL of the language model and of the embedder."""

    bootstrap: str
    app: str
    model: str
    partitions: int = 3
    told: bool = True
    """Whether paid calls are told to the other workers."""

    def text(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    def pipeline(self, app: App) -> DocumentPipeline:
        llm = Part("openai", {"url": self.model, "model": "counted", "api_key_env": "", "reply": "text"})
        settings = DocumentSettings.of(
            self.app,
            embedder=self.embedder,
            splitter="markdown",
            reranker="none",
            llm=llm,
            strategy="fixed",
            k=2,
            partitions=self.partitions,
        )
        paid = PaidCallSettings(retention_ms=3_600_000 if self.told else 0)
        ingest = replace(
            settings.ingest, paid_calls=paid, embed_texts_max=1
        )  # so that of a document some texts are paid for
        return document_pipeline(
            app, replace(settings, ingest=ingest, answer=replace(settings.answer, paid_calls=paid))
        )

    @property
    def embedder(self) -> Part:
        prefixes = {"query_prefix": QUERY, "document_prefix": PASSAGE}
        return Part(
            "openai", {"url": self.model, "model": "e", "dimensions": DIMENSIONS, "api_key_env": "", **prefixes}
        )


async def run(job: Job, number: int, folder: Path) -> None:
    """Until it is killed."""
    app = App(job.app, commit_interval="50ms", instance_id=f"{job.app}-{number}", checkpoint_interval_ms=500)
    job.pipeline(app)
    broker = KafkaBroker(
        {"bootstrap.servers": job.bootstrap, "session.timeout.ms": 6_000, "heartbeat.interval.ms": 500}
    )
    shared = RocksShared(StateSettings())
    state = StateDirectory(folder / f"state-{number}", job.app, lambda path: RocksDatabase(path, shared))
    bind_answers(app, broker, lambda: RocksDatabase(folder / f"index-{number}", shared))
    await Worker(app, broker, databases=state).run()


def main(job_text: str, number: str, folder: str) -> None:
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s worker {number} %(name)s %(message)s")
    asyncio.run(run(Job(**orjson.loads(job_text)), int(number), Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
