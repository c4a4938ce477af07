"""MarkdownSplitter: chunks of Markdown, cut at headings, blocks and inline elements before sentences and words."""

from typing import ClassVar

from workers.transformations.chunking import TokenSplitter
from workers.transformations.contract import transformation

__all__ = ["MarkdownSplitter"]


@transformation("markdown_splitter", version=1)
class MarkdownSplitter(TokenSplitter):
    """Split Markdown: `MarkdownSplitter(chunk_size=512, chunk_overlap=64)`."""

    library_class: ClassVar[str] = "MarkdownSplitter"
