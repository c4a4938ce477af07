"""What the ledger knows of documents: the later enqueued wins, and nothing is asked once a document."""

from collections.abc import Callable
from threading import Event

import pytest
from sqlalchemy import Connection

from orchestrator.contracts.report import JobState
from orchestrator.ledger import documents, jobs
from orchestrator.ledger.documents import DocumentRow, KnownDocument, version_of
from orchestrator.ledger.engine import begin
from tests.ledgers import FINGERPRINT, Ledger, at_once, row

_THOUSAND = [f"docs/{index:04}.md" for index in range(1000)]


def test_claim_writes_new_documents_and_names_them(ledger: Ledger) -> None:
    """Documents that nobody wrote before are written, and exactly their ids come back."""
    assert ledger.write(row("b"), row("a")) == {"a", "b"}
    assert ledger.documents().keys() == {"a", "b"}
    assert ledger.documents()["a"]["fingerprint"] == FINGERPRINT


def test_claim_of_nothing_is_nothing(ledger: Ledger) -> None:
    """An empty claim writes nothing and asks nothing."""
    with ledger.statements() as sent:
        assert ledger.write() == set()
    assert sent == []


def test_document_enqueued_later_wins(ledger: Ledger) -> None:
    """A commit of an older enqueuing changes nothing of a document, and does not get its id back."""
    ledger.write(row("a", version=8, body="later"))
    assert ledger.write(row("a", version=7, body="older"), row("b", version=7)) == {"b"}
    assert ledger.documents()["a"]["body_hash"] == "later"
    assert ledger.write(row("a", version=9, body="latest")) == {"a"}
    assert ledger.documents()["a"]["body_hash"] == "latest"


def test_claiming_the_same_version_again_is_idempotent(ledger: Ledger) -> None:
    """A commit that is repeated writes the same rows and gets the same ids."""
    assert ledger.write(row("a", version=3)) == ledger.write(row("a", version=3)) == {"a"}
    assert len(ledger.documents()) == 1


def test_equal_ids_of_two_collections_are_two_documents(ledger: Ledger) -> None:
    """A collection neither sees nor overwrites the documents of another."""
    ledger.write(row("a", body="ours"))
    ledger.write(row("a", version=9, body="theirs"), collection="other")
    assert ledger.documents()["a"]["body_hash"] == "ours"
    assert ledger.call(documents.known, "other", ["a"])["a"].version == 9


def test_of_many_claims_at_once_the_latest_version_stands(ledger: Ledger) -> None:
    """Commits that write the same documents at the same moment wait for each other, and the last enqueued wins."""
    ids = [f"d{index}" for index in range(20)]

    def write(version: int) -> set[str]:
        order = ids if version % 2 else reversed(ids)
        return ledger.write(*(row(id, version=version, body=str(version)) for id in order))

    written = at_once(6, write)
    assert {found["version"] for found in ledger.documents().values()} == {5}
    assert written[5] == set(ids)


def test_claim_says_which_documents_the_ledger_held_nothing_of(ledger: Ledger) -> None:
    """A document is new once, not when it is written over, and again when it was deleted. SQLite never says so."""
    can_say = ledger.engine.dialect.name == "postgresql"

    def claim(*rows: DocumentRow) -> dict[str, bool]:
        return ledger.call(documents.claim, "handbook", FINGERPRINT, "job", rows)

    assert claim(row("a"), row("b", alias_of="a")) == {"a": can_say, "b": can_say}
    assert claim(row("a", version=2), row("b", version=2), row("c")) == {"a": False, "b": False, "c": can_say}
    assert claim(row("a", version=1)) == {}
    ledger.call(documents.delete_documents, "handbook", ["a"])
    assert claim(row("a")) == {"a": can_say}


def test_of_many_claims_at_once_one_finds_a_document_new(ledger: Ledger) -> None:
    """Of commits that write the same documents at the same moment one at most takes them for new."""
    ids = [f"d{index}" for index in range(20)]

    def claim(version: int) -> dict[str, bool]:
        rows = [row(id, version=version) for id in ids]
        return ledger.call(documents.claim, "handbook", FINGERPRINT, "job", rows)

    new = [id for claimed in at_once(6, claim) for id, is_new in claimed.items() if is_new]
    assert sorted(new) == (sorted(ids) if ledger.engine.dialect.name == "postgresql" else [])


def test_known_documents_come_back_as_they_were_written(ledger: Ledger) -> None:
    """What a commit wrote is known; other ids are not."""
    ledger.write(row("a", version=4), row("b", alias_of="a"))
    found = ledger.call(documents.known, "handbook", ["a", "b", "c"])
    assert found.keys() == {"a", "b"}
    assert found["a"].version == 4
    assert found["b"].alias_of == "a"
    assert isinstance(found["a"], KnownDocument)


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: documents.known(c, "handbook", _THOUSAND),
        lambda c: documents.known_bodies(c, "handbook", FINGERPRINT, _THOUSAND),
        lambda c: documents.claim(c, "handbook", FINGERPRINT, "job", [row(id) for id in _THOUSAND]),
        lambda c: documents.refresh_stamps(c, "handbook", [(id, "new") for id in _THOUSAND]),
        lambda c: documents.guard_version(c, "handbook", [(id, 9) for id in _THOUSAND]),
        lambda c: jobs.add_listing(c, jobs.recent(c, 1)[0].id, _THOUSAND),
    ],
    ids=["known", "known_bodies", "claim", "refresh_stamps", "guard_version", "add_listing"],
)
def test_thousand_documents_take_a_few_statements(ledger: Ledger, ask: Callable[[Connection], object]) -> None:
    """Nothing is asked once a document: a thousand of them take three statements at most."""
    ledger.job()
    with ledger.statements() as sent:
        ledger.call(ask)
    assert 1 <= len(sent) <= 3, sent


_AWKWARD = [
    'a"b',
    "a\\b",
    "{a,b}",
    "a,b",
    "NULL",
    " ",
    "it's",
    "100%",
    "%s",
    ":id",
    "a\nb",
    "日本語/é",
    "a\\",
    '"',
    "😀",
]


def test_ids_of_any_characters_are_kept_apart(ledger: Ledger) -> None:
    """Quotes, backslashes, braces, commas, the word NULL: an id is written, found and deleted as it is."""
    assert ledger.write(*(row(id, body=id) for id in _AWKWARD)) == set(_AWKWARD)
    found = ledger.call(documents.known, "handbook", _AWKWARD)
    assert {id: known.body_hash for id, known in found.items()} == {id: id for id in _AWKWARD}
    owners = ledger.call(documents.known_bodies, "handbook", FINGERPRINT, _AWKWARD)
    assert owners == {id: id for id in _AWKWARD}
    for id in _AWKWARD:
        assert ledger.call(documents.delete_documents, "handbook", [id]) == 1
    assert ledger.documents() == {}


def test_rows_that_are_alike_or_alone_are_written_whole(ledger: Ledger) -> None:
    """Columns in which all rows say the same, or nothing, are written as those in which they differ."""
    alike = [row(id, body="same", version=5)._replace(stamp=None) for id in ("a", "b")]
    other = row("c", body="same", version=5)._replace(stamp="s", nodes_hash=None, payload=b'\x00"\\')
    ledger.write(*alike)
    ledger.write(other)
    found = ledger.documents()
    for written in (*alike, other):
        assert {name: found[written.id][name] for name in written._fields} == written._asdict()


def test_stamps_are_refreshed_and_nothing_else(ledger: Ledger) -> None:
    """A file that was only touched gets its new stamp, and keeps version and hashes."""
    ledger.write(row("a", version=2), row("b"))
    before = ledger.documents()
    ledger.call(documents.refresh_stamps, "handbook", [("a", "new"), ("unknown", "new")])
    found = ledger.documents()
    assert {**found["a"]} == {**before["a"], "stamp": "new"}
    assert found["b"] == before["b"]
    assert "unknown" not in found


def test_guarded_document_is_safe_from_an_older_job(ledger: Ledger) -> None:
    """Where a later job found a document unchanged, a commit of an older job does not overwrite it."""
    ledger.write(row("a", version=1))
    ledger.call(documents.guard_version, "handbook", [("a", 5)])
    assert ledger.write(row("a", version=4, body="older")) == set()
    ledger.call(documents.guard_version, "handbook", [("a", 2)])
    assert ledger.documents()["a"]["version"] == 5


def test_version_orders_by_job_and_then_by_place() -> None:
    """The first document of a job is later than the last of the job before."""
    assert version_of(2, 0) > version_of(1, 2**32 - 1) > version_of(1, 0)


def test_bodies_are_known_by_the_document_that_has_their_nodes(ledger: Ledger) -> None:
    """A body leads to the first document with nodes of the same fingerprint; aliases and other fingerprints do not."""
    ledger.write(row("b", body="x"), row("a", body="x"), row("0", body="x", alias_of="a"))
    ledger.write(row("c", body="y"), fingerprint="other")
    assert ledger.call(documents.known_bodies, "handbook", FINGERPRINT, {"x", "y", "z"}) == {"x": "a"}


def test_deleting_counts_what_was_there(ledger: Ledger) -> None:
    """Deleted documents are forgotten in their collection alone, and those that were there are counted."""
    ledger.write(row("a", body="x"), row("c"))
    ledger.write(row("a"), collection="other")
    assert ledger.call(documents.delete_documents, "handbook", ["a", "unknown"]) == 1
    assert ledger.documents().keys() == {"c"}
    assert ledger.documents("other").keys() == {"a"}


def test_vanished_is_what_the_source_did_not_list(ledger: Ledger) -> None:
    """Documents of the collection that are not in the listing have vanished; those of other collections have not."""
    ledger.write(row("kept"), row("gone"), row("gone too"))
    ledger.write(row("theirs"), collection="other")
    job = ledger.job()
    ledger.call(jobs.add_listing, job.id, ["kept", "new", "kept"])
    assert ledger.call(documents.vanished, job.id, 10) == ["gone", "gone too"]
    assert ledger.call(documents.vanished, job.id, 1) == ["gone"]
    assert ledger.call(documents.vanished_count, job.id) == (2, 3)


@pytest.mark.parametrize(
    ("scope", "gone"),
    [
        ("docs/", ["docs/a"]),
        ("a_b/", ["a_b/1"]),
        ("50%/", ["50%/1"]),
        ("", ["50%/1", "5000/1", "a_b/1", "axb/1", "docs/a", "häuser/1"]),
        ("häuser/", ["häuser/1"]),
        ("DOCS/", []),
    ],
)
def test_only_documents_in_scope_vanish(ledger: Ledger, scope: str, gone: list[str]) -> None:
    """A scope is a plain prefix: `_` and `%` in it stand for themselves, and letters keep their case."""
    ledger.write(*(row(id) for id in ("docs/a", "a_b/1", "axb/1", "50%/1", "5000/1", "häuser/1")))
    job = ledger.job(scope=scope)
    assert sorted(ledger.call(documents.vanished, job.id, 10)) == sorted(gone)
    assert ledger.call(documents.vanished_count, job.id) == (len(gone), len(gone))


def test_document_of_a_later_job_has_not_vanished(ledger: Ledger) -> None:
    """What a later job wrote, or found unchanged, is not for an older job to delete; its own is."""
    older = ledger.job()
    later = ledger.job()
    ledger.write(
        row("own", version=version_of(older.number, 2**32 - 1)), row("theirs", version=version_of(later.number, 0))
    )
    assert ledger.call(documents.vanished, older.id, 10) == ["own"]
    assert ledger.call(documents.vanished_count, older.id)[0] == 1


def test_document_written_again_while_it_is_deleted_stays(ledger: Ledger) -> None:
    """A document that a later job commits after it was found vanished is not deleted."""
    ledger.write(row("a"))
    older = ledger.job(state=JobState.RUNNING)
    later = ledger.job()
    found_vanished, written = Event(), Event()

    def delete(connection: Connection) -> None:
        gone = documents.vanished(connection, older.id, 10)
        found_vanished.set()
        written.wait(0.3)  # the other commits now, or waits for this one's lock
        documents.delete_documents(connection, "handbook", gone)

    def work(index: int) -> None:
        if index:
            found_vanished.wait()
            ledger.write(row("a", version=version_of(later.number, 0), body="new"))
            written.set()
        else:
            ledger.call(delete)

    at_once(2, work)
    assert ledger.documents()["a"]["body_hash"] == "new"


def test_refreshing_stamps_and_committing_do_not_deadlock(ledger: Ledger) -> None:
    """A client that marks unchanged documents in its source's order waits for a commit, and never in a circle."""
    ids = [f"d{index:03}" for index in range(300)]
    ledger.write(*(row(id) for id in ids))

    def work(index: int) -> None:
        for version in range(2, 8):
            with begin(ledger.engine) as connection:
                if index % 2:
                    documents.lock(connection, "handbook", ids)
                    documents.refresh_stamps(connection, "handbook", [(id, "new") for id in reversed(ids)])
                    documents.guard_version(connection, "handbook", [(id, 1) for id in reversed(ids)])
                else:
                    documents.claim(
                        connection, "handbook", FINGERPRINT, "job", [row(id, version=version) for id in ids]
                    )

    at_once(4, work)
    assert len(ledger.documents()) == 300
