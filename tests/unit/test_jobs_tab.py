"""Parts of the Jobs tab that need no service: which task ran a batch, and the tab in Flower's navigation bar."""

from pathlib import Path
from types import SimpleNamespace

import flower.urls

from tests.logs import captured_logs
from workers.jobs_page.flower_tasks import tasks_of_batches
from workers.jobs_page.templates import JobsTemplates

JOB, OTHER = "0123456789ab", "ba9876543210"


def _state(**tasks: tuple[str | None, float | None]) -> SimpleNamespace:
    """Flower's events: {id: (arguments as shown, when it was last heard of)}."""
    found = {id: SimpleNamespace(args=args, timestamp=at) for id, (args, at) in tasks.items()}
    return SimpleNamespace(tasks=SimpleNamespace(data=found))


def test_the_latest_task_of_a_batch_is_found() -> None:
    """Of a batch that was sent twice the later task counts; numbers that begin alike, and other jobs, do not."""
    state = _state(
        first=(f"job={JOB} batch=1 docs=3", 5.0),
        again=(f"job={JOB} batch=1 docs=3", 9.0),
        old=(f"job={JOB} batch=1 docs=3", 1.0),
        tenth=(f"job={JOB} batch=10 docs=3", None),
        other=(f"job={OTHER} batch=2 docs=3", 9.0),
        commit=(f"job={JOB} segment=8 batches", 9.0),
        unknown=(None, None),
    )
    assert tasks_of_batches(state, JOB, [1, 2, 10]) == {1: "again", 10: "tenth"}
    assert tasks_of_batches(state, JOB, []) == {}


def test_the_tab_comes_behind_flowers_own() -> None:
    """Flower's navigation bar has our tab once, as the last on the left."""
    loader = JobsTemplates(flower.urls.settings["template_path"])
    code = loader.load("navbar.html").code
    assert code.count(">Jobs</a>") == 1
    assert code.index(">Broker</a>") < code.index(">Jobs</a>") < code.index("Select theme")


def test_a_navigation_bar_that_is_made_otherwise_stays_as_it_is(tmp_path: Path) -> None:
    """A Flower whose bar has no list still works, and its log says where the jobs are."""
    (tmp_path / "navbar.html").write_text("<nav>Flower</nav>")
    with captured_logs() as logs:
        assert JobsTemplates(str(tmp_path)).load("navbar.html").generate() == b"<nav>Flower</nav>"
    assert "/jobs" in logs[0]["event"]
