"""The room that works: the Celery app, the chain of transformations, embedders, vector stores and caches.

A lazy door: importing a name from here loads that name alone. `workers.search` is a module, so the function in it has
no place here: `from workers.search import search`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.async_utils import as_completed, asyncio_run, batch_gather, chunks, run_async_tasks, run_jobs
    from workers.caches.ingestion_cache import CacheStatistics, IngestionCache
    from workers.caches.memory import MemoryCache
    from workers.caches.redis import RedisCache
    from workers.caches.registry import open_cache
    from workers.caches.sql import SqlCache
    from workers.process_loop import run_on_process_loop
    from workers.prompt_helper import PromptHelper
    from workers.tokens.callbacks import callback_handler
    from workers.tokens.counter import TokenCounter
    from workers.tokens.handler import TokenCountingHandler
    from workers.tokens.usage import TokenEvent, TokenUsage
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
    "CacheStatistics",
    "Embed",
    "IngestionCache",
    "KeywordsExtractor",
    "MarkdownSplitter",
    "MemoryCache",
    "Parse",
    "PromptHelper",
    "QuestionsAnsweredExtractor",
    "RedisCache",
    "SentenceSplitter",
    "SqlCache",
    "SummaryExtractor",
    "TitleExtractor",
    "TokenCounter",
    "TokenCountingHandler",
    "TokenEvent",
    "TokenUsage",
    "Transformation",
    "as_completed",
    "asyncio_run",
    "batch_gather",
    "callback_handler",
    "chunks",
    "open_cache",
    "run_async_tasks",
    "run_jobs",
    "run_on_process_loop",
    "transformation",
]

_HOMES = {
    "CacheStatistics": "caches.ingestion_cache",
    "Embed": "transformations.embed",
    "IngestionCache": "caches.ingestion_cache",
    "KeywordsExtractor": "transformations.extractors.keywords",
    "MarkdownSplitter": "transformations.markdown_splitter",
    "MemoryCache": "caches.memory",
    "Parse": "transformations.parse",
    "PromptHelper": "prompt_helper",
    "QuestionsAnsweredExtractor": "transformations.extractors.questions",
    "RedisCache": "caches.redis",
    "SentenceSplitter": "transformations.sentence_splitter",
    "SqlCache": "caches.sql",
    "SummaryExtractor": "transformations.extractors.summary",
    "TitleExtractor": "transformations.extractors.title",
    "TokenCounter": "tokens.counter",
    "TokenCountingHandler": "tokens.handler",
    "TokenEvent": "tokens.usage",
    "TokenUsage": "tokens.usage",
    "Transformation": "transformations.contract",
    "as_completed": "async_utils",
    "asyncio_run": "async_utils",
    "batch_gather": "async_utils",
    "callback_handler": "tokens.callbacks",
    "chunks": "async_utils",
    "open_cache": "caches.registry",
    "run_async_tasks": "async_utils",
    "run_jobs": "async_utils",
    "run_on_process_loop": "process_loop",
    "transformation": "transformations.contract",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
