"""Dedupe and bad input: a document that cannot be ingested fails alone, with stage and reason."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.documents import Document
from orchestrator.contracts.spec import DocstoreStrategy
from orchestrator.ledger.failures import failures_of
from orchestrator.reader import FileReader
from tests.ingestions import MAX_BYTES, Run, ingested, text_document
from tests.ledgers import Ledger, pipeline_spec

pytestmark = pytest.mark.integration


def _cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def _deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"deeper": value}
    return value


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (text_document("bad", ""), "is empty"),
        (text_document("bad", " \n\t\r "), "only white space"),
        (text_document("x" * 10_000, "text"), "10000 bytes in UTF-8; allowed are 1024"),
        (text_document("ü" * 600, "text"), "1200 bytes in UTF-8; allowed are 1024"),
        (text_document("b\x00d", "text"), "holds a NUL"),
        (text_document("b\udce9d", "text"), "not valid Unicode"),
        (text_document("bad", "x" * (MAX_BYTES + 1)), "1001 bytes; allowed are 1000 (DOCMILL_MAX_DOCUMENT_BYTES)"),
        (text_document("bad", "ü" * MAX_BYTES), "2000 bytes; allowed are 1000"),
        (text_document("bad", "text", value=object()), "metadata is not JSON"),
        (text_document("bad", "text", value=math.nan), "metadata is not JSON"),
        (text_document("bad", "text", value={1, 2}), "metadata is not JSON"),
        (text_document("bad", "text", value=b"bytes"), "metadata is not JSON"),
        (text_document("bad", "text", value=2**64), "metadata is not JSON of 64-bit numbers"),
        (text_document("bad", "text", **_cyclic()), "metadata is not JSON"),
        (Document.model_construct(id="bad", text="text", uri=None, metadata=_deep()), "metadata is not JSON"),
        (Document(id="bad", uri="http://host/a.md"), "'http://host/a.md' cannot be read: allowed are paths and file:"),
        (Document(id="bad", uri="http://["), "'http://[' cannot be read"),
        (Document(id="bad", uri="/no/such/file"), "No such file"),
        (Document(id="bad", uri="a\x00b"), "null"),
        (Document(id="bad", uri="/"), "not a regular file"),
        (Document(id="bad", uri="/dev/zero"), "not a regular file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_document_is_a_failure_and_the_rest_goes_on(ledger: Ledger, bad: Document, reason: str) -> None:
    """A document that cannot be ingested is a row of failures with stage and reason; its neighbours are ingested."""
    run = Run(ledger)
    tally = run.take(text_document("before", "one"), bad, text_document("after", "two"))
    assert run.ids == ["before", "after"]
    assert len(tally.failures) == 1
    (failure,) = ledger.call(failures_of, run.job.id)
    assert (failure.stage, failure.error) == ("read", "DocumentError")
    assert reason in failure.message
    assert failure.document_id[:1] == bad.id[:1]
    assert ledger.job_row(run.job.id)["failed"] == 1


@pytest.mark.parametrize("strategy", list(DocstoreStrategy))
def test_bad_files_are_failures_and_the_rest_goes_on(
    ledger: Ledger, tmp_path: Path, strategy: DocstoreStrategy
) -> None:
    """Files that are empty, vanished, looped, too large, pipes, or not named in Unicode fail alone."""
    (tmp_path / "good.md").write_text("good", encoding="utf-8")
    (tmp_path / "empty.md").touch()
    (tmp_path / "blank.md").write_text(" \n ", encoding="utf-8")
    (tmp_path / "large.md").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "loop.md").symlink_to("loop.md")
    (tmp_path / "vanished.md").write_text("soon gone", encoding="utf-8")
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("coffee", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.md")
    found = list(FileReader(tmp_path))
    (tmp_path / "vanished.md").unlink()
    run = Run(ledger, pipeline_spec(strategy=strategy))
    tally = run.take(*found)
    assert run.ids == ["good.md"]
    reasons = {failure.document_id: failure.message for failure in ledger.call(failures_of, run.job.id)}
    expected = {
        "empty.md": "is empty",
        "blank.md": "white space",
        "large.md": "1001 bytes",
        "loop.md": "symbolic links",
        "vanished.md": "No such file",
        "pipe.md": "not a regular file",
        "caf\\udce9.md": "not valid Unicode",
    }
    assert reasons.keys() == expected.keys()
    assert [id for id in expected if expected[id] not in reasons[id]] == []
    # They were listed, so they have not vanished; an id that no database holds cannot be in the ledger either.
    assert set(tally.listed) == {"good.md", *expected} - {"caf\\udce9.md"}


def test_document_that_turns_bad_keeps_its_place(ledger: Ledger) -> None:
    """A known document that cannot be read this time fails, and what the ledger has of it stays."""
    ingested(ledger, text_document("a", "one"))
    before = ledger.documents()
    tally = Run(ledger).take(text_document("a", ""))
    assert (len(tally.failures), tally.listed) == (1, ["a"])
    assert ledger.documents() == before
