"""Puts the Jobs tab and its pages into Flower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flower.urls
from tornado.web import url

from orchestrator.settings import Settings
from workers.jobs_page.controls import ACTIONS, Controls
from workers.jobs_page.handlers import Assets, Control, FailuresData, JobData, JobPage, JobsData, JobsPage
from workers.jobs_page.ledger_reader import LedgerReader
from workers.jobs_page.templates import JobsTemplates

__all__ = ["add_jobs_page"]

_STATIC = Path(__file__).parent / "static"
_JOB = r"([0-9a-f]{12})"  # what is no id is no page either


def add_jobs_page(settings: Settings, controls: Controls | None) -> None:
    """Before Flower starts: add the pages, and the tab to all of Flower's.

    Args:
        controls: what the pages may do to jobs; None: nothing.
    """
    page = {"ledger": LedgerReader(settings), "controls": controls, "prices": settings.prices}
    handlers: list[Any] = flower.urls.handlers
    # As url(): Flower drops the arguments of plain tuples when it has a prefix.
    handlers[:0] = [
        url(r"/jobs", JobsPage, page, name="jobs"),
        url(r"/jobs/data", JobsData, page),
        url(r"/jobs/static/(.+)", Assets, {"path": str(_STATIC)}, name="jobs_static"),
        url(rf"/job/{_JOB}", JobPage, page, name="job"),
        url(rf"/job/{_JOB}/data", JobData, page),
        url(rf"/job/{_JOB}/failures", FailuresData, page),
        url(rf"/job/{_JOB}/({'|'.join(ACTIONS)})", Control, page),
    ]
    flower.urls.settings["template_loader"] = JobsTemplates(flower.urls.settings["template_path"])
