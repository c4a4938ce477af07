"""The Celery app, and the timer that asks for reconciling. Settings are read when a worker starts, not at import."""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps
from celery.signals import worker_process_init

from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.queues import celery_config, send_reconcile
from orchestrator.settings import Settings, load_settings
from workers.context import WorkerContext

__all__ = ["app", "configure", "context"]

app = Celery("docmill", include=["workers.tasks"])
_context: WorkerContext | None = None


def configure(settings: Settings) -> Celery:
    """Point the app at its services."""
    app.conf.update(
        celery_config(
            settings.broker_url or "",
            settings.results_redis_url,
            connect_timeout=settings.connect_timeout,
            time_limit=settings.time_limit,
        )
    )
    return app


def context() -> WorkerContext:
    """This process's context; made at the first task, so that nothing is shared over a fork."""
    global _context
    if _context is None:
        _context = WorkerContext(load_settings(), app)
    return _context


@worker_process_init.connect
def _forget_context(**kwargs: object) -> None:
    global _context
    _context = None


class ReconcileTimer(bootsteps.StartStopStep):
    """Asks for a look at what has stalled, every few seconds; of many workers one asks."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.entry: Any = None

    def start(self, consumer: Any) -> None:
        from redis import Redis

        settings = load_settings()
        redis = Redis.from_url(redis_client_url(settings.results_redis_url), socket_timeout=2, socket_connect_timeout=2)
        every = settings.reconcile_every

        def ask() -> None:
            if redis.set("docmill:reconcile-asked", 1, nx=True, px=round(every * 900)):
                send_reconcile(consumer.app)

        self.entry = consumer.timer.call_repeatedly(every, ask)

    def stop(self, consumer: Any) -> None:
        if self.entry is not None:
            self.entry.cancel()
            self.entry = None


app.steps["consumer"].add(ReconcileTimer)
