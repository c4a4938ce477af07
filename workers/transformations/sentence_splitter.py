"""SentenceSplitter: chunks of plain text, cut at paragraphs, lines, sentences and words, in this order."""

from typing import ClassVar

from workers.transformations.chunking import TokenSplitter
from workers.transformations.contract import transformation

__all__ = ["SentenceSplitter"]


@transformation("sentence_splitter", version=1)
class SentenceSplitter(TokenSplitter):
    """Split plain text: `SentenceSplitter(chunk_size=512, chunk_overlap=64)`."""

    library_class: ClassVar[str] = "TextSplitter"
