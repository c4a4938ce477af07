"""Dedupe of equal content under several ids: worked on once, and never lost when one of them changes."""

import pytest

from orchestrator.contracts.spec import DocstoreStrategy
from orchestrator.ledger.failures import failures_of
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


def test_alias_of_a_changed_owner_takes_its_place(ledger: Ledger) -> None:
    """When an owner alone is read and says something else, its first alias is ingested, and stands for the others."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    ingested(ledger, *(text_document(id, "same", of=id) for id in "abc"), spec=spec)
    run = ingested(ledger, text_document("a", "changed"), spec=spec)
    assert {id: row["alias_of"] for id, row in ledger.documents().items()} == {"a": None, "c": "b"}
    (heir,) = ledger.payloads(run.job.id)
    assert (heir.id, heir.content, heir.metadata) == ("b", b"same", {"of": "b"})
    run.commit([heir])
    assert {id: row["alias_of"] for id, row in ledger.documents().items()} == {"a": None, "b": None, "c": "b"}
    assert Run(ledger, spec).take(text_document("b", "same", of="b")).unchanged == 1


def test_heir_gives_way_to_what_was_said_since(ledger: Ledger) -> None:
    """What an heir said when it became an alias does not overwrite what it says in the job that promotes it."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    found = [text_document("a", "same"), *(text_document(f"x{n}", f"text {n}") for n in range(5))]
    ingested(ledger, *found, text_document("b", "same"), spec=spec)
    run = Run(ledger, spec)
    run.take(text_document("a", "changed"), text_document("b", "edited"))
    edited = [document for document in run.survivors if document.id == "b"]
    run.commit([document for document in run.survivors if document.id == "a"])
    (heir,) = ledger.payloads(run.job.id)
    run.commit(edited)
    assert run.commit([heir]) == set()
    said = ledger.documents()["b"]["content_hash"]
    assert said == edited[0].content_hash


def test_alias_that_is_as_it_was_is_not_written_again(ledger: Ledger) -> None:
    """An alias that says what it said, of the same owner, is a duplicate that costs no writing of its document."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    ingested(ledger, text_document("a", "same"), text_document("b", "same"), spec=spec)
    again = Run(ledger, spec)
    tally = again.take(text_document("a", "same"), text_document("b", "same"))
    assert (tally.duplicate, tally.aliases, tally.kept_aliases) == (1, [], ["b"])
    tally = Run(ledger, spec).take(text_document("b", "same", tag="new"))
    assert [alias.id for alias in tally.aliases] == ["b"]


def test_becoming_an_alias_resolves_a_failure(ledger: Ledger) -> None:
    """A document that failed, and now says what another one says, is ingested by way of that one."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    ingested(ledger, text_document("a", "same"), spec=spec)
    broken = Run(ledger, spec)
    broken.take(text_document("b", " "))
    assert [row.resolved_at for row in ledger.call(failures_of, broken.job.id)] == [None]
    Run(ledger, spec).take(text_document("b", "same"))
    assert [row.resolved_at is not None for row in ledger.call(failures_of, broken.job.id)] == [True]


def test_documents_of_aliases_are_written_as_they_gather(ledger: Ledger) -> None:
    """Between blocks of duplicates there is a moment to write them, so that a slice of large ones is never held."""
    spec = pipeline_spec(strategy=_DUPLICATES)
    ingested(ledger, text_document("a", "same"), spec=spec)
    run = Run(ledger, spec)
    copies = list(enumerate(text_document(f"copy{n}", "same") for n in range(3)))
    assert list(run.dedupe.survivors(copies)) == [None]
    assert run.dedupe.tally.payload_bytes > 0


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
