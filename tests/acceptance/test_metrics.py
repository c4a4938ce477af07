"""Metrics, as Prometheus reads them: from Flower's page, and from a worker whose processes come and go."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from orchestrator import Document, JobState
from orchestrator.runtime import worker_environment
from tests.deployment import Deployment, wait_for
from tests.ports import free_port
from tests.transformations import Flaky
from workers.metrics.ledger import LedgerCollector
from workers.metrics.names import LEDGER_METRICS, WORKER_METRICS

_Samples = dict[tuple[str, str], float]


def _scrape(port: int) -> _Samples:
    """{(name, value of the label other than le): value} of docmill's metrics; none while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
    except OSError:
        return {}
    found: _Samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = " ".join(value for name, value in sorted(sample.labels.items()) if name != "le")
            if sample.name.startswith("docmill_"):
                found[sample.name, labels] = sample.value  # of a histogram's buckets the last, which holds all
    return found


def _corpus(name: str, count: int) -> list[Document]:
    return [Document(id=f"{name}{index}", text=f"{name} {index} tells of its topic. " * 60) for index in range(count)]


def test_a_worker_serves_what_all_its_processes_counted(deploy: Callable[..., Deployment]) -> None:
    """Stages are counted by batch over all children, one killed in between included; no name is unlisted."""
    port = free_port()
    deployment = deploy(metrics_port=port)
    worker = deployment.start_worker(concurrency=2)
    report = deployment.wait(deployment.pipeline("first").enqueue(_corpus("a", 40)))
    before = _scrape(port)
    assert before["docmill_stage_seconds_count", "transform"] == report.batches.total
    assert before["docmill_stage_seconds_sum", "embed"] > 0
    children = subprocess.run(
        ["ps", "--ppid", str(worker.process.pid), "-o", "pid="], capture_output=True, text=True, check=True
    )
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    again = deployment.wait(deployment.pipeline("second").enqueue(_corpus("b", 40)))
    after = _scrape(port)
    assert after["docmill_stage_seconds_count", "store"] >= report.batches.total + again.batches.total
    assert {stage for name, stage in after if name == "docmill_stage_seconds_count"} == {
        "lease",
        "transform",
        "embed",
        "store",
        "fetch",
        "commit",
    }
    allowed = tuple(metric.name for metric in WORKER_METRICS)
    assert all(name.startswith(allowed) for name, _ in after)


def test_retries_and_repairs_are_counted(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    """A batch that is put back counts under the class of its error, and what the reconciler did by its kind."""
    port = free_port()
    deployment = deploy(metrics_port=port)
    deployment.start_worker()
    pipeline = deployment.pipeline("flaky", Flaky(mark=str(tmp_path / "mark")))
    report = deployment.wait(pipeline.enqueue(_corpus("d", 1)))
    assert (report.state, report.batches.retried) == (JobState.SUCCEEDED, 1)
    found = _scrape(port)
    assert found["docmill_batch_retries_total", "TransientError"] == 1
    wait_for(lambda: sum(value for (name, _), value in _scrape(port).items() if "reconciler" in name) >= 1)


def test_flower_serves_what_the_ledger_knows(deployment: Deployment) -> None:
    """Flower's page has every metric of the list, the counts are the report's, and a batch nobody takes grows old."""
    port = free_port()
    prices = json.dumps([{"model": "hashed/256", "embedding": 2_000_000}])
    flower = subprocess.Popen(
        [sys.executable, "-m", "workers.flower", "--address=127.0.0.1", f"--port={port}"],
        env={**os.environ, **worker_environment(deployment.settings), "DOCMILL_PRICES": prices},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        job = deployment.pipeline("watched").enqueue(_corpus("c", 20))
        wait_for(lambda: _scrape(port).get(("docmill_oldest_waiting_batch_seconds", ""), 0) > 0)
        before = _scrape(port)
        assert before["docmill_batches", "waiting"] > 0
        deployment.start_worker()
        report = deployment.wait(job)
        ended = ("docmill_jobs_ended_total", "succeeded")
        wait_for(lambda: _scrape(port)[ended] > before[ended])
        found = _scrape(port)
        assert found["docmill_oldest_waiting_batch_seconds", ""] == 0
        assert found["docmill_documents_total", "new"] >= report.documents.new == 20
        assert found["docmill_nodes_total", "upserted"] >= report.nodes.upserted
        paid = sum(
            value for (name, labels), value in found.items() if name == "docmill_tokens_total" and "hashed" in labels
        )
        assert paid >= report.tokens.embedding > 0
        assert found["docmill_cost_total", "hashed/256"] == 2 * paid
        assert [found["docmill_up", name] for name in ("ledger", "results", "cache")] == [1, 1, 1]
        assert found["docmill_redis_keys", "cache"] > 0
        assert {name for name, _ in found} == {metric.name for metric in LEDGER_METRICS}
    finally:
        flower.terminate()
        flower.wait(20)


def test_a_ledger_that_is_away_costs_its_own_metrics(deployment: Deployment) -> None:
    """While the ledger does not answer, `docmill_up` says so, nothing of it is served, and the rest still is."""
    away = deployment.settings.model_copy(update={"database_url": "postgresql+psycopg://u:hunter2@127.0.0.1:1/none"})
    collector = LedgerCollector(away)
    try:
        families = {family.name: family.samples for family in collector.collect()}
    finally:
        collector.close()
    assert {sample.labels["service"]: sample.value for sample in families["docmill_up"]} == {
        "ledger": 0,
        "results": 1,
        "cache": 1,
    }
    assert set(families) == {
        "docmill_up",
        "docmill_redis_memory_bytes",
        "docmill_redis_memory_limit_bytes",
        "docmill_redis_keys",
    }
