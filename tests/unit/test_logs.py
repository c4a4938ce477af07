"""What may stand in a log line, whoever writes it: never a text of a document, never a password, never very much."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest
from kombu.exceptions import ContentDisallowed
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from sqlalchemy.exc import DataError, OperationalError
from structlog.contextvars import bound_contextvars

from orchestrator.contracts.errors import ConfigurationError, DocumentError, ServiceUnreachable, TransientError
from orchestrator.contracts.logs import LineFormatter, configure_logging, get_logger, shown_error

TEXT = "the patient said"
_log = get_logger("workers.unit")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The levels and handlers of this process, whatever a test makes of them."""
    names = ("", "orchestrator", "workers", "celery", "kombu", "amqp", "flower", "multiprocessing")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def _raised(error: Exception) -> Exception:
    """The error with a traceback, as whoever catches it has it."""
    try:
        raise error
    except type(error) as caught:
        return caught


def _line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ServiceUnreachable("broker", "redis://u:***@host", "refused"), "broker at redis://u:***@host cannot be"),
        (ConfigurationError("chunk_size 0 is too small"), "ConfigurationError: chunk_size 0 is too small"),
        (RedisConnectionError("Error 111 connecting to host:6379."), "ConnectionError: Error 111 connecting to host"),
        (OperationalError("INSERT", {"text": TEXT}, Exception("server closed")), "OperationalError: (builtins.Exc"),
        (ContentDisallowed("Refusing to deserialize pickle"), "ContentDisallowed: Refusing to deserialize pickle"),
        (FileNotFoundError(2, "No such file", "/a/b"), "FileNotFoundError: [Errno 2] No such file: '/a/b'"),
        (DocumentError("parse", f"cannot read {TEXT}"), "DocumentError at tests/unit/test_logs.py:"),
        (TransientError(f"refused: {TEXT}"), "TransientError at tests/unit/test_logs.py:"),
        (ResponseError(f"unknown command with args {TEXT}"), "ResponseError at tests/unit/test_logs.py:"),
        (DataError("INSERT", {"text": TEXT}, Exception(TEXT)), "DataError at tests/unit/test_logs.py:"),
        (ValueError(TEXT), "ValueError at tests/unit/test_logs.py:"),
    ],
)
def test_an_error_says_only_what_no_document_is_in(error: Exception, shown: str) -> None:
    """Errors about services and settings say why; of all others the class and the place are shown."""
    found = shown_error(_raised(error))
    assert shown in found
    assert TEXT not in found
    assert "\n" not in found


def test_an_error_with_a_summary_shows_that() -> None:
    """Where a message repeats a server's words, its summary stands in the log."""
    error = TransientError(f"http://host answered 429 for 'm': {TEXT}")
    error.summary = "http://host answered 429 for 'm'"
    assert shown_error(error) == "TransientError: http://host answered 429 for 'm'"


def test_a_line_of_ours_has_its_fields_and_what_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has time, level, logger, event, the bound job, batch, attempt and document, and the fields of the line."""
    configure_logging("json", "info")
    with bound_contextvars(job="0123456789ab", batch=7, attempt=2, document="a.txt"):
        _log.warning("batch failed", error=_raised(ValueError(TEXT)), documents=3)
    found = _line(capsys)
    assert list(found)[:8] == ["timestamp", "level", "logger", "event", "job", "batch", "attempt", "document"]
    assert (found["level"], found["logger"], found["event"]) == ("warning", "workers.unit", "batch failed")
    assert (found["job"], found["batch"], found["documents"]) == ("0123456789ab", 7, 3)
    assert str(found["error"]).startswith("ValueError at ")
    assert str(found["timestamp"]).endswith("+00:00")


def test_values_are_bounded_and_without_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    """An address loses its password wherever it stands in a value; long values are cut, bytes only counted."""
    configure_logging("json", "info")
    _log.info(
        "connected to amqp://u:geheim1@host//",
        reason="of redis://:geheim2@h/0, postgresql://h/x?password=geheim3",
        nested={"urls": ["redis://u:geh@eim4@h"]},
        long="x" * 5000,
        body=TEXT.encode(),
    )
    found = _line(capsys)
    assert "geh" not in str(found)
    assert found["event"] == "connected to amqp://u:***@host//"
    assert len(str(found["long"])) == 1001
    assert found["body"] == f"{len(TEXT)} bytes"


def test_the_end_of_a_task_is_shown_without_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    """Celery's lines about tasks take the same way: neither result nor message nor traceback text is in them."""
    configure_logging("json", "debug")
    celery = logging.getLogger("celery.app.trace")
    data = {"id": "1-2", "name": "docmill.transform", "return_value": TEXT, "runtime": 0.1, "args": "()"}
    celery.info("Task %(name)s[%(id)s] succeeded: %(return_value)s", data, extra={"data": data})
    found = _line(capsys)
    assert (found["event"], found["task"], found["task_id"]) == ("task succeeded", "docmill.transform", "1-2")
    data = {"id": "1-2", "name": "docmill.commit", "description": "raised unexpected", "exc": TEXT, "traceback": TEXT}
    try:
        raise ValueError(TEXT)
    except ValueError:
        celery.error("Task %(name)s %(description)s: %(exc)s", data, extra={"data": data}, exc_info=sys.exc_info())
    found = _line(capsys)
    assert found["event"] == "task raised unexpected"
    assert str(found["error"]).startswith("ValueError at ")
    assert str(found["traceback"]).count("test_logs.py") == 1
    assert TEXT not in str(found)


def test_an_error_among_the_arguments_of_anybody_is_shown_as_ours_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Other libraries hand errors to their loggers as arguments or as the message itself: the text stays out."""
    configure_logging("json", "info")
    logging.getLogger("library").warning("cannot do %s: %r", "it", _raised(ValueError(TEXT)))
    assert str(_line(capsys)["event"]).startswith("cannot do it: 'ValueError at ")
    logging.getLogger("library").error(_raised(ValueError(TEXT)))
    assert str(_line(capsys)["event"]).startswith("ValueError at ")
    wrong = logging.makeLogRecord({"msg": "number %d", "args": (_raised(ValueError(TEXT)),)})
    assert json.loads(LineFormatter("json", is_terminal=False).format(wrong))["event"] == "number %d"


def test_libraries_are_heard_from_warning_on_whatever_they_set(capsys: pytest.CaptureFixture[str]) -> None:
    """A library that is told to log what it sends, by a variable of its own, is not written even at level debug."""
    configure_logging("json", "debug")
    library = logging.getLogger("openai._base_client")
    library.setLevel(logging.DEBUG)
    library.debug("Request options: %s", {"input": TEXT})
    library.info("HTTP Request")
    assert capsys.readouterr().err == ""
    library.setLevel(logging.NOTSET)


@pytest.mark.parametrize(("level", "heard"), [("debug", 4), ("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_is_for_our_lines_and_celerys_chatter_is_for_debug(
    capsys: pytest.CaptureFixture[str], level: str, heard: int
) -> None:
    """Ours are written from the level on; Celery's information, a line or two a task, on debug alone."""
    configure_logging("json", level)  # type: ignore[arg-type]  # one of the levels
    _log.debug("one")
    _log.info("two")
    _log.warning("three")
    logging.getLogger("celery.worker.strategy").info("Task %s received", "four")
    assert len(capsys.readouterr().err.splitlines()) == heard


def test_console_is_for_people_and_configuring_again_is_in_place_of_before(capsys: pytest.CaptureFixture[str]) -> None:
    """The console form is one readable line without colours where it is no terminal; no line is written twice."""
    configure_logging("json", "info")
    configure_logging("console", "info")
    _log.warning("batch failed", batch=7)
    (line,) = capsys.readouterr().err.splitlines()
    assert "[warning" in line
    assert "batch failed" in line
    assert "batch=7" in line
    assert "\x1b" not in line


def test_in_somebodys_program_a_line_is_a_record_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    """Without our handler a line goes where the program's records go, with its fields readable in the message."""
    with caplog.at_level(logging.INFO, logger="workers"):
        _log.warning("publishing failed", job="0123456789ab", error=_raised(ValueError(TEXT)))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("workers.unit", logging.WARNING)
    assert record.getMessage().startswith("publishing failed job=0123456789ab error=ValueError at tests/unit/")
