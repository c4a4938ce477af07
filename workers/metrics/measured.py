"""What worker processes count. Nothing is counted, and prometheus_client not loaded, unless the worker serves metrics.

Each process writes to files of its own in one folder (prometheus_client's multiprocess mode), which hold its counts
when it dies; the main process sums them when it is asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.contracts.traces import stage
from workers.metrics.names import WORKER_METRICS, Metric

__all__ = ["begin_counting", "count", "timed"]

# From a look-up in the cache to a batch whose every node asks a language model. Seconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

_instruments: dict[Metric, Any] = {}


def begin_counting() -> None:
    """Count from now on, in this process and its children. PROMETHEUS_MULTIPROC_DIR must be set before."""
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()  # none that is served: this process alone is not the worker
    for metric in WORKER_METRICS:
        arguments = (metric.name.removesuffix("_total"), metric.meaning, metric.labels)
        _instruments[metric] = (
            Histogram(*arguments, registry=registry, buckets=_BUCKETS)
            if metric.kind == "histogram"
            else Counter(*arguments, registry=registry)
        )


def count(metric: Metric, label: str, amount: int = 1) -> None:
    """Add to a counter, under its one label."""
    if _instruments:
        _instruments[metric].labels(label).inc(amount)


@contextmanager
def timed(metric: Metric, label: str) -> Iterator[None]:
    """Add the time of the block to a histogram, under its one label, also if the block fails; it is a span, too."""
    with stage(label):
        if not _instruments:
            yield
            return
        begun = time.perf_counter()
        try:
            yield
        finally:
            _instruments[metric].labels(label).observe(time.perf_counter() - begun)
