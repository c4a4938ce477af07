"""`docmill verify`: what differs between ledger and vector store is found, repaired, and never invented."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from orchestrator import Document, JobState
from orchestrator.contracts.errors import CollectionNotFound
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.report import TERMINAL_JOB_STATES
from orchestrator.ledger.engine import begin
from orchestrator.runtime import worker_environment
from tests.deployment import Deployment, run_docmill
from tests.transformations import Slow
from workers.vector_stores import VectorStore, open_vector_store
from workers.verify import DifferenceKind, Repair, Verification

pytestmark = pytest.mark.acceptance

_STORES = ["pgvector", "sqlite"]


def corpus(word: str = "honey", count: int = 6) -> list[Document]:
    # Umlauts and a letter beyond 16 bits: ids that other orders than that of code points would sort otherwise.
    names = [f"doc{number}" for number in range(count - 3)] + ["Ärger", "ärger", "\U0001d11e"]
    return [Document(id=name, text=f"{name} tells of {word}. " * 60) for name in names]


def verify(deployment: Deployment, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON that `docmill verify` prints."""
    ended = run_docmill(["verify", "--json", *arguments], worker_environment(deployment.settings))
    assert ended.returncode == code, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert isinstance(found, dict)
    return found


def store_of(deployment: Deployment, name: str) -> VectorStore:
    return open_vector_store(name, deployment.connections.engine, deployment.settings.home / "vectors.sqlite")


def node(document_id: str, id: str, dimension: int) -> Node:
    """A node that no pipeline made."""
    vector = np.ones(dimension, dtype=np.float32)
    return Node("Not of this pipeline.", id=id, document_id=document_id, embedding=vector)


@pytest.mark.parametrize("store_name", _STORES)
def test_damage_is_found_repaired_and_gone_after_the_next_ingestion(deployment: Deployment, store_name: str) -> None:
    """Nodes that are lost, changed, left over or without a document are found by document, and mended."""
    deployment.start_worker()
    name = f"damaged-{store_name}"
    pipeline = deployment.pipeline(name, vector_store=store_name)
    assert deployment.wait(pipeline.enqueue(corpus())).state is JobState.SUCCEEDED
    (clean,) = verify(deployment, "-c", name)["collections"]
    store = store_of(deployment, store_name)
    before = list(store.node_ids(name))
    assert (clean["documents"], clean["nodes"], clean["vector_store"]) == (6, len(before), store_name)

    nodes = {document: [id for of, id in before if of == document] for document, _ in before}
    held = store.describe(name)
    assert held is not None
    with begin(deployment.connections.engine) as connection:
        store.remove_stale(connection, name, {"doc0": nodes["doc0"][1:]})  # a lost node
        store.remove_stale(connection, name, {"Ärger": []})  # all of them lost
        store.upsert(connection, name, [node("nobody", "0" * 32, held.dimension)])  # left over
        store.upsert(connection, name, [node("doc1", "1" * 32, held.dimension)])  # one too many
        store.remove_stale(connection, name, {"ärger": nodes["ärger"][1:]})  # another id in place of one
        store.upsert(connection, name, [node("ärger", "2" * 32, held.dimension)])
        connection.execute(text("DELETE FROM documents WHERE collection = :c AND id = '\U0001d11e'"), {"c": name})

    kinds = {
        "doc0": "missing",
        "Ärger": "missing",
        "nobody": "orphaned",
        "doc1": "stale",
        "ärger": "stale",
        "\U0001d11e": "orphaned",
    }
    (found,) = verify(deployment, "-c", name, code=1)["collections"]
    assert {each["document_id"]: each["kind"] for each in found["differences"]} == kinds
    assert (found["missing"], found["stale"], found["orphaned"], found["removed"]) == (2, 2, 2, 0)
    assert {each["repair"] for each in found["differences"]} == {"none"}

    (repaired,) = verify(deployment, "-c", name, "--repair", code=1)["collections"]
    assert {each["document_id"]: each["kind"] for each in repaired["differences"]} == kinds
    assert (repaired["removed"], repaired["to_ingest"]) == (2, 4)
    assert {document for document, _ in store.node_ids(name)} == {"doc0", "doc1", "doc2", "ärger"}

    report = deployment.wait(pipeline.enqueue(corpus()))
    assert (report.documents.new, report.documents.changed, report.documents.unchanged) == (1, 4, 1)
    assert verify(deployment, "-c", name)["clean"]
    assert list(store.node_ids(name)) == before


@pytest.mark.parametrize("store_name", _STORES)
def test_orphans_alone_are_mended_at_once(deployment: Deployment, store_name: str) -> None:
    """A repair that leaves nothing to be done ends with exit code 0, and so does the next look."""
    deployment.start_worker()
    name = f"orphans-{store_name}"
    deployment.wait(deployment.pipeline(name, vector_store=store_name).enqueue(corpus()))
    with begin(deployment.connections.engine) as connection:
        connection.execute(text("DELETE FROM documents WHERE collection = :c AND id LIKE 'doc%'"), {"c": name})
    assert verify(deployment, "-c", name, code=1)["collections"][0]["orphaned"] == 3
    assert verify(deployment, "-c", name, "--repair")["collections"][0]["removed"] == 3
    assert verify(deployment, "-c", name)["collections"][0]["documents"] == 3


@pytest.mark.parametrize("store_name", _STORES)
def test_a_job_at_work_is_no_difference(deployment: Deployment, store_name: str) -> None:
    """While a job changes, adds and removes documents, verify and repair find nothing, and do no harm."""
    deployment.start_worker(concurrency=2)
    name = f"at-work-{store_name}"
    engine, settings = deployment.connections.engine, deployment.settings
    deployment.wait(deployment.pipeline(name, vector_store=store_name).enqueue(corpus("honey", 40)))
    looks = 0
    for word in ("milk", "bread", "wine"):
        changing = deployment.pipeline(name, Slow(seconds=0.02), vector_store=store_name, strategy="upserts_and_delete")
        documents = [*corpus(word, 30), *(Document(id=f"{word}{number}", text="New. " * 200) for number in range(20))]
        job = changing.enqueue(documents)
        while job.state not in TERMINAL_JOB_STATES:
            looks += 1
            assert list(Verification(engine, settings, name).differences(repair=bool(looks % 2))) == []
        assert deployment.wait(job).documents.deleted > 0
        assert list(Verification(engine, settings, name).differences()) == []
        assert deployment.wait(changing.enqueue(documents)).documents.unchanged == len(documents)
    assert looks > 10


def test_an_alias_whose_first_document_is_gone_is_missing(deployment: Deployment) -> None:
    """A duplicate for which no nodes stand any more is found, and the next ingestion gives it its own."""
    deployment.start_worker()
    pipeline = deployment.pipeline("aliases", strategy="duplicates_only")
    documents = [Document(id=id, text="The same text.") for id in ("one", "two")]
    assert deployment.wait(pipeline.enqueue(documents)).documents.duplicate == 1
    engine, settings = deployment.connections.engine, deployment.settings
    assert list(Verification(engine, settings, "aliases").differences()) == []
    with begin(engine) as connection:
        connection.execute(text("DELETE FROM documents WHERE collection = 'aliases' AND id = 'one'"))
    found = {each.document_id: each.kind for each in Verification(engine, settings, "aliases").differences()}
    assert found == {"one": DifferenceKind.ORPHANED, "two": DifferenceKind.MISSING}
    repairs = {
        each.document_id: each.repair for each in Verification(engine, settings, "aliases").differences(repair=True)
    }
    assert repairs == {"one": Repair.REMOVED, "two": Repair.TO_INGEST}
    deployment.wait(pipeline.enqueue(documents[1:]))
    assert list(Verification(engine, settings, "aliases").differences()) == []
    assert len(deployment.nodes("aliases")) == 1


@pytest.mark.parametrize("store_name", _STORES)
def test_another_model_is_found(deployment: Deployment, store_name: str) -> None:
    """A collection whose vectors are of another model than its jobs make is said to be so, with both names."""
    deployment.start_worker()
    name = f"model-{store_name}"
    deployment.wait(deployment.pipeline(name, vector_store=store_name).enqueue(corpus()))
    change = "UPDATE collections SET model = 'hashed/of-old' WHERE name = '{name}'"
    if store_name == "sqlite":
        with sqlite3.connect(deployment.settings.home / "vectors.sqlite") as store:
            store.execute(change.format(name=name))
    else:
        with begin(deployment.connections.engine) as connection:
            connection.execute(text(change.format(name=name)))
    (found,) = verify(deployment, "-c", name, code=1)["collections"]
    assert "hashed/of-old" in found["wrong_model"]
    assert found["differences"] == []


def test_all_collections_are_verified_and_shown(deployment: Deployment, tmp_path: Path) -> None:
    """Without a name every collection is compared, a line each; one that nobody knows is an error."""
    deployment.start_worker()
    for name in ("first", "second"):
        deployment.wait(deployment.pipeline(name).enqueue(corpus()))
    with begin(deployment.connections.engine) as connection:
        connection.execute(text("DELETE FROM documents WHERE collection = 'second' AND id = 'doc1'"))
    environment = worker_environment(deployment.settings)
    shown = run_docmill(["verify"], environment)
    assert shown.returncode == 1
    lines = shown.stdout.splitlines()
    assert any(line.startswith("first (pgvector): 6 documents") and line.endswith("clean") for line in lines)
    assert any(line.startswith("second (pgvector): 5 documents") and line.endswith("1 orphaned") for line in lines)
    assert "doc1\torphaned\t0" in shown.stdout
    assert "--repair" in shown.stderr
    assert verify(deployment, "-c", "unknown", code=1)["error"] == "CollectionNotFound"
    with pytest.raises(CollectionNotFound):
        Verification(deployment.connections.engine, deployment.settings, "unknown")
