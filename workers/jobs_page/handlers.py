"""The requests: two pages, the data they ask for again and again, and the controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from flower.views import BaseHandler
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, authenticated

from orchestrator.contracts.errors import DocmillError, EmptySource, JobNotFound
from orchestrator.contracts.logs import get_logger
from orchestrator.contracts.prices import Price
from orchestrator.contracts.report import TERMINAL_JOB_STATES, BatchState, JobState
from orchestrator.ledger import jobs, retries
from orchestrator.ledger.batches import OPEN_STATES
from orchestrator.ledger.failures import failures_of
from orchestrator.ledger.listing import SORTS, batches_page, job_line, jobs_page
from orchestrator.ledger.stages import stages, throughput
from workers.jobs_page import shown
from workers.jobs_page.controls import Controls, refusal, user_of
from workers.jobs_page.flower_tasks import tasks_of_batches
from workers.jobs_page.ledger_reader import LedgerReader

__all__ = ["Assets", "Control", "FailuresData", "JobData", "JobPage", "JobsData", "JobsPage"]

_log = get_logger(__name__)
_Answer = TypeVar("_Answer")

PAGE_SIZES = (25, 50, 100)
_LAST_PAGE = 1_000_000
_JOB_STATES = {
    "active": [state for state in JobState if state not in TERMINAL_JOB_STATES],
    **{state.value: [state] for state in JobState},
}
_BATCH_STATES = {"open": list(OPEN_STATES), **{state.value: [state] for state in BatchState}}


class _Handler(BaseHandler):  # type: ignore[misc]  # Flower carries no types
    """What pages and data have in common."""

    def initialize(self, ledger: LedgerReader, controls: Controls | None, prices: Sequence[Price]) -> None:
        self.ledger = ledger
        self.controls = controls
        self.prices = prices

    async def asked(self, question: Callable[[Connection], _Answer]) -> _Answer:
        """The ledger's answer.

        Raises:
            HTTPError: 404, there is no such job; 503, the ledger does not answer, and why.
        """
        try:
            return await self.ledger.ask(question)
        except (DocmillError, SQLAlchemyError) as error:
            raise _http_error(error) from error


class JobsPage(_Handler):
    """The page with all jobs."""

    @authenticated
    def get(self) -> None:
        """The page, without data: that follows."""
        self.render("jobs.html", page_sizes=PAGE_SIZES)


class JobPage(_Handler):
    """The page of one job."""

    @authenticated
    async def get(self, job_id: str) -> None:
        """The page, without data. A ledger that is away is told of on the page, which tries again."""
        try:
            await self.ledger.ask(lambda connection: jobs.get(connection, job_id))
        except JobNotFound as error:
            raise HTTPError(HTTPStatus.NOT_FOUND, str(error)) from error
        except (DocmillError, SQLAlchemyError):
            _log.warning("the ledger was not asked for a job", job=job_id)
        self.render(
            "job.html", job_id=job_id, refusal=refusal(self, self.controls), batch_states=[*BatchState], page_sizes=()
        )


class _Data(_Handler):
    """Answers in JSON, errors too."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """The reason, for the page to show."""
        if status_code == HTTPStatus.UNAUTHORIZED:
            super().write_error(status_code, **kwargs)  # lets the browser ask for the password
            return
        error = kwargs.get("exc_info", (None, None))[1]
        message = error.get_message() if isinstance(error, HTTPError) else ""
        self.finish({"error": message or HTTPStatus(status_code).phrase})

    def set_default_headers(self) -> None:
        """Data of a moment is not kept."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def choice(self, name: str, allowed: Any, default: str) -> str:
        """An argument that is one of a few words; what is none of them is refused."""
        value = str(self.get_argument(name, default, escape=False) or default)
        if value not in allowed:
            raise HTTPError(
                HTTPStatus.BAD_REQUEST, f"{name}={value[:100]!r} is not known: allowed are {', '.join(allowed)}"
            )
        return value

    def number(self, name: str, default: int, most: int) -> int:
        """An argument that is a number from 0 on."""
        value = str(self.get_argument(name, str(default), escape=False))
        if not (value.isascii() and value.isdecimal() and len(value) < 10 and int(value) <= most):
            raise HTTPError(
                HTTPStatus.BAD_REQUEST, f"{name}={value[:100]!r} is no number of a page: allowed are 0 to {most}"
            )
        return int(value)

    def slice_(self) -> dict[str, int]:
        """The page that is asked for, as limit and offset."""
        size = int(self.choice("size", [str(size) for size in PAGE_SIZES], str(PAGE_SIZES[0])))
        return {"limit": size, "offset": size * self.number("page", 0, _LAST_PAGE)}


class JobsData(_Data):
    """The jobs of one page of the list."""

    @authenticated
    async def get(self) -> None:
        """Filter, sort and page are arguments."""
        state = self.choice("state", ["all", *_JOB_STATES], "all")
        sort = self.choice("sort", SORTS, "created")
        order = self.choice("order", ("desc", "asc"), "desc")
        text = str(self.get_argument("text", "", escape=False) or "")[:200].replace("\x00", "")
        part = self.slice_()
        found = await self.asked(
            lambda connection: jobs_page(
                connection,
                states=_JOB_STATES.get(state, ()),
                text=text,
                sort=sort,
                descending=order == "desc",
                **part,
            )
        )
        self.write(
            {
                "jobs": [shown.job(line, self.prices) for line in found.lines],
                "total": found.total,
                "states": dict(found.states),
            }
        )


class JobData(_Data):
    """One job: its numbers, stages, throughput, spec, and a page of its batches."""

    @authenticated
    async def get(self, job_id: str) -> None:
        """The page of the batches and their state are arguments."""
        state = self.choice("state", ["all", *_BATCH_STATES], "all")
        states = _BATCH_STATES.get(state, [])
        part = self.slice_()

        def question(connection: Connection) -> tuple[dict[str, Any], list[dict[str, Any]]]:
            row = jobs.get(connection, job_id)
            line = job_line(connection, job_id)
            when = (line.created_at, line.ended_at)
            data = {
                "job": shown.job(line, self.prices) | shown.details(row, line),
                "stages": shown.stages(stages(connection, job_id, *when)),
                "throughput": shown.throughput(throughput(connection, job_id, *when)),
                "batches_total": sum(count for of, count in line.batches.items() if not states or of in states),
            }
            return data, [shown.batch(found) for found in batches_page(connection, job_id, states=states, **part)]

        data, lines = await self.asked(question)
        tasks = tasks_of_batches(self.application.events.state, job_id, [line["number"] for line in lines])
        self.write(data | {"batches": [line | {"task": tasks.get(line["number"])} for line in lines]})


class FailuresData(_Data):
    """A page of a job's failures, and what can be done about them."""

    @authenticated
    async def get(self, job_id: str) -> None:
        """The page is an argument. Those that were resolved are not in it."""
        part = self.slice_()

        def question(connection: Connection) -> dict[str, Any]:
            jobs.get(connection, job_id)
            left = retries.remainder(connection, job_id)
            found = failures_of(connection, job_id, include_resolved=False, **part)
            return {
                "failures": [shown.failure(row) for row in found],
                "total": left.kept + left.not_kept,
                "kept": left.kept,
                "not_kept": left.not_kept,
                "dropped": left.dropped,
            }

        self.write(await self.asked(question))


class Control(_Data):
    """Does something to a job."""

    def check_xsrf_cookie(self) -> None:
        """Always with the token of the page: Flower's own check lets basic authentication by, which browsers repeat."""
        super().check_xsrf_cookie()
        RequestHandler.check_xsrf_cookie(self)

    @authenticated
    async def post(self, job_id: str, action: str) -> None:
        """Do it, and say what was done."""
        reason = refusal(self, self.controls)
        if reason or self.controls is None:
            raise HTTPError(HTTPStatus.FORBIDDEN, reason)
        try:
            message, job = await self.controls.run(action, job_id, user_of(self))
        except (DocmillError, SQLAlchemyError, OSError) as error:
            raise _http_error(error) from error
        self.write({"message": message, "job": job})


class Assets(StaticFileHandler):
    """Scripts and styles; asked for again after an upgrade, and answered with "not modified" else."""

    def set_extra_headers(self, path: str) -> None:
        """Let no copy grow old."""
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")


def _http_error(error: Exception) -> HTTPError:
    """What went wrong, in HTTP's words."""
    if isinstance(error, JobNotFound):
        return HTTPError(HTTPStatus.NOT_FOUND, str(error))
    if isinstance(error, EmptySource):
        return HTTPError(HTTPStatus.CONFLICT, str(error))
    _log.warning("the ledger was not asked for jobs", error=error)
    if isinstance(error, DocmillError):
        return HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    kind = type(getattr(error, "orig", None) or error).__name__
    return HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, f"the ledger does not answer: {kind}; `docmill doctor` says more")
