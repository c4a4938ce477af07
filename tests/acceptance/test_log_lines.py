"""The logs of a real worker, its supervisor and Flower: every line parses, says whose it is, and gives nothing away."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from orchestrator import Document, JobState
from orchestrator.contracts.messages import TRANSFORM
from orchestrator.runtime import worker_environment
from tests.deployment import Deployment, wait_for
from tests.ports import free_port
from tests.transformations import Bursting, Flaky, Poisonous

pytestmark = pytest.mark.acceptance

_TEXT = "canary-of-the-text"
_PASSWORD = "canary-of-the-password"  # noqa: S105 - the test's own


class _Program:
    """One of docmill's commands, with all that it says in a file."""

    def __init__(self, deployment: Deployment, *arguments: str, **environment: str) -> None:
        self.log = deployment.folder / f"{arguments[0]}-{len(list(deployment.folder.iterdir()))}.err"
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli", *arguments],
                env={**os.environ, **worker_environment(deployment.settings), **environment},
                stdout=errors,
                stderr=errors,
            )

    def lines(self) -> list[dict[str, Any]]:
        """What was logged so far; whatever is no JSON fails the test. The last line may not be whole yet."""
        *whole, _ = self.log.read_text().split("\n")
        return [json.loads(line) for line in whole]

    def says(self, event: str) -> bool:
        return any(line["event"] == event for line in self.lines())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def test_a_workers_lines_say_whose_they_are_and_give_nothing_away(
    deploy: Callable[..., Deployment], tmp_path: Path
) -> None:
    """At level debug each line is JSON; lines within a batch have job, batch and attempt; no text, no password.

    A document fails, a batch fails as a whole and is halved, one is retried, a message makes no sense, and the
    process is killed and started again.
    """
    deployment = deploy(log_level="debug", max_attempts=1)
    url = make_url(deployment.settings.database_url or "").set(password=_PASSWORD)
    deployment.settings = deployment.settings.model_copy(
        update={"database_url": url.render_as_string(hide_password=False)}
    )
    worker = _Program(deployment, "worker", "--concurrency", "1", OPENAI_LOG="debug")
    try:
        steps = (Flaky(mark=str(tmp_path / "mark")), Poisonous(word="poison"), Bursting(word="bursting"))
        documents = [Document(id=f"d{number}", text=f"{_TEXT} number {number}. " * 60) for number in range(20)]
        documents += [Document(id="bad", text=f"{_TEXT} is poison"), Document(id="big", text=f"{_TEXT} is bursting")]
        job = deployment.pipeline("logged", *steps).enqueue(documents)
        report = deployment.wait(job)
        assert (report.state, report.documents.failed) == (JobState.SUCCEEDED_WITH_FAILURES, 2)
        (running,) = {line["worker"] for line in worker.lines() if line["event"] == "worker is ready"}
        (main,) = _children(_children(worker.process.pid)[0])
        os.kill(main, signal.SIGKILL)
        wait_for(lambda: worker.says("worker process is started again"))
        wait_for(lambda: sum(line["event"] == "worker is ready" for line in worker.lines()) == 2)
    finally:
        worker.stop()
    lines = worker.lines()
    assert running
    shown = worker.log.read_text()
    assert _TEXT not in shown
    assert _PASSWORD not in shown
    ours = {line["event"]: line for line in lines if line["logger"].startswith("workers.")}
    for event in ("document failed", "batch failed", "batch halved", "documents failed", "batch will be retried"):
        assert ours[event]["job"] == job.id
        assert ours[event]["batch"] >= 0
        assert ours[event]["attempt"] >= 1
        assert " at " in ours[event]["error"]
    assert ours["document failed"]["document"] == "bad"
    assert ours["documents failed"]["document"] == "big"
    ended = [line for line in lines if line["event"] == "task succeeded" and line["task"] == TRANSFORM]
    assert all({"job", "batch"} <= line.keys() for line in ended)
    # A message that comes twice finds nothing to run, and makes no attempt.
    assert len({line["batch"] for line in ended if "attempt" in line}) == report.batches.total
    assert all(line["job"] == job.id for line in lines if line.get("task") == "docmill.commit")


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def test_flower_and_what_a_message_broke_take_the_same_way(deployment: Deployment) -> None:
    """Flower logs in the same form; a task that raises is one line with class and place, and not what it was given."""
    flower = _Program(deployment, "flower", "--port", str(free_port()))
    worker = _Program(deployment, "worker", "--concurrency", "1")
    try:
        wait_for(lambda: worker.says("worker is ready"))
        send = deployment.connections.app.send_task
        send(TRANSFORM, kwargs={"job": "0123456789ab", "batch": _TEXT}, ignore_result=True)
        wait_for(lambda: worker.says("task raised unexpected"))
        wait_for(lambda: flower.says("Flower runs until Ctrl-C"))
        assert flower.process.poll() is None
    finally:
        flower.stop()
        worker.stop()
    assert _TEXT not in worker.log.read_text()
    (line,) = [line for line in worker.lines() if line["event"] == "task raised unexpected"]
    assert (line["level"], line["logger"], line["task"]) == ("error", "celery.app.trace", TRANSFORM)
    assert line["error"].startswith("ValidationError at ")
    assert any("workers/tasks.py" in frame for frame in line["traceback"])
    assert flower.lines()
