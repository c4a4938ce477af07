"""Traces of a real client and a real worker, as a collector that speaks OTLP receives them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import SecretStr

from orchestrator import Document
from orchestrator.job import Job
from orchestrator.runtime import worker_environment
from tests.deployment import Deployment, run_docmill, wait_for
from tests.openai_server import openai_stub

pytestmark = pytest.mark.acceptance

_TEXT = "canary-of-the-text"
_KEY = "sk-canary-of-the-key"


class _Collector:
    """A collector on this machine: keeps what it is sent."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.bodies: list[bytes] = []
        self.environment = {
            "DOCMILL_TRACES": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }

    def spans(self) -> list[dict[str, Any]]:
        """Every span, with its attributes and links as plain data."""
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                (service,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    attributes = {
                        item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes
                    }
                    found.append(
                        {
                            "name": span.name,
                            "service": service,
                            "place": (span.trace_id, span.span_id),
                            "parent": span.parent_span_id,
                            "links": {(link.trace_id, link.span_id) for link in span.links},
                            **attributes,
                        }
                    )
        return found

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans() if span["name"] == name]


@contextmanager
def _running() -> Iterator[_Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = _Collector(server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _committed(collector: _Collector) -> int:
    return sum(int(span["docmill.batches"]) for span in collector.named("docmill.commit"))


def test_a_job_can_be_followed_from_enqueue_to_commit(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    """Each batch is a trace linked to where its job was enqueued, each commit one linked to its batches.

    Stages and calls of a provider stand beneath, with the tokens that the server billed. No text and no key is in them.
    """
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(24):
        (folder / f"{number}.txt").write_text(f"{_TEXT} {number} tells of its topic. " * 60)
    (folder / "bad.txt").write_text(f"{_TEXT} is poison")
    pipeline = tmp_path / "traced.toml"
    pipeline.write_text(
        '[[transformations]]\nname = "test_poisonous"\n'
        '[[transformations]]\nname = "sentence_splitter"\nchunk_size = 64\nchunk_overlap = 8\n'
        '[[transformations]]\nname = "title_extractor"\nllm = "openai/small"\nnodes = 1\n'
        '[[transformations]]\nname = "embed"\nembedder = "openai/embedding-test@16"\n'
    )
    with _running() as collector, openai_stub() as provider:
        provider.key = _KEY
        # What the reconciler sends is linked to nothing, and on a slow machine it may come first: here it does not.
        deployment = deploy(openai_base_url=provider.url, openai_api_key=SecretStr(_KEY), reconcile_every=60.0)
        deployment.start_worker(concurrency=2, **collector.environment)
        environment = {**worker_environment(deployment.settings), **collector.environment}
        ended = run_docmill(["ingest", str(folder), "-c", "traced", "--pipeline", str(pipeline)], environment)
        assert ended.returncode == 3, ended.stderr
        report = Job(deployment.connections, ended.stdout.split()[1]).report
        wait_for(lambda: _committed(collector) == report.batches.total)
        deployment.workers[0].stop()  # and what was not sent yet is

    (enqueue,) = collector.named("docmill.enqueue")
    assert (enqueue["service"], enqueue["docmill.job"]) == ("docmill-client", report.job_id)
    batches = collector.named("docmill.transform")
    assert len(batches) == len({span["docmill.batch"] for span in batches}) == report.batches.total
    for span in batches:
        assert (span["service"], span["docmill.collection"], span["parent"]) == ("docmill-worker", "traced", b"")
        assert span["docmill.attempt"] >= 1
        assert span["links"] == {enqueue["place"]}
        assert span["place"][0] != enqueue["place"][0]
    assert sum(span["docmill.nodes"] for span in batches) == report.nodes.upserted
    billed = provider.embedding + provider.prompt + provider.completion
    assert sum(span["docmill.tokens"] for span in batches) == billed
    assert sum(span["docmill.failed"] for span in batches) == 1

    committed = {place for span in collector.named("docmill.commit") for place in span["links"]}
    assert committed == {span["place"] for span in batches} | {enqueue["place"]}
    for stage, parent in (("transform", batches), ("embed", batches), ("store", batches)):
        assert len(collector.named(stage)) == len(batches)
        assert {span["parent"] for span in collector.named(stage)} == {span["place"][1] for span in parent}

    calls = collector.named("call openai/embedding-test@16")
    assert len(calls) == len(provider.calls("/embeddings"))
    assert sum(span["gen_ai.usage.input_tokens"] for span in calls) == provider.embedding
    assert {span["parent"] for span in calls} <= {span["place"][1] for span in collector.named("embed")}
    asked = collector.named("call openai/small")
    assert len(asked) == len(provider.calls("/chat/completions"))
    assert sum(span["gen_ai.usage.input_tokens"] for span in asked) == provider.prompt > 0
    assert sum(span["gen_ai.usage.output_tokens"] for span in asked) == provider.completion > 0
    assert {span["parent"] for span in asked} <= {span["place"][1] for span in collector.named("transform")}
    sent = b"".join(collector.bodies)
    assert _TEXT.encode() not in sent
    assert _KEY.encode() not in sent


def test_a_batch_that_is_published_again_is_traced_without_its_link(deploy: Callable[..., Deployment]) -> None:
    """The reconciler does not know where a job was enqueued: the batch is a trace all the same."""
    deployment = deploy(lost_after=1.0)
    job = deployment.pipeline("lost").enqueue([Document(id="one", text="One document. " * 20)])
    deployment.redis.flushall()
    with _running() as collector:
        deployment.start_worker(concurrency=1, **collector.environment)
        assert deployment.wait(job).documents.new == 1
        wait_for(lambda: collector.named("docmill.commit"))
        deployment.workers[0].stop()
    (batch,) = collector.named("docmill.transform")
    assert (batch["docmill.job"], batch["docmill.batch"], batch["links"]) == (job.id, 0, set())
    assert collector.named("docmill.commit")[0]["links"] == {batch["place"]}
