"""Tokens: counted offline, estimated for messages and tools, and summed up with what providers report."""

from workers.tokens.counter import TokenCounter, TokenizerLike
from workers.tokens.encodings import encoding_for_model
from workers.tokens.handler import TokenCountingHandler
from workers.tokens.tokenizer import DEFAULT_ENCODING, ENCODINGS, Tokenizer, get_tokenizer
from workers.tokens.usage import TokenEvent, TokenUsage
from workers.tokens.vocabulary import ensure_vocabulary

__all__ = [
    "DEFAULT_ENCODING",
    "ENCODINGS",
    "TokenCounter",
    "TokenCountingHandler",
    "TokenEvent",
    "TokenUsage",
    "Tokenizer",
    "TokenizerLike",
    "encoding_for_model",
    "ensure_vocabulary",
    "get_tokenizer",
]
