"""What only the vector store in a file promises: several processes, and a file that is something else."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine

from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.contracts.nodes import Node, node_id
from workers.vector_stores import Collection
from workers.vector_stores.sqlite import SqliteVectorStore

PROCESSES = 6
DOCUMENTS = 40


def _write(path: Path, writer: int) -> None:
    """Runs in a process of its own: makes the collection, and writes half of it in common with the others."""
    store = SqliteVectorStore(path)
    names = [f"shared-{number}" for number in range(DOCUMENTS)] + [f"{writer}-{number}" for number in range(DOCUMENTS)]
    with create_engine("sqlite://").connect() as connection:
        store.open_collection(connection, Collection("c", "model", 4))
        for name in names:
            vector = np.full(4, writer + 1, dtype=np.float32)
            written = Node(name, id=node_id("c", name, 0, name), document_id=name, embedding=vector)
            store.upsert(connection, "c", [written])
            store.remove_stale(connection, "c", {name: [written.id]})


def test_processes_write_at_once(tmp_path: Path) -> None:
    """Processes that make one file and write to it at once lose nothing and double nothing."""
    path = tmp_path / "vectors.sqlite"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, number)) for number in range(PROCESSES)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * PROCESSES
    store = SqliteVectorStore(path)
    documents = [document for document, _ in store.node_ids("c")]
    assert len(documents) == len(set(documents)) == DOCUMENTS * (PROCESSES + 1)


def test_what_is_written_outlives_the_store(tmp_path: Path) -> None:
    """Another store over the same file finds what the first wrote."""
    _write(tmp_path / "vectors.sqlite", 0)
    again = SqliteVectorStore(tmp_path / "vectors.sqlite")
    assert again.describe("c") == Collection("c", "model", 4)
    assert again.count("c") == 2 * DOCUMENTS
    assert len(again.search("c", np.ones(4, dtype=np.float32), 5)) == 5


def test_file_that_is_no_database(tmp_path: Path) -> None:
    """A file of another kind is refused by its name, and is not touched."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    with pytest.raises(ConfigurationError, match=r"notes\.txt cannot be used as a vector store"):
        SqliteVectorStore(path).count("c")
    assert path.read_text() == "not a database " * 100


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """A folder in the place of the file is a service that cannot be reached."""
    with pytest.raises(ServiceUnreachable, match="vector store at"):
        SqliteVectorStore(tmp_path).count("c")
