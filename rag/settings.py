"""Settings of the document pipeline: values, never components. Every limit has its unit last in its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from .adaptive import AdaptiveSettings
from .conversation import ConversationSettings
from .document import Price
from .messages import Strategy
from .parse_job import Part
from .parse_pool import ParseSettings
from .parser import Limits
from .prompt import NO_ANSWER
from .updates import VectorType


@dataclass(frozen=True, slots=True)
class PaidCallSettings:
    """What models and embedders were paid for, told to the other workers before it is committed (`rag/paid_calls.py`)."""

    retention_ms: int = 3_600_000
    """How far back a worker reads at its start, and how long the topic keeps them. 0: nothing is told."""
    entries_max: int = 10_000
    """Held in memory, and read at the start: the newest. (10,000 vectors of 1,536 numbers are 60 MB.)"""
    ready_timeout_ms: int = 10_000
    """How long the first call waits until what was told before the start is read."""
    tell_timeout_ms: int = 5_000
    """How long whoever has paid waits for the broker to have it; then it goes on."""
    poll_timeout_ms: int = 500
    poll_records_max: int = 1_000
    retry_pause_ms: int = 1_000
    """After the broker could not be reached."""


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Documents -> chunks and vectors."""

    embedder: Part = Part("local")
    splitter: Part = Part("recursive")
    parsers: Mapping[str, Part] = field(default_factory=dict)
    """Parsers by content type, where another than the usual one is wanted."""
    vector_type: VectorType = "f16"
    limits: Limits = Limits()
    parsing: ParseSettings = ParseSettings()
    ref_prefixes: tuple[str, ...] = ()
    """Where `ref` may point, as in ("s3://our-bucket/",). None by default: whoever writes to the topic could read our files."""
    cache_entries_max: int = 100_000
    """Vectors kept by the hash of their text, per task."""
    paid_calls: PaidCallSettings = PaidCallSettings()
    """Of embedders that are not free."""
    concurrency_max: int = 8
    pending_rows_max: int = 64
    embed_texts_max: int = 256
    """Texts of several documents that are embedded in one call."""


RerankerFailure = Literal["fall_back", "fail"]
RERANKER_FAILURES: Final[tuple[RerankerFailure, ...]] = ("fall_back", "fail")


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """Which chunks: the best by a ranking (`rag/ranking.py`), then a reranker."""

    k: int = 5
    """Chunks that the strategies `fixed` and `retrieve` give, where the query names no number of its own."""
    pool_chunks: int = 50
    """The best so many by vector and by keywords are ranked together."""
    ranking: Part = Part("coverage")
    coverage_weight: float = 2.5
    """Of the ranking `coverage`."""
    language: str = "english"
    """Of the stemmer, on the keyword side."""
    reranker: Part | None = None
    """None: `maxsim` where the embedder has token vectors (`local`), else `none`."""
    rerank_chunks: int = 20
    """The reranker sees the best so many, or as many as are wanted where that is more."""
    reranker_failure: RerankerFailure = "fall_back"
    """`fall_back`: a reranker that fails leaves the order before it, and the answer says so (`strategy.reranker_failure`). `fail`: the
    question is answered with that error."""


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """The index as a view of `index-updates`."""

    index: Part = Part("auto")
    """`auto` searches exactly up to 50,000 chunks and in a graph above; `exact` and `hnsw` do only that."""
    apply_records_max: int = 500
    """Updates applied in one go while catching up at the start."""
    live_records_max: int = 4
    """Updates applied in one go afterwards: a question waits for no more than that."""
    poll_records_max: int = 2_000
    poll_timeout_ms: int = 500
    checkpoint_records: int = 20_000
    """A checkpoint is made after so many updates..."""
    checkpoint_interval_ms: int = 60_000
    """...or after so long, if there were any."""
    checkpoint_age_max_ms: int = 43_200_000
    """An older checkpoint is thrown away at the start: compaction forgets a removal after `delete.retention.ms` (a day), and a
    chunk whose removal was never read would stay for ever."""
    retry_pause_ms: int = 1_000
    """After the broker could not be reached."""
    tenant_indexes_max: int = 100
    """Tenants with an index of their own, which one gets above 5,000 chunks; one more is searched from end to end."""
    partitions_interval_ms: int = 30_000
    """How often new partitions of the topic are looked for."""


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """An index in shards: each worker holds some partitions of `index-updates`, every question is asked of all."""

    deadline_ms: int = 5_000
    """How long a shard may take to answer. A question waits no longer for one, and says which were missing; a shard that is left
    out is not asked again for this question."""
    retry_ms: int = 50
    """A shard that is there and has not come far enough yet is asked again after so long."""
    pending_max: int = 10_000
    """Requests to shards that a process waits for at once; a question beyond it is answered with an error."""
    concurrency_max: int = 16
    """Requests that a shard works on at once, of those that go through its worker (`rag/shard_requests.py`)."""
    pending_rows_max: int = 1_000
    """Requests that its worker reads before they were replied to."""
    retention_ms: int = 3_600_000
    """Of the topics between, where they are made: nobody wants an old request or reply."""
    partitions_interval_ms: int = 30_000
    """How often it is looked whether `index-updates` has other partitions now."""

    def __post_init__(self) -> None:
        for name in ("deadline_ms", "retry_ms", "pending_max", "concurrency_max", "pending_rows_max", "retention_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """Questions -> answers."""

    embedder: Part = Part("local")
    """The same as that of the documents: vectors of another are not found."""
    llm: Part = Part("quote")
    retrieval: RetrievalSettings = RetrievalSettings()
    rewriter: Part | None = None
    """Search queries beside the question. None: the question alone."""
    conversation: ConversationSettings = ConversationSettings()
    strategy: Strategy = "adaptive"
    """Of a query that names none. A model that cannot refuse (`rag/llm.py`) is asked with `k` chunks at once all the same."""
    adaptive: AdaptiveSettings = AdaptiveSettings()
    no_answer: str = NO_ANSWER
    """The sentence by which a model that is asked in words says that the documents do not say."""
    price: Price | None = None
    """Of the model, for `cost`; None: not known."""
    view: ViewSettings = ViewSettings()
    sharded: ShardSettings | None = None
    """None: every answering process holds the whole index."""
    ready_timeout_ms: int = 60_000
    """How long a question waits for an index that is still catching up at the start."""
    fresh_timeout_ms: int = 10_000
    """How long it waits for the position it asked for (`fresh_after`)."""
    answer_timeout_ms: int = 120_000
    """For everything together."""
    cache_entries_max: int = 10_000
    """What the model said, kept by what it was asked (prompt, chunks, configuration), per task."""
    paid_calls: PaidCallSettings = PaidCallSettings()
    standing_max: int = 10_000
    """Standing questions, per task. One more is answered with an error, and does not stand."""
    standing_retries_max: int = 20
    """How often a standing question that could not be answered anew (the model is away) is tried again, before it is left until its
    documents change once more or the worker starts."""
    standing_retry_ms: int = 2_000
    """The first pause; each is twice the one before."""
    standing_retry_ms_max: int = 600_000
    concurrency_max: int = 16
    pending_rows_max: int = 256

    def __post_init__(self) -> None:
        if not any(letter.isalnum() for letter in self.no_answer):
            raise ValueError(f"no_answer must have a word, got {self.no_answer!r}")
