"""A program of a user, with no service installed: the embedded stack, and as many workers as it asks for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import Services

pytestmark = pytest.mark.acceptance

_PROGRAM = """
import json
from orchestrator import Document, IngestionPipeline
from workers.transformations import Embed, SentenceSplitter

pipeline = IngestionPipeline("numbered", [SentenceSplitter(), Embed("hashed")])
for count in (2, 1, None):
    report = pipeline.run([Document(id=str(count), text=f"With {count}.")], num_workers=count, timeout=60)
    workers = pipeline.connections.app.control.inspect(timeout=2).stats()
    print(json.dumps([report.state, report.documents.new, [w["pool"]["max-concurrency"] for w in workers.values()]]))
"""


def test_num_workers_are_the_processes_of_this_machine(services: Services) -> None:
    """On the embedded stack `num_workers` is how many worker processes there are, changed from one call to the next."""
    environment = {"DOCMILL_HOME": str(services.new_home("program")), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", _PROGRAM],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["succeeded", 1, [2]],
        ["succeeded", 1, [1]],
        ["succeeded", 1, [1]],
    ]
