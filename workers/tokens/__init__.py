"""Counting tokens, offline."""

from workers.tokens.tokenizer import DEFAULT_ENCODING, ENCODINGS, Tokenizer, get_tokenizer
from workers.tokens.vocabulary import ensure_vocabulary

__all__ = ["DEFAULT_ENCODING", "ENCODINGS", "Tokenizer", "ensure_vocabulary", "get_tokenizer"]
