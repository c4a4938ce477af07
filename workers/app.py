"""The Celery app, and the timer that asks for reconciling. Settings are read when a worker starts, not at import."""

from __future__ import annotations

import gc
from typing import Any

from celery import Celery, bootsteps
from celery.signals import (
    setup_logging,
    task_postrun,
    worker_before_create_process,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
)
from kombu.exceptions import KombuError
from redis.exceptions import RedisError
from structlog.contextvars import clear_contextvars

from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.logs import configure_logging, get_logger
from orchestrator.contracts.queues import celery_config, declare_dead_letters, send_reconcile
from orchestrator.contracts.traces import begin_tracing, end_tracing
from orchestrator.settings import Settings, load_settings
from workers.context import WorkerContext
from workers.memory import give_back_memory, limit_memory
from workers.metrics.server import leave_to_main

__all__ = ["app", "configure", "context"]

_log = get_logger(__name__)
_ASK_SECONDS = 2.0

# A batch makes tens of thousands of objects and few cycles, which are freed after it: the default of 700 costs 7 % of
# the time.
_OBJECTS_A_COLLECTION = 20_000

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
    app.conf.worker_consumer = "workers.consumer:Consumer"
    return app


def context() -> WorkerContext:
    """This process's context; made at the first task, so that nothing is shared over a fork."""
    global _context
    if _context is None:
        settings = load_settings()
        if settings.traces:
            begin_tracing("docmill-worker", joins=False)
        _context = WorkerContext(settings, app)
    return _context


@setup_logging.connect
def _log_as_we_do(**kwargs: object) -> None:
    """In place of Celery's own handlers: its lines take the way of ours."""
    settings = load_settings()
    configure_logging(settings.log_format, settings.log_level)


@worker_ready.connect
def _say_ready(sender: Any, **kwargs: object) -> None:
    _log.info("worker is ready", worker=sender.hostname)


@task_postrun.connect
def _clear_away(**kwargs: object) -> None:
    """What was bound to the lines of a task is not for the next; Celery's own last line has been written by now."""
    clear_contextvars()
    give_back_memory()


@worker_before_create_process.connect
def _share_with_child(**kwargs: object) -> None:
    """Before the fork: what all children share is left alone by their collectors, and so stays shared."""
    gc.freeze()


@worker_process_init.connect
def _begin_child(**kwargs: object) -> None:
    """In a new child: what the main process holds is not for it."""
    global _context
    _context = None
    gc.set_threshold(_OBJECTS_A_COLLECTION)
    leave_to_main()
    limit_memory(load_settings().memory_limit)


@worker_process_shutdown.connect
def _end_child(**kwargs: object) -> None:
    """A child that is asked to go: its last spans are sent."""
    end_tracing()


class ReconcileTimer(bootsteps.StartStopStep):
    """Asks for a look at what has stalled, every few seconds; of many workers one asks."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.entry: Any = None

    def start(self, consumer: Any) -> None:
        """Begin to ask; called again after every reconnect."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        settings = load_settings()
        # Asked on the worker's own loop, which must not stand still: one try, and a short one.
        redis = Redis.from_url(
            redis_client_url(settings.results_redis_url),
            socket_timeout=_ASK_SECONDS,
            socket_connect_timeout=_ASK_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        every = settings.reconcile_every

        def ask() -> None:
            try:
                if redis.set("docmill:reconcile-asked", 1, nx=True, px=round(every * 900)):
                    send_reconcile(consumer.app)
            except (RedisError, KombuError, OSError) as error:
                _log.warning("nobody was asked to reconcile", error=error)

        self.entry = consumer.timer.call_repeatedly(every, ask)

    def stop(self, consumer: Any) -> None:
        """Ask no more."""
        if self.entry is not None:
            self.entry.cancel()
            self.entry = None


class DeadLetters(bootsteps.StartStopStep):
    """Makes the queue to which RabbitMQ sends the messages that it gives up; without it they would be dropped."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, consumer: Any) -> bool:
        """Redis knows no such thing."""
        return bool(consumer.app.connection_for_write().transport.driver_type == "amqp")

    def start(self, consumer: Any) -> None:
        """Declare it; that it exists already changes nothing."""
        with consumer.connection.channel() as channel:
            declare_dead_letters(channel)


app.steps["consumer"].update((ReconcileTimer, DeadLetters))
