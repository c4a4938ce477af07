"""Spans, as an exporter in memory gets them; and nothing at all where they are not asked for."""

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from orchestrator.contracts import traces
from orchestrator.contracts.open_telemetry import Ids, Tracing
from orchestrator.contracts.traces import attempt_identity, enqueued_at, link, span, stage, trace_options


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """An exporter that keeps the spans of this process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(id_generator=Ids())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "_tracing", Tracing(provider, own=True))
    yield exporter
    provider.shutdown()


def _spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {found.name: found for found in exporter.get_finished_spans()}


def _place(found: ReadableSpan) -> tuple[int, int]:
    assert found.context is not None
    return found.context.trace_id, found.context.span_id


def _links(found: ReadableSpan) -> list[tuple[int, int]]:
    return [(each.context.trace_id, each.context.span_id) for each in found.links]


def test_across_the_queue_spans_are_linked(exporter: InMemorySpanExporter) -> None:
    """A batch links to the span in which its job was enqueued, a commit to its batches; each is a trace of its own."""
    assert trace_options() == {}
    with span("enqueue", kind="producer"):
        sent = trace_options()
    assert trace_options() == {}
    identity = attempt_identity("0123456789ab", 7, 2)
    with (
        enqueued_at(SimpleNamespace(**sent["headers"])),
        span("batch", kind="consumer", identity=identity, attributes={"docmill.batch": 7}) as batch,
    ):
        passed_on = trace_options()
        with stage("embed"):
            batch.set({"docmill.nodes": 3})
    with enqueued_at(SimpleNamespace(**passed_on["headers"])), span("commit", kind="consumer"):
        link([identity])
    found = _spans(exporter)
    assert _links(found["batch"]) == [_place(found["enqueue"])]
    assert _links(found["commit"]) == [_place(found["enqueue"]), _place(found["batch"])]
    assert len({_place(found[name])[0] for name in ("enqueue", "batch", "commit")}) == 3
    assert found["batch"].parent is None
    assert found["embed"].parent is not None
    assert found["embed"].parent.span_id == _place(found["batch"])[1]
    assert dict(found["batch"].attributes or {}) == {"docmill.batch": 7, "docmill.nodes": 3}


@pytest.mark.parametrize(
    "said", [{}, {"traceparent": "nonsense"}, {"traceparent": 7}, {"traceparent": f"00-{'0' * 32}-{'0' * 16}-0"}]
)
def test_a_message_that_says_nothing_useful_is_no_trouble(
    exporter: InMemorySpanExporter, said: dict[str, object]
) -> None:
    """Without a traceparent, or with one that is none, a span has no link, and nothing is passed on."""
    with enqueued_at(SimpleNamespace(**said)), span("batch", kind="consumer"):
        assert trace_options() == {}
    assert _links(_spans(exporter)["batch"]) == []


def test_of_an_error_the_class_is_said(exporter: InMemorySpanExporter) -> None:
    """A span that fails has the error's class and no word of its message."""
    with pytest.raises(ValueError, match="canary"), span("batch", kind="consumer"):
        raise ValueError("canary")
    found = _spans(exporter)["batch"]
    assert found.status.status_code is StatusCode.ERROR
    assert dict(found.attributes or {}) == {"error.type": "ValueError"}
    assert "canary" not in found.to_json()


def test_a_stage_without_a_span_around_it_is_none(exporter: InMemorySpanExporter) -> None:
    """What is not part of a batch, a segment or a job makes no trace of its own."""
    with stage("lease"):
        pass
    assert exporter.get_finished_spans() == ()


def test_without_traces_nothing_is_loaded() -> None:
    """Where traces are not asked for, all spans are made of nothing, and OpenTelemetry is not imported."""
    program = """
import sys
import orchestrator.contracts.queues, workers.spans
from orchestrator.contracts.traces import link, span, stage, trace_options
with span("batch", kind="consumer") as found, stage("embed"):
    found.set({"docmill.nodes": 1})
    link(["x"])
    assert trace_options() == {}
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
import workers.tasks, orchestrator.dispatch  # and with them redis, which loads what it finds of OpenTelemetry itself
assert "orchestrator.contracts.open_telemetry" not in sys.modules
assert "opentelemetry.sdk.trace" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_traces_without_the_extra_are_refused() -> None:
    """Where OpenTelemetry is not installed, the error says what to install."""
    program = """
import sys
sys.modules["opentelemetry"] = None
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.traces import begin_tracing
try:
    begin_tracing("docmill", joins=True)
except ConfigurationError as error:
    assert "docmill[otel]" in str(error), error
else:
    sys.exit("no error")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
