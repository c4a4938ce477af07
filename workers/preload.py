"""What every child of a worker would load for itself: loaded before the fork, it is there once, and shared by all."""

import importlib.util

from orchestrator.ledger.engine import create_ledger_engine
from orchestrator.settings import Settings
from workers.providers.openai import preload_client
from workers.tokens.tokenizer import get_tokenizer

__all__ = ["preload"]

_OF_MOST_PIPELINES = (
    *("celery.backends.redis", "workers.caches.redis", "workers.vector_stores.pgvector"),
    *("workers.transformations.parse", "workers.transformations.sentence_splitter"),
)
_SPLITTER = "semantic_text_splitter"  # of Markdown and of prompts
_ACCELERATED_TOKENIZER = "toktok"  # without it a vocabulary might have to be fetched, which can wait until it is needed


def preload(settings: Settings) -> None:
    """Load the ledger's driver, the default tokenizer and what most pipelines use: 40 MB and 0.3 s a child.

    The client of a server that speaks OpenAI's API is loaded too, if one is named. Connects to nothing.

    Raises:
        ConfigurationError: the ledger's address is not one of Postgres or SQLite.
    """
    create_ledger_engine(settings.ledger_url).dispose()
    for name in _OF_MOST_PIPELINES:
        importlib.import_module(name)
    if importlib.util.find_spec(_SPLITTER):
        importlib.import_module(_SPLITTER)
    if importlib.util.find_spec(_ACCELERATED_TOKENIZER):
        get_tokenizer()
    preload_client(settings)
