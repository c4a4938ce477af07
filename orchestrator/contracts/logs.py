"""Logs: one form for the lines of docmill, of Celery and of every other library, and what may stand in none of them.

Lines of ours are written by structlog, and become records of Python's logging under `orchestrator` and `workers`. In
somebody's own program they go where that program's records go. In docmill's programs one handler writes all records,
whoever made them, to stderr; and it is there that this is held:

- No text of documents: an error is shown by its class and place, and by its message only where that speaks of a
  service or of a setting; the failures table has it whole. Libraries, which may log what they are handed, are heard
  from WARNING on.
- No secret: addresses are shown without their passwords.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias, cast

from orchestrator.contracts.addresses import redacted
from orchestrator.contracts.errors import (
    CollectionNotFound,
    ConfigurationError,
    DocmillError,
    JobNotFound,
    PayloadError,
    ServiceUnreachable,
    TokenBudgetExceeded,
)

if TYPE_CHECKING:
    import structlog

__all__ = ["LineFormatter", "LogFormat", "LogLevel", "configure_logging", "get_logger", "shown_error"]

LogFormat: TypeAlias = Literal["auto", "console", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

_OURS = ("orchestrator", "workers")
_CHILDREN = "multiprocessing"  # billiard's, by which children that die are mourned; it hands nothing to the root
# A line or two for each task: what they have to say of it, docmill says itself. They are let in on `debug`.
_CELERYS = ("celery", "kombu", "amqp", "flower", _CHILDREN)
_LONGEST = 1000  # characters of one value: enough for a reason, too little for a document
_DEEPEST = 20  # frames of a traceback
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://\S+")
# Of ours, those whose messages hold nothing that comes out of a document.
_PLAIN_ERRORS = (
    CollectionNotFound,
    ConfigurationError,
    JobNotFound,
    PayloadError,
    ServiceUnreachable,
    TokenBudgetExceeded,
)
# Of others', those that say why a service does not answer, or a worker died. Named: to import them would be dear.
_OTHERS = frozenset({"amqp", "billiard", "kombu", "psycopg", "redis", "sqlalchemy"})
_OTHERS_ERRORS = frozenset(
    {
        "ChannelError",
        "ConnectionError",
        "ContentDisallowed",
        "InterfaceError",
        "OperationalError",
        "TimeLimitExceeded",
        "TimeoutError",
        "WorkerLostError",
    }
)
_BOUND = ("job", "batch", "attempt", "document")  # by whoever works on one, to all lines of the meantime
_EVENT = "docmill"  # the attribute of a record that holds a line of ours as its fields
_CELERYS_TASK = "data"  # the same of Celery's lines about the end of a task

_Fields: TypeAlias = MutableMapping[str, Any]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `_log.warning("what happened", job=job_id, error=error)`.

    An error is handed over as it is; what of it may be shown is decided where the line is written.
    """
    return cast("structlog.stdlib.BoundLogger", _LoggerToBe(name))


class _LoggerToBe:
    """A logger that is made for its first line: structlog, and rich with it, are 5 MB in programs that write none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        return getattr(self._logger, method)

    @cached_property
    def _logger(self) -> structlog.stdlib.BoundLogger:
        import structlog

        logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
            logging.getLogger(self._name),
            processors=[structlog.stdlib.filter_by_level, _as_record],
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )
        return logger


def configure_logging(form: LogFormat, level: LogLevel) -> None:
    """Write the records of this process to stderr; again is in place of before. For docmill's own programs.

    Args:
        form: json: an object a line; console: for people; auto: for people where stderr is a terminal.
        level: the least that is written of docmill's own lines. Others are heard from `warning` on; Celery's from
            `debug` on if that is the level.
    """
    least = logging.getLevelName(level.upper())
    quiet = max(least, logging.WARNING)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler(form, least, quiet)
    root.addHandler(handler)
    root.setLevel(quiet)
    logging.captureWarnings(True)
    children = logging.getLogger(_CHILDREN)
    children.handlers = [handler]
    children.propagate = False
    for names, threshold in ((_OURS, least), (_CELERYS, least if least <= logging.DEBUG else quiet)):
        for name in names:
            logging.getLogger(name).setLevel(threshold)


def shown_error(error: BaseException) -> str:
    """An error as a log may show it: its class, then what it says, or else where it was raised."""
    name = type(error).__name__
    says = _what_it_says(error)
    if says is None:
        last = traceback.extract_tb(error.__traceback__, limit=-1)
        return f"{name} at {_place(last[0])}" if last else name
    return f"{name}: {says}"


def _what_it_says(error: BaseException) -> str | None:
    """Its message, as far as nothing of a document can be in it."""
    if isinstance(error, DocmillError):
        return error.summary or (str(error) if isinstance(error, _PLAIN_ERRORS) else None)
    kind = type(error)
    is_plain = (
        any(base.__module__.partition(".")[0] in _OTHERS and base.__name__ in _OTHERS_ERRORS for base in kind.__mro__)
        or (isinstance(error, OSError) and kind.__module__ in ("builtins", "socket", "ssl"))
        or kind.__name__ == "DatabaseError"  # itself: a file that is none; those derived from it speak of values
    )
    # The first line: statements and their values come after it.
    return str(error).strip().partition("\n")[0] if is_plain else None


def _place(frame: traceback.FrameSummary) -> str:
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} in {frame.name}"


def _as_record(logger: Any, method: str, event: _Fields) -> tuple[tuple[str], dict[str, Any]]:
    """A line of ours as a record: text for whoever reads records, and the fields for our own handler."""
    exc_info = event.pop("exc_info", None)
    shown = [str(event["event"]), *(f"{name}={_shown(value)}" for name, value in event.items() if name != "event")]
    return (" ".join(shown),), {"extra": {_EVENT: event}, "exc_info": exc_info}


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is at the moment, what may be written, in one form."""

    def __init__(self, form: LogFormat, level: int, quiet: int) -> None:
        logging.Handler.__init__(self, level)
        self._form = form
        self._quiet = quiet

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # an attribute there
        return sys.stderr

    def filter(self, record: logging.LogRecord) -> bool:
        """Hold the levels here as well: libraries set those of their loggers themselves, when told by a variable."""
        return record.levelno >= self._quiet or record.name.partition(".")[0] in _OURS + _CELERYS

    def format(self, record: logging.LogRecord) -> str:
        if self.formatter is None:
            self.formatter = LineFormatter(self._form, is_terminal=self.stream.isatty())
        return self.formatter.format(record)


class LineFormatter(logging.Formatter):
    """Any record as a line: its fields, those that are bound where it was made, and nothing that may not be shown."""

    def __init__(self, form: LogFormat, *, is_terminal: bool) -> None:
        import structlog

        super().__init__()
        self._bound = structlog.contextvars.get_contextvars
        self._render: Any = structlog.processors.JSONRenderer()
        if form == "console" or (form == "auto" and is_terminal):
            self._render = structlog.dev.ConsoleRenderer(colors=is_terminal)

    def format(self, record: logging.LogRecord) -> str:
        bound = self._bound()
        fields = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": "",  # here in the line
            **{name: bound[name] for name in _BOUND if name in bound},
            **_fields(record),
        }
        line = self._render(None, record.levelname, {name: _shown(value) for name, value in fields.items()})
        return str(line)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says: `event`, and whatever else."""
    ours = getattr(record, _EVENT, None)
    task = getattr(record, _CELERYS_TASK, None)
    if isinstance(ours, Mapping):
        fields = dict(ours)
    elif record.name == "celery.app.trace" and isinstance(task, Mapping):  # its text holds results and messages whole
        how = task.get("description") or ("succeeded" if "return_value" in task else "ended")
        fields = {"event": f"task {how}", "task": task.get("name"), "task_id": task.get("id")}
    else:
        fields = {"event": _message(record)}
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        error = getattr(error, "exc", error)  # of a child's, which comes wrapped with its traceback as text
        fields.setdefault("error", error)
        frames = traceback.extract_tb(error.__traceback__, limit=-_DEEPEST)
        fields |= {"traceback": [_place(frame) for frame in frames]} if frames else {}
    return fields


def _message(record: logging.LogRecord) -> str:
    """The text of somebody else's record; an error in it is shown as everywhere."""
    message, arguments = record.msg, record.args
    if isinstance(message, BaseException):
        return shown_error(message)
    if isinstance(arguments, Mapping):
        arguments = {name: _harmless(value) for name, value in arguments.items()}
    elif arguments:
        arguments = tuple(_harmless(value) for value in arguments)
    try:
        return str(message) % arguments if arguments else str(message)
    except (TypeError, ValueError, KeyError):
        return str(message)


def _harmless(value: Any) -> Any:
    return shown_error(value) if isinstance(value, BaseException) else value


def _shown(value: Any) -> Any:
    """A value as it may be shown."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        value = shown_error(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return {str(name): _shown(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(item) for item in value]
    text = _ADDRESS.sub(lambda found: redacted(found[0]), str(value).strip())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
