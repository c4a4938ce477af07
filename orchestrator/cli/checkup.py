"""The checks of `docmill doctor`: each says what it found, and how to mend what is wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import select

from orchestrator.connections import Connections
from orchestrator.contracts.addresses import cache_kind, redacted, redis_client_url
from orchestrator.contracts.errors import DocmillError
from orchestrator.contracts.queues import QUEUES
from orchestrator.ledger.clock import now
from orchestrator.ledger.engine import begin
from orchestrator.ledger.migrate import require_current

__all__ = ["Finding", "checkup"]

_MAX_SKEW_SECONDS = 5.0
_PATIENCE_SECONDS = 2.0  # for workers to answer


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    ok: bool
    message: str


def checkup(connections: Connections) -> list[Finding]:
    """Run every check; one that fails does not keep the others from running."""
    checks: dict[str, Callable[[Connections], str]] = {
        "database": _database,
        "broker": _broker,
        "results": _results,
        "cache": _cache,
        "clock": _clock,
        "tokenizer": _tokenizer,
        "workers": _workers,
    }
    findings = []
    for name, check in checks.items():
        try:
            findings.append(Finding(name, True, check(connections)))
        except (DocmillError, RedisError, OperationalError, OSError) as error:
            findings.append(Finding(name, False, str(error)))
    return findings


def _database(connections: Connections) -> str:
    require_current(connections.engine)
    return f"{connections.engine.url.render_as_string(hide_password=True)}, schema is current"


def _clock(connections: Connections) -> str:
    """Leases go by the database's clock alone, but logs and stamps of files are read by people on this one's."""
    with begin(connections.engine) as connection:
        theirs = connection.execute(select(now())).scalar_one()
    skew = abs((datetime.now(UTC) - theirs).total_seconds())
    if skew > _MAX_SKEW_SECONDS:
        raise DocmillError(
            f"this clock and the database's are {skew:.0f} s apart: set both by NTP, or times in logs mislead"
        )
    return f"{skew:.1f} s from the database's"


def _broker(connections: Connections) -> str:
    connections.check_broker()
    url = connections.settings.broker_url or ""
    return _redis(url, may_evict=False) if url.startswith("redis") else redacted(url)


def _results(connections: Connections) -> str:
    return _redis(connections.settings.results_redis_url, may_evict=False)


def _cache(connections: Connections) -> str:
    settings = connections.settings
    url = settings.cache_address
    kind = cache_kind(url)
    if kind == "redis":
        return _redis(url, may_evict=True)
    if kind == "memory":
        return "in the memory of each worker process, shared by none"
    from workers.caches import open_cache

    cache = open_cache(url, ttl_seconds=settings.cache_ttl, max_bytes=settings.cache_bytes)
    try:
        entries = sum(size.entries for size in cache.sizes().values())
    finally:
        cache.close()
    return f"{redacted(url)}, {entries:,} entries"


def _redis(url: str, *, may_evict: bool) -> str:
    """Ping a Redis, and look at what it does when its memory is full."""
    client: Any = Redis.from_url(redis_client_url(url), socket_connect_timeout=5, socket_timeout=5)
    try:
        policy = client.info("memory").get("maxmemory_policy", "unknown")
    finally:
        client.close()
    if not may_evict and policy != "noeviction":
        raise DocmillError(
            f"{redacted(url)} evicts by {policy!r}: running jobs would lose messages and results, and repeat work; "
            "set maxmemory-policy noeviction"
        )
    return f"{redacted(url)}, maxmemory-policy {policy}"


def _tokenizer(connections: Connections) -> str:
    from workers.tokens.tokenizer import get_tokenizer

    return f"cl100k_base counts {get_tokenizer().count('nothing lost, nothing doubled')} tokens offline"


def _workers(connections: Connections) -> str:
    inspect = connections.app.control.inspect(timeout=_PATIENCE_SECONDS)
    answering: dict[str, Any] = inspect.active_queues() or {}
    if not answering:
        raise DocmillError("no worker answers: run `docmill worker`, here or on another machine")
    served = {queue["name"] for queues in answering.values() for queue in queues}
    missing = [queue for queue in QUEUES if queue not in served]
    if missing:
        raise DocmillError(f"no worker takes from {', '.join(missing)}: run `docmill worker`")
    return f"{len(answering)} answering: {', '.join(sorted(answering))}"
