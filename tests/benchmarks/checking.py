"""Checks of what a subject has stored: no time is worth anything if the nodes are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from tests.benchmarks.programs.protocol import CHUNK_SIZE, ENCODING
from workers.tokens.tokenizer import Tokenizer

__all__ = ["StoredNode", "count_problem", "node_problem"]

StoredNode = tuple[str, int | None, str, int | None]  # document id, first character, text, tokens

_COUNT_TOLERANCE = 0.03
_RECOUNTED = 500  # nodes whose tokens are counted again
_SLACK_TOKENS = 1  # a splitter that joins what it counted apart may be one off


def node_problem(nodes: Sequence[StoredNode], texts: Mapping[str, str]) -> str | None:
    """What is wrong with a subject's nodes, ordered by document and position; None if nothing is."""
    seen = set()
    for name, group in groupby(nodes, key=itemgetter(0)):
        if name not in texts:
            return f"nodes of {name!r}, which is no document"
        gap = _uncovered(texts[name], list(group))
        if gap is not None:
            return f"document {name!r}: {gap}"
        seen.add(name)
    if len(seen) != len(texts):
        return f"{len(texts) - len(seen)} of {len(texts)} documents have no node"
    return _miscounted(nodes)


def count_problem(nodes: int, reference: int) -> str | None:
    """Whether there are about as many nodes as the bare loop makes."""
    if abs(nodes - reference) <= _COUNT_TOLERANCE * reference:
        return None
    return f"{nodes} nodes, and the bare loop makes {reference}: more than {_COUNT_TOLERANCE:.0%} apart"


def _uncovered(text: str, nodes: Sequence[StoredNode]) -> str | None:
    """The text that stands in no node, white space aside."""
    end = 0
    for _, start, chunk, _ in nodes:
        at = text.find(chunk, max(0, end - len(chunk))) if start is None else start
        if at < 0 or not text.startswith(chunk, at):
            return f"the node {chunk[:60]!r} does not stand at character {start}"
        if text[end:at].strip():
            return f"characters {end} to {at} are in no node"
        end = max(end, at + len(chunk))
    return f"characters from {end} on are in no node" if text[end:].strip() else None


def _miscounted(nodes: Sequence[StoredNode]) -> str | None:
    """Tokens that tiktoken, the reference, counts otherwise, or more of them than a node may have."""
    reference = Tokenizer(ENCODING, accelerated=False)
    step = max(1, len(nodes) // _RECOUNTED)
    for name, _, text, tokens in nodes[::step]:
        counted = reference.count(text)
        if tokens is not None and tokens != counted:
            return f"a node of {name!r} is said to have {tokens} tokens, and has {counted}"
        if counted > CHUNK_SIZE + _SLACK_TOKENS:
            return f"a node of {name!r} has {counted} tokens, and may have {CHUNK_SIZE}"
    return None
