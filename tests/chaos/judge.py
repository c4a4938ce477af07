"""What every trial is judged by: each document in the store once or in the failures table, and the ledger agrees."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import text

from orchestrator.ledger.engine import begin
from tests.chaos.stack import COLLECTION, Stack
from workers.vector_stores import open_vector_store
from workers.verify import Verification

__all__ = ["Judgement", "judge", "nodes_of"]

Pair = tuple[str, str]  # document id, node id


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of the documents, held against an undisturbed run."""

    lost: int  # neither whole in the store nor in the failures table
    copied: int  # with a node too many, or both in the store and in the failures table
    failed: int  # in the failures table
    differences: tuple[str, ...]  # between ledger and store, as `docmill verify` finds them

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing copied, and ledger and store agree."""
        return not (self.lost or self.copied or self.differences)


def nodes_of(stack: Stack) -> list[Pair]:
    """All nodes in the store."""
    store = open_vector_store("pgvector", stack.connections.engine, stack.home / "vectors.sqlite")
    return list(store.node_ids(COLLECTION))


def judge(stack: Stack, expected: frozenset[Pair]) -> Judgement:
    """Compare the store with an undisturbed run, and with the ledger."""
    found = nodes_of(stack)
    failed = _ids(stack, "SELECT document_id FROM failures WHERE collection = :collection AND resolved_at IS NULL")
    in_ledger = _ids(stack, "SELECT id FROM documents WHERE collection = :collection AND alias_of IS NULL")
    wanted, held = _by_document(expected), _by_document(found)
    lost = [id for id, nodes in wanted.items() if not nodes <= held.get(id, set()) and id not in failed]
    copied = [id for id, nodes in held.items() if nodes - wanted.get(id, set()) or id in failed]
    differences = [
        str(difference)
        for difference in Verification(stack.connections.engine, stack.settings, COLLECTION).differences()
    ]
    differences += [f"ledger or store alone knows {id}" for id in sorted(in_ledger ^ set(held))]
    return Judgement(len(lost), len(copied) + len(found) - len(set(found)), len(failed), tuple(differences))


def _by_document(pairs: Iterable[Pair]) -> dict[str, set[str]]:
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    for document, node in pairs:
        nodes[document].add(node)
    return dict(nodes)


def _ids(stack: Stack, statement: str) -> set[str]:
    with begin(stack.connections.engine) as connection:
        return set(connection.execute(text(statement), {"collection": COLLECTION}).scalars())
