"""Parse: the first transformation. Files become text; every text becomes one that can be stored."""

from typing import Any, ClassVar

from orchestrator.contracts.errors import DocumentError
from orchestrator.contracts.nodes import Node
from workers.transformations.contract import Transformation, transformation
from workers.transformations.docx_text import docx_text
from workers.transformations.html_text import html_text
from workers.transformations.media_type import MediaType, sniff_binary, sniff_text
from workers.transformations.pdf_text import pdf_text
from workers.transformations.sanitize import sanitize, sanitize_metadata
from workers.transformations.text_decoding import decode_text

__all__ = ["Parse"]


@transformation("parse", version=1)
class Parse(Transformation):
    """Turn the bytes of text, Markdown, HTML, PDF and DOCX files into text, and tell them apart by their content.

    Adds to the metadata of a file `media_type`, of HTML its `title` (unless the caller gave one), of PDF its `pages`,
    and `encoding` where a text was not in UTF-8. Characters that could not be decoded, NULs and lone surrogates
    become U+FFFD, in metadata too; `replaced_characters` says how many, where there were any.
    """

    cacheable: ClassVar[bool] = False

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Parse each node, in place.

        Raises:
            DocumentError: a document is of another kind, damaged, encrypted, or has no text.
        """
        for node in nodes:
            _parse(node)
        if len(nodes) == 1 and nodes[0].start is None:
            nodes[0].start, nodes[0].end = 0, len(nodes[0].text)
        return nodes


def _parse(node: Node) -> None:
    metadata, replaced = sanitize_metadata(node.metadata)
    text, found = node.text, dict[str, Any]()
    if node.content is not None:
        text, found = _read(node.content, metadata.get("source"))
        replaced += found.pop("replaced_characters", 0)
    text, unprintable = sanitize(text)
    replaced += unprintable
    if not text or text.isspace():
        raise DocumentError("parse", "has no text: it is empty or white space only")
    if replaced:
        found["replaced_characters"] = replaced
    if "title" in metadata:
        found.pop("title", None)
    node.text, node.content, node.metadata = text, None, {**metadata, **found}


def _read(content: bytes, source: object) -> tuple[str, dict[str, Any]]:
    """The text of a file, and what is to be known of it."""
    if not content:
        raise DocumentError("parse", "has no text: the file is empty")
    media_type = sniff_binary(content)
    if media_type is MediaType.PDF:
        text, pages = pdf_text(content)
        return text, {"media_type": media_type.value, "pages": pages}
    if media_type is MediaType.DOCX:
        return docx_text(content), {"media_type": media_type.value}
    text, encoding, replaced = decode_text(content)
    media_type = sniff_text(text, source)
    found: dict[str, Any] = {"media_type": media_type.value, "replaced_characters": replaced}
    if encoding != "utf-8":
        found["encoding"] = encoding
    if media_type is MediaType.HTML:
        text, title = html_text(text)
        if title:
            found["title"] = title
    return text, found
