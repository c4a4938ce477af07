"""Transformations: documents or nodes in, nodes out. Importing a name from here loads that name alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.transformations.contract import Transformation, transformation
    from workers.transformations.embed import Embed
    from workers.transformations.extractors.keywords import KeywordsExtractor
    from workers.transformations.extractors.questions import QuestionsAnsweredExtractor
    from workers.transformations.extractors.summary import SummaryExtractor
    from workers.transformations.extractors.title import TitleExtractor
    from workers.transformations.markdown_splitter import MarkdownSplitter
    from workers.transformations.parse import Parse
    from workers.transformations.sentence_splitter import SentenceSplitter

__all__ = [
    "Embed",
    "KeywordsExtractor",
    "MarkdownSplitter",
    "Parse",
    "QuestionsAnsweredExtractor",
    "SentenceSplitter",
    "SummaryExtractor",
    "TitleExtractor",
    "Transformation",
    "transformation",
]

_MODULES = {
    "Embed": "embed",
    "KeywordsExtractor": "extractors.keywords",
    "MarkdownSplitter": "markdown_splitter",
    "Parse": "parse",
    "QuestionsAnsweredExtractor": "extractors.questions",
    "SentenceSplitter": "sentence_splitter",
    "SummaryExtractor": "extractors.summary",
    "TitleExtractor": "extractors.title",
    "Transformation": "contract",
    "transformation": "contract",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
