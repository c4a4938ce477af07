"""A collector for Prometheus that asks the ledger and the Redis servers when it is scraped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.contracts.addresses import cache_kind, redis_client_url
from orchestrator.contracts.errors import DocmillError
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.prices import Price, cost
from orchestrator.contracts.report import TERMINAL_JOB_STATES, BatchState, BillLine, JobState
from orchestrator.ledger.batches import OPEN_STATES
from orchestrator.ledger.engine import create_ledger_engine, reading
from orchestrator.ledger.totals import Totals, TotalsReader
from orchestrator.settings import Settings
from workers.metrics import names
from workers.metrics.names import Metric

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

__all__ = ["LedgerCollector"]

_log = get_logger(__name__)
_FRESH_SECONDS = 5.0  # two Prometheus servers, or an impatient reader, cost no more than one
_DOCUMENTS = ("new", "changed", "unchanged", "duplicate", "deleted", "failed")


class LedgerCollector(Collector):
    """Asks at most every few seconds. A service that does not answer costs its own metrics; `docmill_up` tells.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._engine = create_ledger_engine(settings.ledger_url, connect_timeout=settings.connect_timeout)
        self._totals = TotalsReader()
        self._redis = {name: _client(url, settings) for name, url in _redis_urls(settings).items()}
        self._lock = threading.Lock()
        self._found: list[Family] = []
        self._asked_at: float | None = None

    def describe(self) -> Iterable[Family]:
        """The names, without asking anybody."""
        return [_family(metric, {}) for metric in names.LEDGER_METRICS]

    def collect(self) -> Iterable[Family]:
        """All metrics, as they were a few seconds ago at most."""
        with self._lock:
            if self._asked_at is None or self._clock() - self._asked_at >= _FRESH_SECONDS:
                self._found = list(self._ask())
                self._asked_at = self._clock()
            return list(self._found)

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()
        for client in self._redis.values():
            client.close()

    def _ask(self) -> Iterator[Family]:
        up: dict[Any, float] = {}
        try:
            with reading(self._engine) as connection:
                totals = self._totals.read(connection)
            up["ledger"] = 1
            yield from _of_ledger(totals, self._settings.prices)
        except (SQLAlchemyError, DocmillError) as error:
            up["ledger"] = 0
            _log.warning("the ledger was not asked for metrics", error=error)
        infos: dict[str, dict[str, Any]] = {}
        for name, client in self._redis.items():
            try:
                infos[name] = {**client.info("memory"), "keys": client.dbsize()}
                up[name] = 1
            except (RedisError, OSError) as error:
                up[name] = 0
                _log.warning("a Redis was not asked for metrics", server=name, error=error)
        yield _family(names.REDIS_MEMORY, {name: info["used_memory"] for name, info in infos.items()})
        yield _family(names.REDIS_LIMIT, {name: info["maxmemory"] for name, info in infos.items()})
        yield _family(names.REDIS_KEYS, {name: info["keys"] for name, info in infos.items()})
        yield _family(names.UP, up)


def _of_ledger(totals: Totals, prices: Iterable[Price]) -> Iterator[Family]:
    # What has not happened yet is 0 rather than absent: a rate needs a value before the first.
    ended_batches = [state for state in BatchState if state not in OPEN_STATES]
    yield _family(names.OLDEST_WAITING, {(): totals.oldest_waiting})
    yield _family(names.QUARANTINED, {(): totals.quarantined})
    yield _family(names.JOBS, {state: totals.jobs[state] for state in JobState if state not in TERMINAL_JOB_STATES})
    yield _family(names.JOBS_ENDED, {state: totals.jobs[state] for state in JobState if state in TERMINAL_JOB_STATES})
    yield _family(names.BATCHES, {state: totals.batches[state] for state in OPEN_STATES})
    yield _family(names.BATCHES_ENDED, {state: totals.batches[state] for state in ended_batches})
    yield _family(names.DOCUMENTS, {outcome: totals.documents[outcome] for outcome in _DOCUMENTS})
    yield _family(names.NODES, {change: totals.nodes[change] for change in ("upserted", "removed")})
    yield _family(names.CACHE_LOOKUPS, {result: totals.cache[result] for result in ("hit", "miss")})
    # Of the prompt, some may have come from the provider's own cache: they are prompt, and not once more.
    yield _family(names.TOKENS, {of: count for of, count in totals.tokens.items() if of[1] != "cached"})
    yield _family(names.COST, _costs(totals, prices))


def _costs(totals: Totals, prices: Iterable[Price]) -> dict[str, float]:
    """{model: cost} of the models that have a price."""
    paid: dict[str, dict[str, int]] = {}
    for (model, kind), count in totals.tokens.items():
        paid.setdefault(model, {})[kind] = count
    lines = (BillLine(transformation="", model=model, **counts) for model, counts in paid.items())
    return {line.model: found for line in lines if (found := cost([line], prices)) is not None}


def _family(metric: Metric, values: Mapping[Any, float]) -> Family:
    """A metric with its values by label, or by labels."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric([str(labels)] if isinstance(labels, str) else [*labels], value)
    return family


def _redis_urls(settings: Settings) -> dict[str, str]:
    urls = {"results": settings.results_redis_url}
    if cache_kind(settings.cache_address) == "redis":
        urls["cache"] = settings.cache_address
    return urls


def _client(url: str, settings: Settings) -> Any:
    from redis import Redis

    return Redis.from_url(
        redis_client_url(url), socket_connect_timeout=settings.connect_timeout, socket_timeout=settings.connect_timeout
    )
