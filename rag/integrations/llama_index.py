"""LlamaIndex's retriever and vector store over a document pipeline (extra `llamaindex`).

    with Client("help") as client:
        store = MillstreamVectorStore(client=client)
        index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(1))   # the pipeline embeds
        MillstreamRetriever(client, k=3).retrieve("Where is the lamp made?")

A node is a document of the pipeline: its id is the uri, and the document it came from (`ref_doc_id`) is kept in the metadata under
`_ref_doc_id`, by which it is deleted. The pipeline splits what is long and embeds it; vectors that nodes bring are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..parts import extra

extra("llama_index.core", "llamaindex")

from llama_index.core.bridge.pydantic import PrivateAttr  # noqa: E402 - the error above says what to install
from llama_index.core.callbacks import CallbackManager  # noqa: E402
from llama_index.core.retrievers import BaseRetriever  # noqa: E402
from llama_index.core.schema import (  # noqa: E402
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (  # noqa: E402
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from ..document import Document, Hit  # noqa: E402
from ..errors import AnswerError, FilterError  # noqa: E402
from ..filters import FilterText  # noqa: E402
from ..sync_client import Client  # noqa: E402
from .quoted import name, quoted  # noqa: E402

REF: Final = "_ref_doc_id"
"""The name under which a node's document is kept; not shown in the metadata of what is found."""
_COMPARED: Final = {
    FilterOperator.EQ: "==",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.CONTAINS: "contains",
    FilterOperator.TEXT_MATCH: "contains",
}


class MillstreamRetriever(BaseRetriever):
    """The chunks that fit a question, best first; options as of `Client.retrieve`."""

    def __init__(
        self,
        client: Client,
        *,
        k: int | None = None,
        filter: FilterText | None = None,  # noqa: A002 - the word of the queries topic
        tenant: str | None = None,
        fresh: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self._client = client
        self._options: dict[str, Any] = {"k": k, "filter": filter, "tenant": tenant, "fresh": fresh}
        super().__init__(callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._client.retrieve(query_bundle.query_str, **self._options)
        return [NodeWithScore(node=_node(hit), score=hit.score) for hit in hits]


class MillstreamVectorStore(BasePydanticVectorStore):
    """`client`: one that is open, and stays the caller's. A query waits until what was put before it is in the index."""

    stores_text: bool = True
    is_embedding_query: bool = False
    _client: Any = PrivateAttr()

    def __init__(self, client: Client, **options: Any) -> None:
        super().__init__(**options)
        self._client = client

    @classmethod
    def class_name(cls) -> str:
        return "MillstreamVectorStore"

    @property
    def client(self) -> Any:
        return self._client

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Puts each node (one of the same id takes its place), and waits until all are indexed. Raises AnswerError."""
        statuses = self._client.put_many([_put(node) for node in nodes])
        failed = [(node, one) for node, one in zip(nodes, statuses, strict=True) if one.state == "failed"]
        if failed:
            node, status = failed[0]
            raise AnswerError(
                f"{len(failed)} of {len(nodes)} nodes cannot be indexed; {node.node_id!r}: {status.error}"
            )
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """All nodes of a document."""
        self._delete_all(f"{name(REF)} == {quoted(ref_doc_id)}")

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        if node_ids is not None:
            self._client.delete_many(node_ids)
        elif filters is not None:
            self._delete_all(filter_text(filters))
        else:
            raise ValueError("delete_nodes needs node_ids or filters: nothing deletes all")

    def _delete_all(self, wanted: str) -> None:
        while found := self._client.documents(wanted, limit=1_000).documents:
            self._client.delete_many([one.uri for one in found])

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """By its text. Raises ValueError for a query that is only a vector, FilterError."""
        if not query.query_str:
            raise ValueError("this store is asked by text: the pipeline embeds the question")
        hits = self._client.retrieve(
            query.query_str, k=query.similarity_top_k or None, filter=_filter_of(query), fresh=True
        )
        nodes = [_node(hit) for hit in hits]
        scores, ids = [hit.score for hit in hits], [node.node_id for node in nodes]
        return VectorStoreQueryResult(nodes=nodes, similarities=scores, ids=ids)


def _put(node: BaseNode) -> Document:
    metadata = dict(node.metadata) | ({REF: node.ref_doc_id} if node.ref_doc_id else {})
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    return Document(node.node_id, text=text, content_type="text/plain", metadata=metadata)


def _node(hit: Hit) -> TextNode:
    metadata = dict(hit.chunk.metadata)
    source = metadata.pop(REF, None)
    node = TextNode(id_=hit.chunk.document, text=hit.chunk.shown, metadata=metadata)
    if source is not None:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=str(source))
    return node


def _filter_of(query: VectorStoreQuery) -> str | None:
    """What the query limits itself to, all of it."""
    wanted = [filter_text(query.filters)] if query.filters is not None and query.filters.filters else []
    if query.node_ids is not None:
        wanted.append(_among("uri", query.node_ids))
    if query.doc_ids is not None:
        wanted.append(_among(name(REF), query.doc_ids))
    return " and ".join(f"({one})" for one in wanted) or None


def filter_text(filters: MetadataFilters) -> str:
    """LlamaIndex's filters as ours. Raises FilterError for an operator that ours have no word for."""
    parts = [filter_text(one) if isinstance(one, MetadataFilters) else _test(one) for one in filters.filters]
    if not parts:
        raise FilterError("filter: no filters are given")
    if filters.condition == FilterCondition.NOT:
        return f"not ({' or '.join(f'({part})' for part in parts)})"
    return f" {(filters.condition or FilterCondition.AND).value} ".join(f"({part})" for part in parts)


def _test(one: MetadataFilter) -> str:
    key, operator, value = name(one.key), one.operator, one.value
    if operator in _COMPARED:
        return f"{key} {_COMPARED[operator]} {quoted(value)}"
    if operator in {FilterOperator.IN, FilterOperator.NIN} and isinstance(value, list):
        return _among(key, value, negated=operator == FilterOperator.NIN)
    if operator in {FilterOperator.ANY, FilterOperator.ALL} and isinstance(value, list) and value:
        word = " or " if operator == FilterOperator.ANY else " and "
        return word.join(f"{key} contains {quoted(part)}" for part in value)
    if operator == FilterOperator.IS_EMPTY:
        return f"{key} == null"
    raise FilterError(f"filter: {operator.value!r} of {one.key!r} with {value!r} is not to be had")


def _among(key: str, values: Sequence[Any], *, negated: bool = False) -> str:
    if not values:
        return "1 == 1" if negated else "1 == 2"
    return f"{key} {'not ' if negated else ''}in [{', '.join(map(quoted, values))}]"
