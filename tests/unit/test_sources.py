"""Sources: documents, readers and nodes become one stream, read as it is needed; what is none is refused early."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.contracts.documents import Document, SplitDocument
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.nodes import Node
from orchestrator.sources import check_documents, check_reader, split_documents, stream_documents


def _document(id: str) -> Document:
    return Document(id=id, text=id)


class _Lazy:
    """A reader that streams, and would rather not be asked for everything."""

    def lazy_load_data(self) -> Iterator[Document]:
        yield _document("lazy")

    def load_data(self) -> list[Document]:
        raise AssertionError("all at once")


class _Eager:
    def load_data(self) -> list[Document]:
        return [_document("eager")]


class _Config:
    def read(self) -> list[Document]:
        return [_document("read")]


def _ids(documents: Iterator[Document]) -> list[str]:
    return [document.id for document in documents]


def test_sources_come_one_after_another() -> None:
    """Iterables and readers of all kinds are read in the order in which they are given."""
    found = stream_documents([_document("a")], _Lazy(), None, _Eager(), _Config(), (_document(id) for id in "bc"))
    assert _ids(found) == ["a", "lazy", "eager", "read", "b", "c"]


def test_a_source_is_read_as_it_is_needed() -> None:
    """No source is read before its turn, and none further than asked for."""
    read = []

    def source(name: str) -> Iterator[Document]:
        for number in range(3):
            read.append(f"{name}{number}")
            yield _document(f"{name}{number}")

    found = stream_documents(source("a"), source("b"))
    assert read == []
    assert next(found).id == "a0"
    assert read == ["a0"]


@pytest.mark.parametrize("wrong", ["a text", b"bytes", _document("alone"), 7])
def test_what_is_no_source_of_documents_is_refused(wrong: object) -> None:
    """One document, a text or a number in place of a list is refused before anything is read, and named."""
    with pytest.raises(ConfigurationError, match=r"documents is .*give a list"):
        check_documents(wrong)


@pytest.mark.parametrize("wrong", ["folder", object()])
def test_what_is_no_reader_is_refused(wrong: object) -> None:
    """A reader can be iterated or has a method that reads; else the error says which there are."""
    with pytest.raises(ConfigurationError, match=r"no reader.*lazy_load_data, load_data, read"):
        check_reader(wrong)


@pytest.mark.parametrize("item", ["text", {"id": "a"}, Node(text="a")])
def test_what_is_no_document_is_named(item: object) -> None:
    """Something else than a document in a source is an error that names its type."""
    source: Any = [item]
    with pytest.raises(ConfigurationError, match=f"{type(item).__name__} is no document"):
        list(stream_documents(source))


def test_nodes_of_a_list_are_gathered_by_their_parents() -> None:
    """Nodes of a list become one document a parent, in the order in which the parents come, wherever they lie."""
    nodes = [Node(text=f"{parent}{n}", document_id=parent) for n, parent in enumerate("abab")]
    found = list(split_documents(nodes))
    assert [(document.id, [node.text for node in document.nodes]) for document in found] == [
        ("a", ["a0", "a2"]),
        ("b", ["b1", "b3"]),
    ]
    assert all(isinstance(document, SplitDocument) for document in found)


def test_a_stream_of_nodes_is_held_parent_by_parent() -> None:
    """A stream is read no further than the next parent."""
    read = []

    def stream() -> Iterator[Node]:
        for text in ("a0", "a1", "b0", "c0"):
            read.append(text)
            yield Node(text=text, document_id=text[0])

    found = split_documents(stream())
    assert (next(found).id, read) == ("a", ["a0", "a1", "b0"])
    assert _ids(found) == ["b", "c"]


def test_a_stream_that_comes_back_to_a_parent_is_refused() -> None:
    """Nodes of one parent in two places of a stream would replace each other: the error says what to do."""
    found = split_documents(Node(text=parent, document_id=parent) for parent in "aba")
    with pytest.raises(ConfigurationError, match=r"nodes of document 'a' come in two places.*sort"):
        list(found)


def _listed(nodes: list[Any]) -> object:
    return split_documents(nodes)


def _streamed(nodes: list[Any]) -> object:
    return list(split_documents(iter(nodes)))


@pytest.mark.parametrize("hand_in", [_listed, _streamed])
def test_a_node_without_a_parent_is_refused(hand_in: Callable[[list[Any]], object]) -> None:
    """A node that names no parent is refused, of a list before anything is read; its place and text are named."""
    with pytest.raises(ConfigurationError, match=r"nodes\[1\] \('lost'\) names no parent: set document_id"):
        hand_in([Node(text="a", document_id="a"), Node(text="lost")])
    with pytest.raises(ConfigurationError, match=r"nodes\[0\] is Document"):
        hand_in([_document("a")])


@pytest.mark.parametrize("wrong", ["text", 7])
def test_what_is_no_source_of_nodes_is_refused(wrong: Any) -> None:
    """A text or a number in place of nodes is refused."""
    with pytest.raises(ConfigurationError, match="give a list or a generator of Nodes"):
        split_documents(wrong)
