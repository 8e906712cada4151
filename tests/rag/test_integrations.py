"""A document pipeline under the names of LangChain, LlamaIndex and the Model Context Protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from mcp.client import Client as McpClient

from millstream.client import AsyncClient, Client
from millstream.rag.errors import FilterError
from millstream.rag.filter import Filter
from millstream.rag.integrations import langchain, llama_index
from millstream.rag.integrations.mcp import server_of
from millstream.rag.integrations.quoted import name, quoted
from millstream.topics.memory import MemoryBroker
from tests.rag.served import bound_answer, gateway, running


@pytest.fixture
async def url() -> AsyncIterator[str]:
    broker = MemoryBroker()
    async with running(broker, "shop"), gateway(broker, "shop", answer=bound_answer(broker, "shop")) as address:
        yield address


async def in_a_thread(url: str, script: Callable[[Client], None]) -> None:
    """As a program without an event loop does it."""

    def run() -> None:
        with Client(url=url) as client:
            script(client)

    await asyncio.to_thread(run)


async def test_langchain_texts_are_added_replaced_found_and_deleted(url: str) -> None:
    def script(client: Client) -> None:
        store = langchain.MillstreamVectorStore(client)
        about = [{"lang": "en"}, {"lang": "de"}]
        assert store.add_texts(["A lamp from Jena.", "Eine Uhr aus Turin."], about, ids=["lamp", "uhr"]) == [
            "lamp",
            "uhr",
        ]
        found = store.similarity_search("lamp Jena", k=1)
        assert found == [LangChainDocument(id="lamp", page_content="A lamp from Jena.", metadata={"lang": "en"})]
        assert [one.id for one in store.similarity_search("lamp", k=5, filter="lang = 'de'")] == ["uhr"]
        assert [one.id for one in store.similarity_search("lamp", k=5, filter={"glob": "l*"})] == ["lamp"]
        store.add_documents([LangChainDocument(id="lamp", page_content="A lamp from Turin.")])
        ((first, best), (_, second)) = store.similarity_search_with_score("lamp Turin", k=2)
        assert (first.page_content, best > second) == ("A lamp from Turin.", True)
        assert [one.id for one in store.get_by_ids(["uhr", "no", "lamp"])] == ["uhr", "lamp"]
        assert store.as_retriever(search_kwargs={"k": 1}).invoke("lamp Turin") == [first]
        assert store.delete(["lamp", "no"])
        assert [one.id for one in store.similarity_search("lamp", k=5)] == ["uhr"]
        (retrieved,) = langchain.MillstreamRetriever(client=client, k=1, fresh=True).invoke("Uhr")
        assert (retrieved.id, retrieved.metadata["lang"], "score" in retrieved.metadata) == ("uhr", "de", True)
        retriever = langchain.MillstreamRetriever(client=client, fresh=True)
        store.add_texts(["Uhr.", "Eine Uhr."])
        assert [len(retriever.invoke("Uhr", k=count)) for count in (1, 3)] == [1, 3]  # as LangChain's own tests ask
        made = langchain.MillstreamVectorStore.from_texts(["Third."], client=client, ids=["third"])
        assert made.get_by_ids(["third"])[0].page_content == "Third."

    await in_a_thread(url, script)


async def test_langchain_says_what_cannot_be(url: str) -> None:
    def script(client: Client) -> None:
        store = langchain.MillstreamVectorStore(client)
        with pytest.raises(ValueError, match="2 texts, 1 ids"):
            store.add_texts(["a", "b"], ids=["a"])
        with pytest.raises(ValueError, match="needs ids"):
            store.delete()
        with pytest.raises(ValueError, match="needs client="):
            langchain.MillstreamVectorStore.from_texts(["a"])
        with pytest.raises(FilterError):
            store.similarity_search("a", filter="((")

    await in_a_thread(url, script)


async def test_langchain_stores_of_two_tenants_do_not_see_each_other(url: str) -> None:
    def script(client: Client) -> None:
        ours, theirs = (langchain.MillstreamVectorStore(client, tenant=one) for one in ("us", "them"))
        ours.add_texts(["Our lamp."], ids=["ours"])
        theirs.add_texts(["Their lamp."], ids=["theirs"])
        assert [one.id for one in ours.similarity_search("lamp")] == ["ours"]
        assert theirs.get_by_ids(["ours"]) == []

    await in_a_thread(url, script)


def node(node_id: str, text: str, source: str, **metadata: Any) -> TextNode:
    made = TextNode(id_=node_id, text=text, metadata=metadata)
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=source)
    return made


async def test_llama_index_nodes_are_added_found_and_deleted_by_their_document(url: str) -> None:
    def script(client: Client) -> None:
        store = llama_index.MillstreamVectorStore(client)
        nodes = [
            node("a1", "A lamp.", "a", year=2020),
            node("a2", "A clock.", "a", year=2024),
            node("b1", "A lamp.", "b"),
        ]
        assert store.add(nodes) == ["a1", "a2", "b1"]
        found = store.query(VectorStoreQuery(query_str="clock", similarity_top_k=1))
        assert (found.ids, len(found.similarities or [])) == (["a2"], 1)
        (first,) = found.nodes or []
        assert (first.get_content(), first.metadata, first.ref_doc_id) == ("A clock.", {"year": 2024}, "a")
        newer = MetadataFilters(filters=[MetadataFilter(key="year", value=2021, operator=FilterOperator.GT)])
        assert store.query(VectorStoreQuery(query_str="lamp", similarity_top_k=5, filters=newer)).ids == ["a2"]
        assert store.query(VectorStoreQuery(query_str="lamp", similarity_top_k=5, doc_ids=["b"])).ids == ["b1"]
        (retrieved,) = llama_index.MillstreamRetriever(client, k=1, fresh=True).retrieve("clock")
        assert (retrieved.node.node_id, retrieved.score is not None) == ("a2", True)
        store.delete("a")
        assert store.query(VectorStoreQuery(query_str="lamp", similarity_top_k=5)).ids == ["b1"]
        store.delete_nodes(["b1"])
        assert store.query(VectorStoreQuery(query_str="lamp", similarity_top_k=5)).ids == []
        with pytest.raises(ValueError, match="asked by text"):
            store.query(VectorStoreQuery(query_embedding=[0.1]))
        with pytest.raises(ValueError, match="nothing deletes all"):
            store.delete_nodes()

    await in_a_thread(url, script)


@pytest.mark.parametrize(
    ("filters", "names", "matches"),
    [
        ([("a", "==", 1)], {"a": 1}, True),
        ([("a", "!=", "x")], {"a": "x"}, False),
        ([("a", "in", ["x", "y"])], {"a": "y"}, True),
        ([("a", "in", [])], {"a": "y"}, False),
        ([("a", "nin", ["x", "y"])], {"a": "y"}, False),
        ([("a", "any", ["x", "y"])], {"a": ["y", "z"]}, True),
        ([("a", "all", ["x", "y"])], {"a": ["y", "z"]}, False),
        ([("a", "contains", "z")], {"a": ["y", "z"]}, True),
        ([("a", "is_empty", None)], {}, True),
        ([("a b.c", "==", "it's \\ `x`")], {"a b.c": "it's \\ `x`"}, True),
        ([("a", ">", 1), ("b", "<", 2)], {"a": 2, "b": 2}, False),
    ],
)
def test_llama_index_filters_mean_what_they_say(filters: list[Any], names: dict[str, Any], matches: bool) -> None:
    given = MetadataFilters(filters=[MetadataFilter(key=k, operator=FilterOperator(o), value=v) for k, o, v in filters])
    assert Filter(llama_index.filter_text(given)).matches(names) is matches
    negated = MetadataFilters(filters=[given], condition=FilterCondition.NOT)
    assert Filter(llama_index.filter_text(negated)).matches(names) is not matches


@given(st.text(max_size=50), st.text(st.characters(blacklist_characters="`"), min_size=1, max_size=20))
def test_quoted_values_and_names_are_read_as_what_they_were(value: str, key: str) -> None:
    """Whatever stands in them: a filter made of an id cannot be made to say something else."""
    chosen = Filter(f"{name(key)} == {quoted(value)}")
    assert chosen.matches({key: value})
    assert not chosen.matches({key: value + "x"})


def test_what_is_no_value_and_no_name_is_refused() -> None:
    for wrong in ("", "a`b"):
        with pytest.raises(FilterError):
            name(wrong)
    with pytest.raises(FilterError):
        quoted([1])


async def test_a_model_has_tools(url: str) -> None:
    async with AsyncClient(url=url) as client:
        await client.put("lamp.md", text="The lamp is made in Jena.", content_type="text/markdown")
        await client.retrieve("lamp", fresh=True)
        async with McpClient(server_of(client)) as model:
            tools = {tool.name for tool in (await model.list_tools()).tools}
            assert tools == {"retrieve", "answer", "list_documents", "statistics"}
            told = await model.call_tool("answer", {"question": "Where is the lamp made?"})
            assert told.structured_content is not None
            assert told.structured_content["answer"] == "The lamp is made in Jena. [1]"
            found = await model.call_tool("retrieve", {"question": "lamp", "k": 1})
            assert found.structured_content is not None
            assert found.structured_content["result"][0]["uri"] == "lamp.md"
            listed = await model.call_tool("list_documents", {})
            assert listed.structured_content is not None
            assert [one["uri"] for one in listed.structured_content["documents"]] == ["lamp.md"]
            assert (await model.call_tool("statistics", {})).structured_content["documents"] == 1  # type: ignore[index]
            wrong = await model.call_tool("retrieve", {"question": "lamp", "filter": "(("})
            assert (wrong.is_error, "filter" in str(wrong.content)) == (True, True)
            assert (await model.call_tool("delete_document", {"id": "lamp.md"})).is_error


async def test_a_model_changes_documents_only_where_it_may(url: str) -> None:
    async with AsyncClient(url=url) as client, McpClient(server_of(client, writes=True)) as model:
        put = await model.call_tool("put_document", {"id": "a.md", "text": "A lamp.", "metadata": {"lang": "en"}})
        assert put.structured_content is not None
        assert (put.structured_content["state"], put.structured_content["metadata"]) == ("indexed", {"lang": "en"})
        await model.call_tool("delete_document", {"id": "a.md"})
        assert await client.document("a.md") is None
