"""What comes from LlamaIndex and LangChain, as docmill's own words: documents, nodes, steps and vector stores.

Told by the names of their classes: neither library is imported here, nor needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from orchestrator.contracts.documents import Document
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.llama_index import (
    EXCLUDED_KEYS,
    PREFIX,
    Component,
    describe,
    installed_release,
    is_kind,
    parse_label,
)
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.spec import SpecSource, TransformationSpec

__all__ = ["ForeignDocument", "ForeignNode", "as_documents", "as_node", "as_spec", "as_vector_store"]

_SOURCES = ("source", "file_path")  # what loaders say of where a document is from
_REMEMBERED_SOURCES = 100_000


class ForeignDocument(Protocol):
    """A document of LlamaIndex or LangChain."""

    metadata: dict[str, Any]


class ForeignNode(Protocol):
    """A node of LlamaIndex."""

    metadata: dict[str, Any]

    @property
    def ref_doc_id(self) -> str | None: ...


def as_documents(documents: Iterable[Document | ForeignDocument]) -> Iterator[Document]:
    """Documents of any of the libraries as docmill's, one by one.

    An id that was given is kept. LlamaIndex makes up ids, other ones each time, and LangChain's may be None: such
    documents are named by their source, and the second of a source by `#2` behind it, in their order; without a source
    they are named by their content, as docmill's own.

    Raises:
        ConfigurationError: something is no document.
    """
    seen: OrderedDict[str, int] = OrderedDict()
    for document in documents:
        if isinstance(document, Document):
            yield document
            continue
        id, source, text, metadata = _parts(document)
        yield Document(id=id or _numbered(seen, source), text=text, metadata=metadata)


def as_node(node: Node | ForeignNode) -> Node | None:
    """A node of LlamaIndex as docmill's, which is known by the document it was cut from; None of anything else.

    Its id stays behind, as its vector does: ids are bound, and texts embedded, by the pipeline.
    """
    if isinstance(node, Node):
        return node
    if not is_kind(node, "BaseNode"):
        return None
    made: Any = node
    start, end = getattr(made, "start_char_idx", None), getattr(made, "end_char_idx", None)
    return Node(_text(made), _metadata(made), start, end, document_id=made.ref_doc_id or "")


def as_spec(
    step: SpecSource | TransformationSpec | Component, classes: tuple[str, ...], embed: _MakeStep
) -> TransformationSpec:
    """A step as plain data, whoever made it.

    Args:
        classes: of LlamaIndex, registered by the setting `llama_index_classes`.
        embed: makes the step that asks an embedder.

    Raises:
        ConfigurationError: it is no step, or one that cannot travel.
    """
    if isinstance(step, TransformationSpec):
        return step
    if is_kind(step, "BaseEmbedding"):
        found = describe(step, classes)
        size = found.tuning.get("embed_batch_size")
        return embed(embedder=found.label, **({"batch_size": size} if size else {})).spec()
    if is_kind(step, "TransformComponent"):
        found = describe(step, classes)
        parameters = {"component": found.name, "release": installed_release(), "state": found.state}
        return TransformationSpec(name="llama_index", version=1, parameters=parameters, tuning={"speed": found.tuning})
    if isinstance(step, SpecSource):
        return step.spec()
    raise ConfigurationError(
        f"{type(step).__name__} is no transformation: allowed are docmill's, and components of LlamaIndex"
    )


def as_vector_store(store: str | Component, classes: tuple[str, ...]) -> str:
    """A vector store's name.

    Raises:
        ConfigurationError: it is none, or one that cannot travel.
    """
    if isinstance(store, str):
        if store.startswith(PREFIX):
            parse_label(store)
        return store
    if not is_kind(store, "BasePydanticVectorStore"):
        raise ConfigurationError(f"{type(store).__name__} is no vector store: give a name, or one of LlamaIndex's")
    if not getattr(store, "stores_text", False):
        raise ConfigurationError(
            f"LlamaIndex's {type(store).__name__} keeps vectors in the memory of one process, or without their texts: "
            "use one that is a server, as PGVectorStore"
        )
    return describe(store, classes).label


class _MakeStep(Protocol):
    def __call__(self, *, embedder: str, **tuning: Any) -> SpecSource: ...


def _parts(document: Any) -> tuple[str, str, str, dict[str, Any]]:
    """(given id, source, text, metadata) of a document of another library."""
    metadata = _metadata(document)
    source = next((str(metadata[key]) for key in _SOURCES if metadata.get(key)), "")
    if is_kind(document, "BaseNode"):
        node: Any = document
        # A node's own id is as a rule made up; what it was cut from has a name.
        parent = node.ref_doc_id
        given = "" if parent or "id_" not in node.model_fields_set else node.id_
        return given, parent or source, _text(node), metadata
    if _is_of_langchain(document) and hasattr(document, "page_content"):
        return document.id or "", source, document.page_content, metadata
    raise ConfigurationError(
        f"{type(document).__name__} is no document: allowed are docmill's, LlamaIndex's and LangChain's"
    )


def _metadata(item: Any) -> dict[str, Any]:
    """Its metadata, and which of them LlamaIndex is not to show to a model."""
    excluded = {key: keys for key in EXCLUDED_KEYS if (keys := getattr(item, key, None))}
    return {**(getattr(item, "metadata", None) or {}), **excluded}


def _text(node: Any) -> str:
    text: str = node.get_content(metadata_mode="none")
    return text


def _is_of_langchain(value: object) -> bool:
    return any(
        base.__name__ == "BaseMedia" and base.__module__.startswith("langchain_core.") for base in type(value).__mro__
    )


def _numbered(seen: OrderedDict[str, int], source: str) -> str:
    """The source's name, with a number from the second document on; remembers the sources seen last."""
    if not source:
        return ""
    seen[source] = seen.pop(source, 0) + 1
    if len(seen) > _REMEMBERED_SOURCES:
        seen.popitem(last=False)
    return source if seen[source] == 1 else f"{source}#{seen[source]}"
