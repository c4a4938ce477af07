"""Sources: whatever a caller hands in becomes one stream of documents, read as it is needed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from orchestrator.contracts.documents import Document, SplitDocument
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.nodes import Node
from orchestrator.foreign import ForeignDocument, ForeignNode, as_documents, as_node

__all__ = ["Reader", "check_documents", "check_reader", "split_documents", "stream_documents"]

# Anything that can be read: an iterable of documents, or an object with one of these methods that gives them.
Reader = Any
_READING = ("lazy_load_data", "load_data", "read")  # the one that streams first
# Parents whose nodes a stream has given; nodes that come back to an older one than these are not noticed.
_REMEMBERED_PARENTS = 100_000


def check_documents(documents: object) -> None:
    """Refuse what cannot be a source of documents, before anything is read.

    Raises:
        ConfigurationError: it is one document, or a text, or nothing that can be iterated.
    """
    if documents is None or (isinstance(documents, Iterable) and not isinstance(documents, (str, bytes, Document))):
        return
    what = "a single Document" if isinstance(documents, Document) else f"{type(documents).__name__} {documents!r:.60}"
    raise ConfigurationError(f"documents is {what}; give a list, a generator or a FileReader of Documents")


def check_reader(reader: Reader) -> None:
    """Refuse what is no reader.

    Raises:
        ConfigurationError: it can neither be iterated nor has one of the methods that read.
    """
    if isinstance(reader, (str, bytes)) or not (isinstance(reader, Iterable) or _reading_method(reader)):
        raise ConfigurationError(
            f"{type(reader).__name__} {reader!r:.60} is no reader; a reader is an iterable of Documents, like "
            f'FileReader("folder"), or has one of the methods {", ".join(_READING)}'
        )


def stream_documents(*sources: Iterable[Document | ForeignDocument] | Reader | None) -> Iterator[Document]:
    """The documents of all sources, one after another; those of other libraries made docmill's.

    Raises:
        ConfigurationError: a source gives something that is no document.
    """
    return as_documents(item for source in sources if source is not None for item in _items(source))


def _items(source: Any) -> Iterable[Any]:
    read = _reading_method(source)
    return read() if read else source


def _reading_method(source: Any) -> Callable[[], Iterable[Any]] | None:
    if isinstance(source, Iterable):
        return None
    for name in _READING:
        method: Callable[[], Iterable[Any]] | None = getattr(source, name, None)
        if callable(method):
            return method
    return None


def split_documents(nodes: Iterable[Node | ForeignNode]) -> Iterator[SplitDocument]:
    """Nodes that are split already, LlamaIndex's too, as one document for each parent, in the order of the parents.

    Of a list the nodes of a parent may lie apart. A stream must give them one after another: it is not held in memory.

    Raises:
        ConfigurationError: something is no node, or names no parent; of a list before anything is read. Or a stream
            comes back to a parent.
    """
    if isinstance(nodes, (str, bytes)) or not isinstance(nodes, Iterable):
        raise ConfigurationError(f"nodes is {type(nodes).__name__}; give a list or a generator of Nodes")
    if isinstance(nodes, Sequence):
        parents: dict[str, list[Node]] = {}
        for node in _checked(nodes):
            parents.setdefault(node.document_id, []).append(node)
        return (_split_document(parent, of_parent) for parent, of_parent in parents.items())
    return _split_stream(nodes)


def _split_stream(nodes: Iterable[Node | ForeignNode]) -> Iterator[SplitDocument]:
    order: deque[str] = deque()
    seen: set[str] = set()
    for parent, of_parent in groupby(_checked(nodes), lambda node: node.document_id):
        if parent in seen:
            raise ConfigurationError(
                f"nodes of document {parent!r} come in two places of the stream, and the later would replace the "
                "earlier: sort the stream by document_id, or hand in a list"
            )
        seen.add(parent)
        order.append(parent)
        if len(order) > _REMEMBERED_PARENTS:
            seen.remove(order.popleft())
        yield _split_document(parent, list(of_parent))


def _checked(nodes: Iterable[Node | ForeignNode]) -> Iterator[Node]:
    """The nodes, made docmill's, each of which names its parent."""
    for index, given in enumerate(nodes):
        node = as_node(given)
        if node is None:
            raise ConfigurationError(
                f"nodes[{index}] is {type(given).__name__}; give Nodes, Node(text=…, document_id=…), or LlamaIndex's"
            )
        if not node.document_id:
            raise ConfigurationError(
                f"nodes[{index}] ({node.text!r:.60}) names no parent: set document_id to the id of the document it is "
                "of; of a LlamaIndex node that is the source among its relationships"
            )
        yield node


def _split_document(parent: str, nodes: list[Node]) -> SplitDocument:
    # Built without validation, as the documents of a FileReader are: the nodes were looked at one by one.
    return SplitDocument.model_construct(id=parent, text="", uri=None, metadata={}, nodes=tuple(nodes))
