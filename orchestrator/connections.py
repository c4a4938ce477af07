"""Connections: what a client of the ledger and the queue talks to. The libraries are loaded at first use."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.addresses import redacted, redis_client_url
from orchestrator.contracts.errors import ServiceUnreachable
from orchestrator.contracts.queues import celery_config
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from redis import Redis
    from sqlalchemy import Engine

__all__ = ["Connections"]


class Connections:
    """The ledger's engine, a Celery app to send with, and the Redis of the results; each made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def engine(self) -> Engine:
        """The ledger's engine."""
        from orchestrator.ledger.engine import create_ledger_engine

        return create_ledger_engine(self.settings.ledger_url, connect_timeout=self.settings.connect_timeout)

    @cached_property
    def app(self) -> Any:
        """A Celery app that only sends."""
        from celery import Celery

        app = Celery("docmill", set_as_current=False)
        app.conf.update(
            celery_config(
                self.settings.broker_url or "",
                self.settings.results_redis_url,
                connect_timeout=self.settings.connect_timeout,
                time_limit=self.settings.time_limit,
            )
        )
        return app

    @cached_property
    def redis(self) -> Redis:
        """The Redis that holds the results of running jobs, and tells waiters."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis.from_url(
            redis_client_url(self.settings.results_redis_url),
            socket_connect_timeout=self.settings.connect_timeout,
            socket_timeout=15,
            health_check_interval=25,
            retry=Retry(NoBackoff(), 1),  # once, for a connection that was closed while idle
        )

    def check(self) -> None:
        """Connect to the database and to the broker, before anything is promised.

        Raises:
            ServiceUnreachable: one of them does not answer; names its address.
            ConfigurationError: the ledger's schema is not at the level of this release.
        """
        from orchestrator.ledger.migrate import require_current

        require_current(self.engine)
        self.check_broker()

    def check_broker(self) -> None:
        """Connect to the broker.

        Raises:
            ServiceUnreachable: it does not answer, or not to us; names its address.
        """
        from kombu.exceptions import OperationalError

        connection = self.app.connection_for_write()
        try:
            with connection:
                # A server that takes the connection and says nothing is as good as none.
                patience = {"socket_timeout": self.settings.connect_timeout}
                connection.transport_options = {**connection.transport_options, **patience}
                connection.ensure_connection(
                    max_retries=1, timeout=self.settings.connect_timeout, reraise_as_library_errors=True
                )
        except (OperationalError, OSError, *connection.channel_errors) as error:  # RabbitMQ's "login was refused"
            raise ServiceUnreachable("broker", redacted(self.settings.broker_url or ""), str(error)) from error

    def close(self) -> None:
        """Let go of what was opened."""
        for name in ("engine", "redis", "app"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.dispose() if name == "engine" else opened.close()
