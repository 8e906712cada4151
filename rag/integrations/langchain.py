"""LangChain's retriever and vector store over a document pipeline (extra `langchain`).

    with Client("help") as client:                                     # or Client(url="http://127.0.0.1:8080")
        store = MillstreamVectorStore(client)
        store.add_texts(["The lamp is made in Jena."], ids=["lamp"])   # the same id again takes its place
        store.similarity_search("Where is the lamp made?", k=1)

A LangChain document is a document of the pipeline: its id is the uri. The pipeline splits it, so what is found are its chunks, each with
the id of its document; and it embeds it, so an `Embeddings` object is not wanted. Scores are larger for what fits better, and comparable
within one question only. What was just added is found (`fresh`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from ..parts import extra

extra("langchain_core", "langchain")

from langchain_core.callbacks import CallbackManagerForRetrieverRun  # noqa: E402 - the error above says what to install
from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402
from langchain_core.retrievers import BaseRetriever  # noqa: E402
from langchain_core.vectorstores import VectorStore  # noqa: E402

from ..document import Document as Put  # noqa: E402
from ..document import Hit  # noqa: E402
from ..errors import AnswerError  # noqa: E402
from ..filters import FilterText  # noqa: E402
from ..messages import K_MAX, Status  # noqa: E402
from ..sync_client import Client  # noqa: E402
from .quoted import quoted  # noqa: E402

CONTENT_TYPE = "text/plain"


class MillstreamRetriever(BaseRetriever):
    """The chunks that fit a question, best first; their score is in the metadata as `score`.

    `client`: one that is open. `k`: None: as the pipeline is set. `filter`: ours, or {"jmespath": ..., "glob": ...}. `fresh`: only from an
    index that has everything put before.
    """

    client: Any
    k: int | None = None
    filter: str | dict[str, str] | None = None
    tenant: str | None = None
    fresh: bool = False

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        """`k`: for this question, as in `retriever.invoke("...", k=3)`."""
        hits = self.client.retrieve(query, k=k or self.k, filter=self.filter, tenant=self.tenant, fresh=self.fresh)
        found = [_document(hit) for hit in hits]
        for document, hit in zip(found, hits, strict=True):
            document.metadata["score"] = hit.score
        return found


class MillstreamVectorStore(VectorStore):
    """`client`: one that is open, and stays the caller's. `fresh`: a search waits until what was put before it is in the index."""

    def __init__(self, client: Client, *, tenant: str | None = None, fresh: bool = True) -> None:
        self._client = client
        self._tenant = tenant
        self._fresh = fresh

    @property
    def embeddings(self) -> Embeddings | None:
        """None: the pipeline embeds."""
        return None

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Puts each text as a document, and waits until all are indexed. Raises AnswerError naming the first that cannot be."""
        given = list(texts)
        names = [one or str(uuid.uuid4()) for one in ids or [None] * len(given)]
        metadata: list[dict[str, Any]] = metadatas or [{} for _ in given]
        if not len(given) == len(names) == len(metadata):
            raise ValueError(
                f"{len(given)} texts, {len(names)} ids and {len(metadata)} metadatas: give as many of each"
            )
        own = {} if self._tenant is None else {"tenant": self._tenant}
        documents = [
            Put(uri, text=text, content_type=CONTENT_TYPE, metadata=about | own)
            for uri, text, about in zip(names, given, metadata, strict=True)
        ]
        _check(names, self._client.put_many(documents))
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Those that are not there are passed over. Raises ValueError where no ids are given: nothing deletes all."""
        if ids is None:
            raise ValueError("delete needs ids")
        self._client.delete_many(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents put together from their chunks (100 at most), in the order of the ids; those that are not there are left out."""
        found = [self._one(uri) for uri in ids]
        return [one for one in found if one is not None]

    def _one(self, uri: str) -> Document | None:
        hits = self._client.retrieve(
            uri, k=K_MAX, filter=f"uri = {quoted(uri)}", fresh=self._fresh, tenant=self._tenant
        )
        if not hits:
            return None
        hits.sort(key=lambda hit: hit.chunk.position)
        document = _document(hits[0])
        document.page_content = "\n\n".join(hit.chunk.shown for hit in hits)
        return document

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        filter: FilterText | None = None,  # noqa: A002 - LangChain's word too
        **kwargs: Any,
    ) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, filter)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: FilterText | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """The score is larger for what fits better, and comparable within one question only."""
        hits = self._client.retrieve(query, k=k, filter=filter, tenant=self._tenant, fresh=self._fresh)
        return [(_document(hit), hit.score) for hit in hits]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        client: Client | None = None,
        **kwargs: Any,
    ) -> Self:
        """`client` is wanted; `embedding` is not, since the pipeline embeds."""
        if client is None:
            raise ValueError("from_texts needs client=, an open millstream.client.Client")
        store = cls(client, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store


def _document(hit: Hit) -> Document:
    return Document(id=hit.chunk.document, page_content=hit.chunk.shown, metadata=dict(hit.chunk.metadata))


def _check(names: Sequence[str], statuses: Sequence[Status]) -> None:
    failed: Mapping[str, Status] = {
        uri: status for uri, status in zip(names, statuses, strict=True) if status.state == "failed"
    }
    if failed:
        uri, status = next(iter(failed.items()))
        raise AnswerError(f"{len(failed)} of {len(names)} documents cannot be indexed; {uri!r}: {status.error}")
