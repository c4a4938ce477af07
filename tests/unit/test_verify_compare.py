"""The comparison of ledger and vector store: a merge of two sorted streams, held against a comparison of sets."""

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.nodes import node_id, nodes_hash
from orchestrator.ledger.audit import LedgerDocument
from workers.verify import Difference, DifferenceKind, compare

# Ids that sort otherwise by locale, by UTF-16 or by case than by code point; few, so that both sides share some.
_DOCUMENT_IDS = st.sampled_from(["", "A", "Z", "a", "a/b", "a b", "z", "ä", "é", "\uffff", "\U0001f600", "\U0001d11e"])
_NODE_IDS = st.sets(st.sampled_from([node_id("c", "d", position, "text") for position in range(5)]))
_STORED = st.dictionaries(_DOCUMENT_IDS, _NODE_IDS)
# Nodes, whether the hash was written, and whether the document is an alias of one that is gone.
_LEDGER = st.dictionaries(_DOCUMENT_IDS, st.tuples(_NODE_IDS, st.booleans(), st.just(False) | st.booleans()))


def _ledger_stream(ledger: dict[str, tuple[set[str], bool, bool]]) -> Iterator[LedgerDocument]:
    for id, (nodes, has_hash, is_lost) in sorted(ledger.items()):
        yield LedgerDocument(id, 1 << 32, len(nodes), nodes_hash(nodes) if has_hash else None, is_lost and not nodes)


def _store_stream(stored: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    return iter(sorted((id, node) for id, nodes in stored.items() for node in nodes))


def _by_sets(
    ledger: dict[str, tuple[set[str], bool, bool]], stored: dict[str, set[str]]
) -> dict[str, tuple[DifferenceKind, int, int]]:
    """What differs, found without streams, sorting or hashes."""
    found = {}
    for id in ledger.keys() | {id for id, nodes in stored.items() if nodes}:
        expected, has_hash, is_lost = ledger.get(id, (set(), True, False))
        held = stored.get(id, set())
        if not expected and held:
            kind = DifferenceKind.ORPHANED
        elif len(held) < len(expected) or (is_lost and not expected):
            kind = DifferenceKind.MISSING
        elif len(held) > len(expected) or (has_hash and held != expected):
            kind = DifferenceKind.STALE
        else:
            continue
        found[id] = (kind, len(expected), len(held))
    return found


@given(_LEDGER, _STORED)
def test_the_merge_finds_what_a_comparison_of_sets_finds(
    ledger: dict[str, tuple[set[str], bool, bool]], stored: dict[str, set[str]]
) -> None:
    """Whatever ledger and store hold, each document that differs is found once, with its kind, in order."""
    found = list(compare(_ledger_stream(ledger), _store_stream(stored)))
    assert {each.document_id: (each.kind, each.expected, each.found) for each in found} == _by_sets(ledger, stored)
    assert all(one.document_id < next.document_id for one, next in pairwise(found))
    assert all((each.version is not None) == (each.document_id in ledger) for each in found)


@given(_LEDGER)
def test_what_was_committed_and_stored_is_no_difference(ledger: dict[str, tuple[set[str], bool, bool]]) -> None:
    """A store that holds just the ledger's nodes differs in nothing."""
    whole = {id: (nodes, has_hash, False) for id, (nodes, has_hash, _) in ledger.items()}
    stored = {id: nodes for id, (nodes, _, _) in whole.items()}
    assert list(compare(_ledger_stream(whole), _store_stream(stored))) == []


def test_the_streams_are_read_no_further_than_they_must() -> None:
    """A difference is told as soon as it is met: of endless streams the first comes at once."""

    def endless(first: str) -> Iterator[str]:
        number = 0
        while True:
            yield f"{first}{number:09}"
            number += 1

    ledger = (LedgerDocument(id, 1, 1, None) for id in endless("a"))
    stored = ((id, "0" * 32) for id in endless("b"))
    assert next(compare(ledger, stored)) == Difference(DifferenceKind.MISSING, "a000000000", 1, 0, 1)


@given(st.lists(st.text(max_size=8), unique=True, max_size=8))
def test_the_hash_of_nodes_names_a_set(ids: list[str]) -> None:
    """The order of ids does not matter; one id more, less or other does."""
    assert nodes_hash(ids) == nodes_hash(reversed(ids))
    assert nodes_hash([*ids, "another id"]) != nodes_hash(ids)
    assert nodes_hash(ids[1:]) != nodes_hash(ids) or not ids
