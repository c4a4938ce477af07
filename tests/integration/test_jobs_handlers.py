"""The Jobs tab in a real Flower: who may see and do what, what is refused, and what is said when the ledger is away."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.web import create_signed_value

from orchestrator.contracts.report import JobState
from orchestrator.ledger.listing import SORTS
from orchestrator.settings import Settings, load_settings
from tests.flower import FlowerServer
from tests.ledgers import Ledger
from workers.jobs_page.controls import Controls, refusal

pytestmark = pytest.mark.integration

UNKNOWN = "0123456789ab"


@pytest.fixture(scope="module")
def settings(postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a deployment without workers."""
    return load_settings(database_url=postgres_url, broker_url=redis_url, home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def flower(
    migrated_ledger: Ledger, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlowerServer]:
    """A Flower with a login."""
    server = FlowerServer(settings, tmp_path_factory.mktemp("flower"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def read_only(
    migrated_ledger: Ledger, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlowerServer]:
    """A Flower with a login that changes nothing, below a prefix."""
    options = {"FLOWER_READ_ONLY": "true", "FLOWER_URL_PREFIX": "watch"}
    server = FlowerServer(settings, tmp_path_factory.mktemp("flower"), options)
    yield server
    server.close()


@pytest.fixture(scope="module")
def watching(
    migrated_ledger: Ledger, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlowerServer]:
    """A Flower that is not started by `docmill flower`, without a login, and with its API open."""
    options = {"FLOWER_UNAUTHENTICATED_API": "true"}
    folder = tmp_path_factory.mktemp("flower")
    server = FlowerServer(settings, folder, options, module="workers.flower", has_login=False)
    yield server
    server.close()


@pytest.fixture(scope="module")
def without_ledger(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowerServer]:
    """A Flower without a login, whose ledger is away."""
    away = settings.model_copy(update={"database_url": "postgresql+psycopg://me:hidden@127.0.0.1:1/none"})
    server = FlowerServer(away, tmp_path_factory.mktemp("flower"), has_login=False)
    yield server
    server.close()


def _error(answer: Any) -> str:
    return str(json.loads(answer.text)["error"])


def test_all_of_it_is_behind_the_login(flower: FlowerServer, ledger: Ledger) -> None:
    """Pages, data and controls are refused to whoever is not logged in, and the browser is told to ask."""
    job = ledger.job().id
    for path in ("/jobs", "/jobs/data", f"/job/{job}", f"/job/{job}/data", f"/job/{job}/failures"):
        refused = flower.ask(path, logs_in=False)
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="flower"'), path
        assert flower.ask(path).status == 200, path
    assert flower.ask(f"/job/{job}/cancel", method="POST", logs_in=False, with_token=True).status == 401
    assert ledger.job_row(job)["state"] == JobState.ENQUEUING


def test_the_tab_is_on_flowers_own_pages(flower: FlowerServer, read_only: FlowerServer, ledger: Ledger) -> None:
    """Every page of Flower links to the jobs, also below a prefix, and on ours the tab is the active one."""
    for server, prefix in ((flower, ""), (read_only, "/watch")):
        for path in ("/workers", "/tasks", "/broker", "/jobs"):
            page = server.ask(path).text
            assert f'href="{prefix}/jobs"' in page, path
            assert ('aria-current="page">Jobs' in page) == (path == "/jobs")
        assert json.loads(server.ask("/jobs/data").text)["total"] == 0
        for asset in ("live.js", "jobs.css"):
            assert f"{prefix}/jobs/static/{asset}" in server.ask("/jobs").text
            assert server.ask(f"/jobs/static/{asset}").status == 200


def test_a_control_needs_the_token_of_the_page(flower: FlowerServer, ledger: Ledger) -> None:
    """A request that another site makes a logged-in browser send lacks the token, and changes nothing."""
    job = ledger.job().id
    refused = flower.ask(f"/job/{job}/cancel", method="POST")
    assert (refused.status, "_xsrf" in _error(refused)) == (403, True)
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert flower.ask(f"/job/{job}/cancel", method="POST", with_token=True, headers=elsewhere).status == 403
    assert ledger.job_row(job)["state"] == JobState.ENQUEUING


def test_jobs_are_controlled(flower: FlowerServer, ledger: Ledger) -> None:
    """Pause, resume and cancel do what they say, say what they did, and doing so again is no error."""
    job = ledger.job(state=JobState.RUNNING).id
    ledger.batches(job, 1)

    def do(action: str) -> str:
        answer = flower.ask(f"/job/{job}/{action}", method="POST", with_token=True)
        assert answer.status == 200, answer.text
        return str(json.loads(answer.text)["message"])

    assert "is paused" in do("pause")
    assert ledger.job_row(job)["paused"]
    assert "goes on" in do("resume")
    assert not ledger.job_row(job)["paused"]
    assert "has ended: cancelled" in do("cancel")
    assert "has ended: cancelled" in do("cancel")
    assert ledger.job_row(job)["state"] == JobState.CANCELLED
    assert f"job={job}" in flower.log.read_text() or job in flower.log.read_text()
    nothing = flower.ask(f"/job/{job}/retry", method="POST", with_token=True)
    assert (nothing.status, "no failed document" in _error(nothing)) == (409, True)


def test_a_login_by_another_site_counts_as_well(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    """With OAuth whoever is not logged in is sent to the login; who is controls jobs, with the page's token alone."""
    secret = "known-to-the-tests"  # noqa: S105 - the test's own
    options = {
        "FLOWER_AUTH": ".*@mill.example",
        "FLOWER_AUTH_PROVIDER": "flower.views.auth.GithubLoginHandler",
        "FLOWER_COOKIE_SECRET": secret,
    }
    job = ledger.job().id
    server = FlowerServer(settings, tmp_path, options, has_login=False)
    try:
        sent_away = server.ask("/jobs/data")
        assert (sent_away.status, sent_away.headers["Location"].partition("?")[0]) == (302, "/login")
        assert server.ask(f"/job/{job}/pause", method="POST", with_token=True).status == 403
        for user, status in (("eve@elsewhere.example", 403), ("ann@mill.example", 200)):
            cookie = {"Cookie": f"user={create_signed_value(secret, 'user', user).decode()}"}
            assert server.ask(f"/job/{job}/pause", method="POST", headers=cookie).status == 403  # no token
            assert not ledger.job_row(job)["paused"]
            assert server.ask(f"/job/{job}/pause", method="POST", headers=cookie, with_token=True).status == status
        assert ledger.job_row(job)["paused"]
        assert "ann@mill.example" in server.log.read_text()
    finally:
        server.close()


def test_read_only_controls_nothing(read_only: FlowerServer, ledger: Ledger) -> None:
    """In Flower's read-only mode a control is refused with the reason, which the page says beforehand."""
    job = ledger.job().id
    for action in ("cancel", "pause", "resume", "retry"):
        refused = read_only.ask(f"/job/{job}/{action}", method="POST", with_token=True)
        assert (refused.status, "read-only" in _error(refused)) == (403, True)
    assert ledger.job_row(job)["state"] == JobState.ENQUEUING
    assert "read-only" in read_only.ask(f"/job/{job}").text


def test_flower_of_the_workers_room_only_watches(watching: FlowerServer, ledger: Ledger) -> None:
    """`python -m workers.flower` shows jobs, and says what would control them."""
    job = ledger.job().id
    assert json.loads(watching.ask(f"/job/{job}/data").text)["job"]["id"] == job
    refused = watching.ask(f"/job/{job}/cancel", method="POST", with_token=True)
    assert (refused.status, "`docmill flower`" in _error(refused)) == (403, True)


@pytest.mark.parametrize(
    ("read_only", "login", "api", "reason"),
    [
        (False, False, False, "need a login"),
        (False, False, True, None),
        (False, True, False, None),
        (True, True, True, "read-only"),
    ],
)
def test_who_may_control(read_only: bool, login: bool, api: bool, reason: str | None) -> None:
    """Without a login nobody controls jobs, unless Flower's API is open to all; read-only nobody does in any case."""
    options = SimpleNamespace(read_only=read_only, basic_auth=["a:b"] if login else None, auth="")
    handler = SimpleNamespace(application=SimpleNamespace(options=options), unauthenticated_api=api)
    said = refusal(handler, Controls({}))
    assert said is None if reason is None else reason in str(said)
    assert refusal(handler, None) is not None


def test_what_is_no_job_is_not_found(flower: FlowerServer, ledger: Ledger) -> None:
    """An unknown id and what is no id are a page that is not there, and no more than that is told."""
    for path in (f"/job/{UNKNOWN}", f"/job/{UNKNOWN}/data", f"/job/{UNKNOWN}/failures"):
        assert (flower.ask(path).status, UNKNOWN in flower.ask(path).text) == (404, True)
    assert flower.ask(f"/job/{UNKNOWN}/cancel", method="POST", with_token=True).status == 404
    for id in ("x", "0123456789AB", f"{UNKNOWN}0", "%27%3B--", "..%2F..%2Fetc", "<b>"):
        assert flower.ask(f"/job/{id.replace('<b>', '%3Cb%3E')}").status == 404
    assert flower.ask(f"/job/{UNKNOWN}/drop", method="POST", with_token=True).status in (404, 405)
    for path in ("/jobs/static/../handlers.py", "/jobs/static/..%2Fhandlers.py", "/jobs/static/none.js"):
        assert flower.ask(path).status in (403, 404)


@pytest.mark.parametrize(
    "query",
    [
        "sort=number;DROP%20TABLE%20jobs",
        "sort=spec",
        "order=desc,1",
        "state=running'--",
        "page=-1",
        "page=1e9",
        "page=99999999",
        "page=%D9%A1",
        "size=1000000",
    ],
)
def test_an_argument_that_is_not_known_is_refused(flower: FlowerServer, ledger: Ledger, query: str) -> None:
    """Sort, order, state and page are taken from a list; what is not in it is told with what is allowed."""
    refused = flower.ask(f"/jobs/data?{query}")
    assert (refused.status, "allowed are" in _error(refused)) == (400, True)
    assert flower.ask("/jobs/data").status == 200


def test_every_known_argument_is_taken(flower: FlowerServer, ledger: Ledger) -> None:
    """Each sort answers, and a search may hold any character."""
    job = ledger.job().id
    for sort in SORTS:
        assert flower.ask(f"/jobs/data?sort={sort}&order=asc&state=active&size=100").status == 200, sort
    assert json.loads(flower.ask("/jobs/data?text=%00%27%25%5C%F0%9F%8D%AF").text)["jobs"] == []
    assert [line["id"] for line in json.loads(flower.ask(f"/jobs/data?text={job[:6]}").text)["jobs"]] == [job]
    assert flower.ask(f"/job/{job}/data?state=open&page=3").status == 200


def test_a_ledger_that_is_away_is_told(without_ledger: FlowerServer) -> None:
    """Data say which database does not answer, without its password; pages come all the same, to try again."""
    for path in ("/jobs/data", f"/job/{UNKNOWN}/data", f"/job/{UNKNOWN}/failures"):
        answer = without_ledger.ask(path)
        assert (answer.status, "127.0.0.1:1" in _error(answer)) == (503, True)
        assert "hidden" not in answer.text
    for path in ("/jobs", f"/job/{UNKNOWN}", "/workers"):
        assert without_ledger.ask(path).status == 200
    refused = without_ledger.ask(f"/job/{UNKNOWN}/cancel", method="POST", with_token=True)
    assert (refused.status, "need a login" in _error(refused)) == (403, True)
