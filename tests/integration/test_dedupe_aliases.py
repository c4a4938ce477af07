"""Dedupe of equal content under several ids: worked on once, and never lost when one of them changes."""

import pytest

from orchestrator.contracts.spec import DocstoreStrategy
from tests.ingestions import Run, ingested, text_document
from tests.ledgers import Ledger, pipeline_spec

pytestmark = pytest.mark.integration

_DUPLICATES = DocstoreStrategy.DUPLICATES_ONLY


def test_equal_content_is_an_alias_of_the_first(ledger: Ledger) -> None:
    """Equal content under a second id is not worked on again: it is recorded as an alias, whatever its metadata."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    ingested(ledger, text_document("a", "same"), spec=spec)
    run = Run(ledger, spec)
    tally = run.take(
        text_document("b", "same", tag="b"),
        text_document("c", "other"),
        text_document("d", "other"),
        text_document("a", "same"),
    )
    assert (run.ids, tally.duplicate, tally.unchanged) == (["c"], 2, 1)
    assert {id: row["alias_of"] for id, row in ledger.documents().items()} == {"a": None, "b": "a", "d": "c"}
    run.commit()
    again = Run(ledger, spec)
    tally = again.take(
        text_document("a", "same"),
        text_document("b", "same", tag="b"),
        text_document("c", "other"),
        text_document("d", "other"),
    )
    assert (again.ids, tally.unchanged, tally.duplicate) == ([], 2, 2)


@pytest.mark.parametrize("first", ["owner", "alias"])
def test_alias_gets_nodes_of_its_own_when_its_owner_changes(ledger: Ledger, first: str) -> None:
    """When the owner says something else, a document with the old content is ingested for itself, in the same run."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    ingested(ledger, text_document("a", "same"), text_document("b", "same"), text_document("c", "same"), spec=spec)
    run = Run(ledger, spec)
    found = [text_document("a", "changed"), text_document("b", "same"), text_document("c", "same")]
    run.take(*(found if first == "owner" else [*found[1:], found[0]]))
    run.commit()
    assert {id: row["alias_of"] for id, row in ledger.documents().items()} == {"a": None, "b": None, "c": "b"}


def test_alias_of_a_changed_owner_is_released(ledger: Ledger) -> None:
    """An alias that is not part of the run in which its owner changes is forgotten, and new at the next."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    ingested(ledger, text_document("a", "same"), text_document("b", "same"), spec=spec)
    assert ledger.documents()["b"]["alias_of"] == "a"
    ingested(ledger, text_document("a", "changed"), spec=spec)
    assert ledger.documents().keys() == {"a"}
    run = ingested(ledger, text_document("b", "same"), spec=spec)
    assert [(document.id, document.is_new) for document in run.survivors] == [("b", True)]


def test_alias_is_no_unchanged_document_where_every_document_has_nodes(ledger: Ledger) -> None:
    """A collection that is ingested by another strategy gives an alias nodes of its own."""
    ingested(ledger, text_document("a", "same"), text_document("b", "same"), spec=pipeline_spec(strategy=_DUPLICATES))
    run = Run(ledger)
    assert run.take(text_document("a", "same"), text_document("b", "same")).unchanged == 1
    assert run.ids == ["b"]
    run.commit()
    assert ledger.documents()["b"]["alias_of"] is None


def test_alias_of_an_owner_that_failed_is_worked_on(ledger: Ledger) -> None:
    """Where the owner never got its nodes, the alias is ingested at the next run."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    Run(ledger, spec).take(text_document("a", "same"), text_document("b", "same"))  # and "a" is never committed
    run = Run(ledger, spec)
    run.take(text_document("b", "same"))
    assert run.ids == ["b"]
