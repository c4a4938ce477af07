"""What comes over the wire is checked, and what is secret stays where it belongs."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError
from sqlalchemy import func, literal_column, select

from orchestrator import Document, JobState
from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.messages import COMMIT, FINISH, TRANSFORM
from orchestrator.contracts.spec import COLLECTION_PATTERN
from orchestrator.ledger.engine import begin
from orchestrator.ledger.tables import metadata
from orchestrator.settings import load_settings
from tests.deployment import Deployment, wait_for
from tests.services import Services

pytestmark = pytest.mark.acceptance

DOCUMENTS = [Document(id=f"doc{number}", text=f"Text number {number}. " * 50) for number in range(10)]


def test_task_arguments_that_make_no_sense_are_refused(deployment: Deployment) -> None:
    """Messages with wrong arguments, unknown jobs or another form fail by themselves, and the next job runs."""
    worker = deployment.start_worker()
    send = deployment.connections.app.send_task
    for task, arguments in (
        (TRANSFORM, {"job": "../../etc", "batch": 0}),
        (TRANSFORM, {"job": "0123456789ab", "batch": -1}),
        (TRANSFORM, {"job": "0123456789ab", "batch": 0, "path": "/etc/passwd"}),
        (TRANSFORM, {"job": "0123456789ab", "batch": 0}),
        (COMMIT, {"job": "0123456789ab", "batches": []}),
        (COMMIT, {"job": "0123456789ab", "batches": ["0; DROP TABLE jobs"]}),
        (FINISH, {}),
    ):
        send(task, kwargs=arguments, ignore_result=True)
    report = deployment.wait(deployment.pipeline("after").enqueue(DOCUMENTS))
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, 10)
    assert worker.process.poll() is None


def test_pickle_is_not_taken(deployment: Deployment) -> None:
    """A pickled message is refused before it is opened, and the worker goes on."""
    worker = deployment.start_worker()
    deployment.connections.app.send_task(
        TRANSFORM, kwargs={"job": "0123456789ab", "batch": 0}, serializer="pickle", ignore_result=True
    )
    wait_for(lambda: "pickle" in worker.log.read_text(errors="replace"))
    assert deployment.wait(deployment.pipeline("unpickled").enqueue(DOCUMENTS)).state is JobState.SUCCEEDED


def test_secrets_stay_out_of_sight(
    deploy: Callable[..., Deployment], services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker's password is in no log, no repr and no row of the ledger, and its user can do no more than work.

    One document fails, so that there is a failure to look into as well.
    """
    caplog.set_level(logging.DEBUG)
    password = "hunter2secret"  # noqa: S105 - the test's own
    admin: Any = Redis.from_url(redis_client_url(services.redis.url(0)))
    rules = ["on", f">{password}", "~docmill:*", "&*", "+@all", "-@admin", "-@dangerous", "+info"]
    admin.execute_command("ACL", "SETUSER", "docmill", *rules)
    socket, _, database = services.redis.url(0).removeprefix("redis+socket://").partition("?")
    url = f"redis+socket://docmill:{password}@{socket}?{database}"
    deployment = deploy(broker_url=url)
    worker = deployment.start_worker(concurrency=2)
    job = deployment.pipeline("secret").enqueue([*DOCUMENTS, Document(id="empty", text=" ")])
    assert deployment.wait(job).state is JobState.SUCCEEDED_WITH_FAILURES
    with begin(deployment.connections.engine) as connection:
        for table in metadata.tables.values():
            row = func.to_jsonb(literal_column(table.name))
            shown = "".join(str(found) for found in connection.execute(select(row).select_from(table)).scalars())
            assert shown or table.name != "failures"
            assert password not in shown
    worker.stop()
    shown = worker.log.read_text(errors="replace") + caplog.text + repr(deployment.settings)
    assert "docmill" in shown
    assert password not in shown
    client: Any = Redis.from_url(redis_client_url(url))
    with pytest.raises(NoPermissionError):
        client.execute_command("CONFIG", "GET", "*")
    admin.execute_command("ACL", "DELUSER", "docmill")


def test_settings_show_no_password() -> None:
    """A printed settings object has its addresses, without the passwords in them."""
    settings = load_settings(
        database_url="postgresql://u:first-secret@localhost/x", broker_url="rediss://:second-secret@localhost/0"
    )
    assert "localhost" in repr(settings)
    assert "secret" not in repr(settings)
    assert "secret" not in str(settings)


def test_sql_in_names_is_no_sql(deployment: Deployment) -> None:
    """Ids with quotes and SQL in them are ids like any other; the name of a collection becomes one of a table."""
    ids = {"'; DROP TABLE documents; --", '"; DELETE FROM jobs; --', "%s :id {0} $1 \\", "' OR '1'='1"}
    deployment.start_worker()
    report = deployment.wait(deployment.pipeline("quotes").enqueue(Document(id=id, text=f"Of {id}.") for id in ids))
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, 4)
    assert deployment.documents("quotes") == ids == {document for document, _ in deployment.nodes("quotes")}
    harmful = deployment.pipeline("x'; DROP TABLE jobs; --")
    assert re.fullmatch(COLLECTION_PATTERN, harmful.spec.collection)
    assert deployment.wait(harmful.enqueue(DOCUMENTS)).documents.new == len(DOCUMENTS)
