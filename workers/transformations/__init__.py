"""Transformations: documents or nodes in, nodes out. Importing a name from here loads that name alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.transformations.contract import Transformation, transformation
    from workers.transformations.embed import Embed
    from workers.transformations.markdown_splitter import MarkdownSplitter
    from workers.transformations.parse import Parse
    from workers.transformations.sentence_splitter import SentenceSplitter

__all__ = ["Embed", "MarkdownSplitter", "Parse", "SentenceSplitter", "Transformation", "transformation"]

_MODULES = {
    "Embed": "embed",
    "MarkdownSplitter": "markdown_splitter",
    "Parse": "parse",
    "SentenceSplitter": "sentence_splitter",
    "Transformation": "contract",
    "transformation": "contract",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
