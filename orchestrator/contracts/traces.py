"""Traces: spans for OpenTelemetry, if they are asked for. If they are not, nothing is loaded and next to nothing done.

Across the queue spans are linked, and have no parents there: the trace of a batch stays as small as a batch, however
large its job, and is kept or dropped by itself. Messages carry where their job was enqueued, as `traceparent`; the
span of an attempt at a batch has an id that follows from the attempt, so that the commit of many can name each.

Attributes are ids, names and counts, never a text; of an error its class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.hashing import digest

if TYPE_CHECKING:
    from orchestrator.contracts.open_telemetry import Tracing

__all__ = [
    "Attributes",
    "Span",
    "SpanKind",
    "attempt_identity",
    "begin_tracing",
    "end_tracing",
    "enqueued_at",
    "is_tracing",
    "link",
    "load_tracing",
    "span",
    "stage",
    "trace_options",
]

SpanKind: TypeAlias = Literal["internal", "client", "producer", "consumer"]
Attributes: TypeAlias = Mapping[str, str | int | float]

_HEADER = "traceparent"
_FORM = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_tracing: Tracing | None = None
_enqueued: ContextVar[str | None] = ContextVar("docmill_enqueued", default=None)


class Span(Protocol):
    """What happens, for as long as it does."""

    def set(self, attributes: Attributes) -> None:
        """Say more of it."""


class _Nothing:
    def set(self, attributes: Attributes) -> None:
        """Nobody listens."""


_NOTHING = _Nothing()


def begin_tracing(service: str, *, joins: bool) -> None:
    """Trace from now on in this process; again changes nothing. Where to, OpenTelemetry's own variables say.

    Args:
        service: what this process is called, unless OTEL_SERVICE_NAME says.
        joins: spans go where those of the program go that this is part of, if it traces.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """
    global _tracing
    if _tracing is None:
        _tracing = load_tracing().begin(service, joins=joins)


def load_tracing() -> type[Tracing]:
    """Load OpenTelemetry, and begin nothing yet: whoever forks does so before.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        from orchestrator.contracts.open_telemetry import Tracing
    except ImportError as error:
        raise ConfigurationError("DOCMILL_TRACES needs the extra: pip install 'docmill[otel]'") from error
    return Tracing


def end_tracing() -> None:
    """Send what has not been sent, and trace no more."""
    global _tracing
    if _tracing is not None:
        _tracing.close()
        _tracing = None


def is_tracing() -> bool:
    """Whether spans go anywhere."""
    return _tracing is not None


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = "internal",
    identity: str | None = None,
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """What happens within the block, beneath the span around it; a consumer has a trace of its own.

    Args:
        identity: its id follows from this.
    """
    if _tracing is None:
        yield _NOTHING
        return
    origin = _enqueued.get() if kind == "consumer" else None
    with _tracing.span(name, kind, identity, origin, attributes or {}) as found:
        if kind != "producer":
            yield found
            return
        before = _enqueued.set(found.traceparent)
        try:
            yield found
        finally:
            _enqueued.reset(before)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """A part of the span around it. Without one around it is not worth a trace."""
    if _tracing is None or not _tracing.is_within:
        yield
        return
    with span(name):
        yield


def link(identities: Iterable[str]) -> None:
    """The span around was led to by these, too."""
    if _tracing is not None:
        _tracing.link(identities)


@contextmanager
def enqueued_at(message: Any) -> Iterator[None]:
    """While a message is worked on: what is sent on says the same of where its job was enqueued, if it says anything.

    Args:
        message: Celery's request of the task, whose attributes are the headers.
    """
    said = getattr(message, _HEADER, None)
    before = _enqueued.set(said if isinstance(said, str) and _FORM.fullmatch(said) else None)
    try:
        yield
    finally:
        _enqueued.reset(before)


def trace_options() -> dict[str, Any]:
    """What a message is sent with, for who takes it to link to."""
    origin = _enqueued.get()
    return {} if origin is None else {"headers": {_HEADER: origin}}


def attempt_identity(job_id: str, batch: int, attempt: int) -> str:
    """Names the span of an attempt at a batch."""
    return digest("attempt", job_id, str(batch), str(attempt))
