"""Nodes as LlamaIndex has them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.llama_index import EXCLUDED_KEYS
from orchestrator.contracts.nodes import Node

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode, TextNode

__all__ = ["as_text_node", "from_llama_index", "to_llama_index"]


def to_llama_index(nodes: Sequence[Node]) -> list[BaseNode]:
    """Nodes on their way into a transformation, each named by its place.

    All metadata keys are excluded from the texts that are embedded and asked about: docmill embeds a node's text alone,
    so metadata must not take a chunk's room.
    """
    from llama_index.core.schema import Document

    return [
        Document(
            id_=str(place),
            text=node.text,
            metadata=dict(node.metadata),
            excluded_embed_metadata_keys=list(node.metadata),
            excluded_llm_metadata_keys=list(node.metadata),
        )
        for place, node in enumerate(nodes)
    ]


def from_llama_index(made: Sequence[BaseNode], given: Sequence[Node]) -> list[Node]:
    """What a transformation made of the given nodes."""
    return [_node(each, given) for each in made]


def _node(made: BaseNode, given: Sequence[Node]) -> Node:
    text = made.get_content()
    node = Node(text=text, metadata=dict(made.metadata))
    source = made.ref_doc_id or made.node_id
    if source.isdecimal() and int(source) < len(given):
        origin = given[int(source)]
        start = getattr(made, "start_char_idx", None) if made.ref_doc_id else 0
        # LlamaIndex looks for the chunk in the text, and may have found another.
        if start is not None and origin.start is not None and origin.text.startswith(text, start):
            node.start = origin.start + start
            node.end = node.start + len(text)
    return node


def as_text_node(
    id: str, text: str, metadata: dict[str, Any], document_id: str, *, hidden: Sequence[str] = ()
) -> TextNode:
    """A node as LlamaIndex reads it out of a vector store. `hidden` keys are shown to no model."""
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

    shown = {key: value for key, value in metadata.items() if key not in EXCLUDED_KEYS}
    embed, llm = ([*metadata.get(key, ()), *hidden] for key in EXCLUDED_KEYS)
    return TextNode(
        id_=id,
        text=text,
        metadata=shown,
        excluded_embed_metadata_keys=embed,
        excluded_llm_metadata_keys=llm,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document_id)},
    )
