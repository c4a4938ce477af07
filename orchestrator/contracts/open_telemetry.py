"""Spans by OpenTelemetry's SDK. Imported when traces are asked for, and by nobody else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestrator.contracts.hashing import digest
from orchestrator.contracts.traces import Attributes

__all__ = ["Ids", "RecordedSpan", "Tracing"]

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_PROPAGATOR = TraceContextTextMapPropagator()
_identity: ContextVar[str | None] = ContextVar("docmill_span_identity", default=None)


class Ids(RandomIdGenerator):
    """Ids by chance, or those that follow from an identity."""

    def generate_trace_id(self) -> int:
        identity = _identity.get()
        return super().generate_trace_id() if identity is None else _trace_id(identity)

    def generate_span_id(self) -> int:
        identity = _identity.get()
        return super().generate_span_id() if identity is None else _span_id(identity)


def _trace_id(identity: str) -> int:
    return int(digest("trace", identity)[:32], 16)


def _span_id(identity: str) -> int:
    return int(digest("span", identity)[:16], 16)


class RecordedSpan:
    """A span that somebody will see."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, attributes: Attributes) -> None:
        """Say more of it."""
        self._span.set_attributes(dict(attributes))

    @property
    def traceparent(self) -> str | None:
        """Its place in W3C's words."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span, Context()))
        return carrier.get("traceparent")


class Tracing:
    """Spans of this process.

    Args:
        provider: where they go.
        own: it is ours to end. Ids follow from identities only if it was made with `Ids`.
    """

    def __init__(self, provider: TracerProvider | trace.TracerProvider, *, own: bool) -> None:
        self._provider = provider
        self._own = own
        self._tracer = provider.get_tracer("docmill")

    @classmethod
    def begin(cls, service: str, *, joins: bool) -> Self:
        """To the provider of the program that this is part of, if it has one and asked; else to a collector by OTLP."""
        host = trace.get_tracer_provider()
        is_alone = isinstance(host, trace.ProxyTracerProvider)
        if joins and not is_alone:
            return cls(host, own=False)
        provider = TracerProvider(resource=_resource(service), id_generator=Ids())
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        if is_alone:  # so that spans of other libraries stand beneath ours
            trace.set_tracer_provider(provider)
        return cls(provider, own=True)

    @property
    def is_within(self) -> bool:
        """There is a span around."""
        return trace.get_current_span().get_span_context().is_valid

    def link(self, identities: Iterable[str]) -> None:
        """The span around was led to by these."""
        around = trace.get_current_span()
        for identity in identities:
            around.add_link(_place(identity))

    def close(self) -> None:
        """Send what has not been sent."""
        if self._own and isinstance(self._provider, TracerProvider):
            self._provider.shutdown()

    @contextmanager
    def span(
        self,
        name: str,
        kind: str,
        identity: str | None,
        origin: str | None,
        attributes: Attributes,
    ) -> Iterator[RecordedSpan]:
        """A span for as long as the block lasts; of an error it says the class."""
        before = _identity.set(identity)
        try:
            span = self._tracer.start_span(
                name,
                context=Context() if kind == "consumer" else None,
                kind=_KINDS[kind],
                links=_links(origin),
                attributes=dict(attributes),
            )
        finally:
            _identity.reset(before)
        # Not by the SDK: an error's message and traceback may hold a document's text.
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield RecordedSpan(span)
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise


def _links(traceparent: str | None) -> list[Link]:
    """To the span that a message names, if it names one."""
    if traceparent is None:
        return []
    place = trace.get_current_span(_PROPAGATOR.extract({"traceparent": traceparent}, Context())).get_span_context()
    return [Link(place)] if place.is_valid else []


def _place(identity: str) -> SpanContext:
    return SpanContext(_trace_id(identity), _span_id(identity), is_remote=True, trace_flags=TraceFlags(1))


def _resource(service: str) -> Resource:
    """OpenTelemetry's own variables say more of this process, and may name it."""
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {SERVICE_NAME: service})
