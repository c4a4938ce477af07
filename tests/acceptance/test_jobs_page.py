"""The Jobs tab in a real browser: jobs are found, followed to their end, cancelled and retried, without a reload.

Screenshots of every state lie in tests/acceptance/screenshots afterwards.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from orchestrator import Document
from orchestrator.contracts.report import TERMINAL_JOB_STATES, BatchState, JobState
from orchestrator.ledger.clock import now
from orchestrator.ledger.failures import Failure, record
from orchestrator.ledger.payments import Cost, Payment
from tests.deployment import Deployment
from tests.flower import FlowerServer
from tests.ledgers import Ledger, pipeline_spec
from tests.services import missing
from tests.transformations import Held, Slow, Unready

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

SCREENSHOTS = Path(__file__).parent / "screenshots"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"
FLOWERS_COLOURS = ("page-eyebrow", "task-state-filter")  # its own classes, whose green is paler than it should be
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, as Debian has it."""
    program = shutil.which("chromium") or missing("chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        # Root has no sandbox.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = playwright.chromium.launch(executable_path=program, args=[*options, "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def flower(staffed: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowerServer]:
    """A Flower with a login, which has seen the worker's tasks from the first on."""
    server = FlowerServer(staffed.settings, tmp_path_factory.mktemp("flower"))
    yield server
    server.close()


@pytest.fixture
def page(browser: Browser, flower: FlowerServer) -> Iterator[Page]:
    """A page of a logged-in reader. No script may fail, and no document's text may become one."""
    context = browser.new_context(
        http_credentials={"username": flower.USER, "password": flower.PASSWORD},
        viewport={"width": 1280, "height": 900},
        base_url=flower.url,
        color_scheme="light",
    )
    found = context.new_page()
    errors: list[str] = []
    found.on("pageerror", lambda error: errors.append(str(error)))
    yield found
    assert errors == []
    assert "hacked" not in found.title()
    context.close()


@pytest.fixture
def ledger(staffed: Deployment) -> Ledger:
    """The deployment's ledger."""
    return Ledger(staffed.connections.engine)


def take(page: Page, name: str, *, in_passing: bool = False) -> None:
    """Keep screenshots of both themes, wide and narrow; in each nothing must be wrong for those who cannot see it.

    Args:
        in_passing: a state that looks like others; one screenshot of each theme will do.
    """
    SCREENSHOTS.mkdir(exist_ok=True)
    looks: list[tuple[Literal["light", "dark"], tuple[int, int]]] = [("light", (1280, 400)), ("dark", (400, 1280))]
    for theme, widths in looks:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for width in widths[:1] if in_passing else widths:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (theme, width)
            page.evaluate(PAINTED)
            page.screenshot(path=SCREENSHOTS / f"{name}-{theme}-{width}.png", full_page=True)
        if theme == "dark" or not in_passing:
            found = trouble(page)
            assert not found, "\n".join([theme, *found])
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")


def trouble(page: Page) -> list[str]:
    """What axe finds wrong with what is ours of the page."""
    found = Axe().run(page, context="#main-content").response["violations"]
    nodes = [(rule["id"], node["html"], node["failureSummary"]) for rule in found for node in rule["nodes"]]
    return [
        f"{rule}: {html}: {summary}"
        for rule, html, summary in nodes
        if not (rule == "color-contrast" and any(name in html for name in FLOWERS_COLOURS))
    ]


def corpus(count: int, name: str = "doc", word: str = "honey") -> list[Document]:
    return [Document(id=f"{name}{number}", text=f"Text {number} of {word}. " * 60) for number in range(count)]


def rows(page: Page) -> list[str]:
    """Ids of the jobs that are listed."""
    return page.locator("#jobs-body .job-id").all_inner_texts()


def open_page(page: Page, path: str) -> None:
    """Go there; a mark on the window tells later that it was not reloaded."""
    page.goto(path)
    page.evaluate("window.isTheSame = true")


def is_same(page: Page) -> bool:
    return bool(page.evaluate("window.isTheSame === true"))


def test_without_jobs_the_list_says_what_makes_one(page: Page, ledger: Ledger) -> None:
    """While jobs are loaded the page says so, and where there are none it names the command.

    An error is shown until the next answer.
    """
    ledger.empty()
    held: list[Route] = []
    page.route("**/jobs/data*", lambda route: route.abort() if held else held.append(route))
    open_page(page, "/workers")
    page.get_by_role("link", name="Jobs").click()
    expect(page.locator("#jobs-message")).to_have_text("Loading jobs…")
    take(page, "jobs-loading", in_passing=True)
    held[0].abort()
    expect(page.get_by_role("alert")).to_contain_text("Flower does not answer")
    expect(page.locator("#jobs-message")).to_have_text("The jobs could not be loaded.")
    take(page, "jobs-error", in_passing=True)
    page.unroute("**/jobs/data*")
    expect(page.locator("#jobs-message")).to_contain_text("docmill ingest FOLDER")
    expect(page.get_by_role("alert")).to_be_hidden()
    take(page, "jobs-empty", in_passing=True)


def test_jobs_are_filtered_sorted_and_paged(page: Page, ledger: Ledger) -> None:
    """Filter, search, sort and page change what is listed, stand in the address, and can be used by keyboard alone."""
    ledger.empty()
    make_history(ledger)
    open_page(page, "/jobs")
    expect(page.locator("#jobs-range")).to_have_text("Showing 1 to 25 of 30 jobs")
    newest = rows(page)
    page.get_by_role("button", name="Next").press("Enter")
    expect(page.locator("#jobs-range")).to_have_text("Showing 26 to 30 of 30 jobs")
    assert not set(rows(page)) & set(newest)
    failed = page.get_by_role("button", name="Failed 6")
    failed.click()
    expect(page.locator("#jobs-range")).to_have_text("Showing 1 to 6 of 6 jobs")
    expect(failed).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#announcement")).to_have_text("Showing 1 to 6 of 6 jobs")
    page.get_by_role("button", name="All").click()
    page.get_by_role("searchbox").fill("handbook-7")
    expect(page.locator("#jobs-range")).to_have_text("Showing 1 to 1 of 1 jobs")
    assert "text=handbook-7" in page.url
    page.reload()
    expect(page.locator("#jobs-range")).to_have_text("Showing 1 to 1 of 1 jobs")
    page.get_by_role("searchbox").fill("no such collection")
    expect(page.locator("#jobs-message")).to_contain_text("No job matches")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Nodes").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("columnheader", name="Nodes")).to_have_attribute("aria-sort", "descending")
    expect(page.locator("#jobs-body tr").first).to_contain_text("handbook-29")
    page.keyboard.press("Space")
    expect(page.get_by_role("columnheader", name="Nodes")).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("#jobs-body tr").first).to_contain_text("handbook-0")
    assert page.evaluate("document.activeElement.dataset.sort") == "nodes"
    page.get_by_role("button", name="Age").click()
    expect(page.locator("#jobs-body tr").first).to_contain_text("handbook-29")
    page.get_by_role("link", name="handbook-29").focus()
    ledger.job(pipeline_spec("newer"), state=JobState.FAILED)
    expect(page.locator("#jobs-body tr").first).to_contain_text("newer")
    assert page.evaluate("document.activeElement.textContent") == "handbook-29"
    take(page, "jobs")


def make_history(ledger: Ledger) -> None:
    """Thirty jobs in all states that nobody changes; the later, the more they did."""
    states = [JobState.RUNNING, *TERMINAL_JOB_STATES]
    for number in range(30):
        job = ledger.job(pipeline_spec(f"handbook-{number}")).id
        state = states[number % len(states)]
        ledger.batches(job, 3)
        ledger.transformed(job, 0, 1, cost=Cost([Payment("small", "embed", True, embedding=900 * number)], 3, number))
        ledger.leased(job, 2)
        ledger.age_batch(job, 2, "heartbeat_at", -3600)  # so that the deployment's worker does not take it
        for batch in range(2 if state is JobState.RUNNING else 3):
            ledger.change_batch(
                job, batch, state=BatchState.COMMITTED, documents_new=2, nodes_upserted=40 * number, finished_at=now(-1)
            )
        ended = None if state is JobState.RUNNING else now()
        ledger.change_job(job, state=state, seen=6 + number, unchanged=number, finished_at=ended, started_by="ann@mill")
        if state is JobState.SUCCEEDED_WITH_FAILURES:
            ledger.call(record, job, [Failure("a", "parse", "ParseError", "no text")])
            ledger.change_job(job, failed=1)


def test_a_running_job_is_followed_to_its_end(page: Page, staffed: Deployment, tmp_path: Path) -> None:
    """The page of a job shows its batches as they end, without a reload; its batches link to Flower's tasks."""
    mark = tmp_path / "mark"
    documents = [*corpus(20), *corpus(1, "stop", "a document that is held"), *corpus(20, "more")]
    job = staffed.pipeline("followed", Slow(seconds=0.03), Held(mark=str(mark))).enqueue(documents)
    open_page(page, "/jobs")
    page.get_by_role("link", name="followed").click()
    page.evaluate("window.isTheSame = true")
    expect(page.locator("#job-state")).to_have_text("running")
    bar = page.get_by_role("progressbar")
    expect(bar).not_to_have_attribute("aria-valuenow", "0")
    expect(page.locator("#metric-eta")).to_contain_text("left")
    take(page, "job-running", in_passing=True)
    mark.touch()
    expect(page.locator("#job-state")).to_have_text("succeeded")
    expect(page.locator("#announcement")).to_have_text("The job is now succeeded")
    assert is_same(page)
    report = staffed.wait(job)
    expect(page.locator("#metric-documents")).to_have_text("41 / 41")
    expect(page.locator("#metric-nodes")).to_have_text(f"{report.nodes.upserted:,}")
    assert bar.get_attribute("aria-valuenow") == str(report.batches.total)
    expect(page.locator("#throughput-text")).to_contain_text("documents a second")
    expect(page.locator("#stages-body tr")).to_have_count(4)
    expect(page.locator("#spec")).to_contain_text("test_slow")
    take(page, "job-succeeded")
    page.get_by_role("link", name="Task of batch 0").click()
    expect(page.locator("#task-page")).to_contain_text(f"job={job.id} batch=0")


def test_a_job_is_paused_and_cancelled_by_keyboard(page: Page, staffed: Deployment) -> None:
    """Pause and resume are one key; cancelling asks first, and keeps the job unless it is meant."""
    job = staffed.pipeline("stopped", Slow(seconds=0.2)).enqueue(corpus(200))
    open_page(page, f"/job/{job.id}")
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#job-state")).to_contain_text("paused")
    page.get_by_role("button", name="Resume").press("Enter")
    expect(page.locator("#job-state")).not_to_contain_text("paused")
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / "job-cancel.png")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#job-state")).to_have_text("running")
    page.get_by_role("button", name="Cancel").press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#job-state")).to_have_text("cancelled")
    expect(page.locator("#job-result")).to_contain_text(job.id)
    expect(page.locator("#job-result")).to_be_focused()
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    assert is_same(page)
    assert job.state is JobState.CANCELLED


def test_a_failure_is_read_and_retried(page: Page, staffed: Deployment, tmp_path: Path) -> None:
    """A failure has its traceback, ids and messages are text whatever is in them, and a retry leads to its new job."""
    mark = tmp_path / "mark"
    documents = [*corpus(4), Document(id=HOSTILE, text="Of poison and <script>alert(1)</script>. " * 40)]
    job = staffed.pipeline("retried", Unready(mark=str(mark))).enqueue(documents)
    staffed.wait(job)
    open_page(page, f"/job/{job.id}")
    expect(page.locator("#job-state")).to_have_text("with failures")
    failure = page.locator("#failures-body article")
    expect(failure).to_contain_text(HOSTILE)
    expect(failure).to_contain_text("not ready for poison")
    failure.get_by_text("Traceback", exact=True).press("Enter")
    expect(failure.locator("pre")).to_contain_text("RuntimeError: not ready for poison")
    take(page, "job-failures")
    mark.touch()
    page.get_by_role("button", name="Retry 1 failed").click()
    expect(page.locator("#job-result")).to_contain_text("tried again in job")
    page.get_by_role("link", name="Follow it").click()
    expect(page.locator("#job-state")).to_have_text("succeeded")
    expect(page.locator("#details")).to_contain_text(f"{FlowerServer.USER} (Flower)")
    page.goto(f"/job/{job.id}")
    expect(page.locator("#failures-message")).to_contain_text("ingested since")
    assert re.search(r"\d+ new", page.locator("#details").inner_text())
