"""`docmill status --watch` as it is seen: in a terminal of 80 columns, piped, as JSON, and when it is interrupted."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import Document, JobState
from orchestrator.job import Job
from orchestrator.runtime import worker_environment
from tests.deployment import Deployment, run_docmill
from tests.terminal import Terminal
from tests.transformations import Slow

pytestmark = pytest.mark.acceptance


def _corpus(name: str, count: int) -> list[Document]:
    return [
        Document(id=f"{name}{number}", text=f"Document {number} of {name} tells of topic{number}. " * 60)
        for number in range(count)
    ]


def _slow_job(deployment: Deployment, name: str, count: int = 100) -> Job:
    return deployment.pipeline(name, Slow(seconds=0.05)).enqueue(_corpus(name, count))


def _piped(deployment: Deployment, *arguments: str) -> "subprocess.Popen[str]":
    """`docmill status`, whose output is read while it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "status", *arguments],
        env={**os.environ, **worker_environment(deployment.settings)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_job_is_followed_to_its_end(deployment: Deployment) -> None:
    """In a terminal of 80 columns it is redrawn, piped it is a line a change; then comes the report, and an exit code.

    Both show all there is to know, with a time left once that is known.
    """
    documents = [*_corpus("seen", 120), Document(id="bad", text=" ")]
    job = deployment.pipeline("seen", Slow(seconds=0.05)).enqueue(documents)
    terminal = Terminal(deployment, "status", "--watch", job.id)
    piped = _piped(deployment, "-w", job.id)
    assert piped.stdout is not None
    waiting = piped.stdout.readline()
    assert "waiting for a worker" in waiting
    terminal.read_until("waiting for a worker")
    deployment.start_worker(concurrency=2)

    report = piped.stdout.read()
    assert piped.wait(20) == 3, report
    lines = [line for line in [waiting, *report.splitlines()] if line.startswith(f"job {job.id} ") and ":" in line]
    assert len(lines) == len(set(lines)) >= 3
    running = rf"job {job.id} running: \d+ of 121 documents, .* nodes/s, .* tokens, ETA "
    assert all(re.match(running, line) for line in lines[:-1])
    assert any(
        re.search(r"\d nodes/s, [\d,]+ tokens, ETA \d:\d\d:\d\d, [012] workers?, 1 failed$", line) for line in lines
    )
    assert any(re.search(r", [12] workers?, 1 failed$", line) for line in lines)
    assert lines[-1].startswith(f"job {job.id} succeeded with failures: 121 of 121 documents, ")
    assert "121 seen, 120 new, 1 failed" in report

    said = terminal.read_to_the_end()
    assert terminal.process.wait(20) == 3, said
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", said)]
    assert max(map(len, lines)) <= 80
    assert any(re.search(rf"^job {job.id} running .*0:0\d:\d\d$", line) for line in lines)
    assert any(re.search(r"^  \d+ of 121 documents  \d+ nodes  \d+ nodes/s  [\d,]+ tokens$", line) for line in lines)
    assert any(re.search(r"^  ETA \d:\d\d:\d\d  [012] workers?  1 failed$", line) for line in lines)
    assert said.rindex("121 seen, 120 new, 1 failed") > said.rindex("ETA")


def test_all_unfinished_jobs_are_followed_as_json(deployment: Deployment) -> None:
    """Without an id every unfinished job is followed, one that begins meanwhile too: an object a line, to the end."""
    first = _slow_job(deployment, "first", 30)
    process = _piped(deployment, "--watch", "--json")
    assert process.stdout is not None
    said = [json.loads(process.stdout.readline())]
    assert (said[0]["job_id"], said[0]["state"], said[0]["workers"]) == (first.id, "running", 0)
    assert (said[0]["eta_seconds"], said[0]["nodes_per_second"]) == (None, None)
    second = _slow_job(deployment, "second", 30)
    deployment.start_worker(concurrency=2)
    said += [json.loads(line) for line in process.stdout]
    assert process.wait(20) == 0
    last = {row["job_id"]: row for row in said}
    assert {id: row["state"] for id, row in last.items()} == {first.id: "succeeded", second.id: "succeeded"}
    assert all(row["documents"] == {"seen": 30, "settled": 30, "failed": 0} for row in last.values())
    assert {row["workers"] for row in said} & {1, 2}
    again = run_docmill(["status", "--watch"], worker_environment(deployment.settings))
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "all jobs are finished\n")


def test_ctrl_c_ends_the_watching_alone(deployment: Deployment) -> None:
    """Ctrl-C asks nothing and stops nothing; a job that is cancelled ends the watching with another exit code."""
    job = _slow_job(deployment, "left")
    terminal = Terminal(deployment, "status", "--watch", job.id)
    terminal.read_until("waiting for a worker")
    terminal.press_ctrl_c()
    assert "nothing was stopped" in terminal.read_to_the_end()
    assert terminal.process.wait(20) == 130
    assert job.state is JobState.RUNNING
    watching = _piped(deployment, "--watch", job.id)
    assert watching.stdout is not None
    assert "waiting for a worker" in watching.stdout.readline()
    job.cancel()
    assert f"job {job.id} cancelled: " in watching.stdout.read()
    assert watching.wait(20) == 1


def test_ingest_shows_the_same(deployment: Deployment, tmp_path: Path) -> None:
    """While it waits, `ingest` shows in a terminal what `status --watch` does; status alone wants the id of a job."""
    deployment.start_worker(concurrency=2)
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(120):
        (folder / f"{number}.txt").write_text(f"Document {number} tells of its topic. " * 60)
    pipeline = tmp_path / "slow.toml"
    pipeline.write_text(
        '[[transformations]]\nname = "test_slow"\nseconds = 0.05\n'
        '[[transformations]]\nname = "sentence_splitter"\nchunk_size = 64\nchunk_overlap = 8\n'
        '[[transformations]]\nname = "embed"\nembedder = "hashed"\n'
    )
    terminal = Terminal(deployment, "ingest", str(folder), "-c", "shown", "--pipeline", str(pipeline))
    said = terminal.read_to_the_end()
    assert terminal.process.wait(20) == 0, said
    assert re.search(r"\d+ of 120 documents  \d+ nodes  \d+ nodes/s  [\d,]+ tokens", said)
    assert re.search(r"ETA \d:\d\d:\d\d  [012] workers?  0 failed", said)
    assert "120 seen, 120 new" in said
    usage = run_docmill(["status"], worker_environment(deployment.settings))
    assert usage.returncode == 2
    assert "--watch" in usage.stderr
