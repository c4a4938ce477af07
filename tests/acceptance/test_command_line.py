"""The command line as people and scripts use it, on an embedded stack of its own."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployment import run_docmill, wait_for
from tests.ports import free_port
from tests.services import Services

pytestmark = pytest.mark.acceptance


class CommandLine:
    """`docmill` with a home of its own."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.environment = {"DOCMILL_HOME": str(home), "DOCMILL_EMBEDDER": "hashed", **environment}

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command that must end with this exit code; returns its standard output."""
        ended = run_docmill(arguments, self.environment)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a command with --json; its standard output is one JSON object and nothing else."""
        found = json.loads(self.run(*arguments, "--json", code=code))
        assert isinstance(found, dict)
        return found

    def error(self, *arguments: str, code: int = 1) -> str:
        """Run a command that must fail; returns what it says of it."""
        ended = run_docmill(arguments, self.environment)
        assert (ended.returncode, ended.stdout) == (code, ""), ended
        return ended.stderr


@pytest.fixture(scope="module")
def command_line(services: Services) -> CommandLine:
    """A command line whose stack starts and stops with each command."""
    return CommandLine(services.new_home("cli"))


@pytest.fixture(scope="module")
def kept_up(services: Services) -> Iterator[CommandLine]:
    """A command line whose stack `docmill up` keeps running."""
    command_line = CommandLine(services.new_home("up"))
    command_line.run("up", "--workers", "2")
    yield command_line
    command_line.run("down")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two good documents and a bad one."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "apples.md").write_text("# Apples\n\nApples grow on trees in orchards.\n")
    (folder / "whales.md").write_text("# Whales\n\nWhales swim in the oceans.\n")
    (folder / "empty.md").write_text("")
    return folder


def test_ingest_search_and_look(command_line: CommandLine, folder: Path) -> None:
    """ingest reports, with an exit code of its own for failures; search, jobs, status and failures agree with it."""
    report = command_line.json("ingest", str(folder), code=3)
    assert report["state"] == "succeeded_with_failures"
    assert report["documents"] == {
        "seen": 3,
        "new": 2,
        "changed": 0,
        "unchanged": 0,
        "duplicate": 0,
        "deleted": 0,
        "failed": 1,
    }
    assert set(report) == {
        "job_id",
        "state",
        "documents",
        "nodes",
        "tokens",
        "bill",
        "cache",
        "batches",
        "seconds",
    }
    found = command_line.json("search", "whales in the ocean", "-k", "1")
    assert found["matches"][0]["document_id"] == "whales.md"
    assert [job["job_id"] for job in command_line.json("jobs")["jobs"]] == [report["job_id"]]
    assert command_line.json("status", report["job_id"])["documents"] == report["documents"]
    (failure,) = command_line.json("failures", report["job_id"])["failures"]
    assert (failure["document_id"], failure["stage"], failure["message"]) == (
        "empty.md",
        "read",
        "the document is empty",
    )
    (folder / "empty.md").unlink()
    again = command_line.run("ingest", str(folder))
    assert "2 seen, 2 unchanged" in again


def test_cache_store_and_scope_are_said_on_the_command_line(command_line: CommandLine, folder: Path) -> None:
    """Options choose the cache, the store and what may vanish, over what a pipeline file says of them."""
    (folder / "empty.md").unlink()
    file = folder.parent / "products.toml"
    file.write_text('vector_store = "none"\ncache_collection = "mine"\ndisable_cache = true\n')
    report = command_line.json("ingest", str(folder), "--pipeline", str(file))
    assert (report["nodes"]["produced"], report["nodes"]["upserted"], report["cache"]["misses"]) == (2, 0, 0)
    assert "the nodes are the product" in command_line.run("status", report["job_id"])

    deleting = ("ingest", str(folder), "-c", "scoped", "--strategy", "upserts_and_delete", "--cache-collection", "own")
    assert command_line.json(*deleting, "--pipeline", str(file), "--vector-store", "sqlite")["nodes"]["upserted"] == 2
    (folder / "apples.md").unlink()
    (folder / "whales.md").write_text("Whales have moved.")
    paid = command_line.json(*deleting, "--vector-store", "sqlite", "--scope", "w", "--no-cache")
    assert (paid["documents"]["deleted"], paid["documents"]["changed"], paid["cache"]["misses"]) == (0, 1, 0)
    gone = command_line.json(*deleting, "--vector-store", "sqlite", "--scope", "a")
    assert (gone["documents"]["deleted"], gone["documents"]["unchanged"]) == (1, 1)
    said = command_line.error("ingest", str(folder), "--scope", "a")
    assert "scope 'a' says what may vanish" in said


def test_a_pipeline_file_says_what_the_python_api_says(command_line: CommandLine, folder: Path) -> None:
    """A TOML file gives name, strategy and transformations; what it gets wrong is said before anything is started."""
    (folder / "empty.md").unlink()
    file = folder.parent / "handbook.toml"
    file.write_text(
        'name = "Hand Book"\ndocstore_strategy = "upserts_and_delete"\n'
        '[[transformations]]\nname = "markdown_splitter"\nchunk_size = 32\nchunk_overlap = 4\n'
        '[[transformations]]\nname = "embed"\nembedder = "hashed/64"\n'
    )
    report = command_line.json("ingest", str(folder), "--pipeline", str(file))
    assert (report["state"], report["documents"]["new"]) == ("succeeded", 2)
    assert command_line.json("search", "apples", "-c", "hand-book", "-k", "1")["matches"][0]["document_id"] == (
        "apples.md"
    )
    file.write_text('[[transformations]]\nname = "splitter"\n')
    said = command_line.error("ingest", str(folder), "--pipeline", str(file))
    assert "'splitter'" in said
    assert "sentence_splitter" in said


def test_errors_name_the_value_and_what_is_allowed(command_line: CommandLine, folder: Path) -> None:
    """Wrong arguments end with exit code 1 or 2, on standard error, with the value and what is allowed instead."""
    assert "'/nowhere' does not exist" in command_line.error("ingest", "/nowhere")
    assert "chunk_overlap 200 must be smaller than chunk_size 64" in command_line.error(
        "ingest", str(folder), "--chunk-size", "64"
    )
    assert "allowed are upserts, duplicates_only" in command_line.error("ingest", str(folder), "--strategy", "all")
    assert "unknown embedder 'none'; known here: " in command_line.error("ingest", str(folder), "--embedder", "none")
    assert "a-z0-9" in command_line.error("ingest", str(folder), "-c", "No Name")
    for command in (("ingest", str(folder), "--workers"), ("worker", "--concurrency")):
        said = command_line.error(*command, "0", code=2)
        assert f"'{command[-1]}'" in said
        assert "greater than or equal to 1" in said
    assert "no job 'x'" in command_line.error("status", "x")
    assert "no collection 'x'" in command_line.error("search", "y", "-c", "x")
    assert command_line.json("status", "x", code=1)["error"] == "JobNotFound"
    command_line.error("ingest", code=2)


def test_what_up_keeps_running_is_used(kept_up: CommandLine, folder: Path) -> None:
    """With `docmill up`, --no-wait leaves a job to its workers, and doctor finds everything well."""
    (folder / "empty.md").unlink()
    job = kept_up.run("ingest", str(folder), "--no-wait").strip()
    wait_for(lambda: kept_up.json("status", job)["state"] == "succeeded")
    checks = kept_up.json("doctor")
    assert checks["ok"], checks
    assert kept_up.json("cancel", job)["state"] == "succeeded"


def test_flower_shows_the_tasks_of_a_job(kept_up: CommandLine, folder: Path) -> None:
    """Flower listens on loopback, and knows the app's tasks by job and batch."""
    port = free_port()
    flower = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "flower", "--port", str(port)],
        env={**os.environ, **kept_up.environment, "FLOWER_UNAUTHENTICATED_API": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # It answers before it hears; the workers' heartbeats tell when it does.
        wait_for(lambda: '"status": true' in _page(port, "workers?json=1"))
        report = kept_up.json("ingest", str(folder), "-c", "flowers", code=3)
        wait_for(lambda: f"job={report['job_id']} batch=0 docs=2" in _page(port, "api/tasks"))
    finally:
        flower.terminate()
        flower.wait(20)


def _page(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
