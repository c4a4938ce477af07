"""Flower's page /metrics with docmill's metrics beside its own."""

from __future__ import annotations

import asyncio
from typing import Any

import flower.urls
import prometheus_client
from flower.views import BaseHandler

from orchestrator.settings import Settings
from workers.metrics.ledger import LedgerCollector

__all__ = ["add_metrics"]


class Metrics(BaseHandler):  # type: ignore[misc]  # Flower carries no types
    """In place of Flower's own page: the ledger is asked in a thread, so that a slow one does not stop Flower."""

    async def get(self) -> None:
        """All metrics of this process."""
        self.application.purge_offline_worker_metrics()
        found = await asyncio.get_running_loop().run_in_executor(None, prometheus_client.generate_latest)
        self.set_header("Content-Type", prometheus_client.CONTENT_TYPE_LATEST)
        self.write(found)


def add_metrics(settings: Settings) -> None:
    """Before Flower starts: put docmill's metrics on its page."""
    prometheus_client.REGISTRY.register(LedgerCollector(settings))
    handlers: list[Any] = flower.urls.handlers
    handlers.insert(0, (r"/metrics", Metrics))
