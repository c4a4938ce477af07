"""Addresses of services: in the form a client wants, and in a form that may be shown."""

import re
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from orchestrator.contracts.errors import ConfigurationError

__all__ = ["cache_kind", "redacted", "redis_client_url", "sqlalchemy_url"]

_CELERY_SOCKET = "redis+socket://"
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_POSTGRES_SCHEMES = ("postgres://", "postgresql://")
_PSYCOPG = "postgresql+psycopg://"
_NEXT_ADDRESS = re.compile(r";(?=[\w+.-]+://)")  # Celery takes several brokers in one address
_SECRET_PARAMETER = re.compile(r"([?&][\w-]*(?:password|passwd|pwd|secret|token|key)=)[^&#;]*", re.IGNORECASE)


def redis_client_url(url: str) -> str:
    """The address of a Redis as redis-py wants it; Celery has a form of its own for Unix sockets.

    `redis+socket://PATH?virtual_host=N` becomes `unix://PATH?db=N`; redis://, rediss:// and unix:// stay as they are.

    Raises:
        ConfigurationError: the address is not one of a Redis.
    """
    if url.startswith(_REDIS_SCHEMES):
        return url
    if not url.startswith(_CELERY_SOCKET):
        raise ConfigurationError(
            f"{redacted(url)!r} is not the address of a Redis; allowed are redis://…, rediss://…, "
            "unix://… and redis+socket://…"
        )
    place, _, query = url.removeprefix(_CELERY_SOCKET).partition("?")
    parameters = [("db" if key == "virtual_host" else key, value) for key, value in parse_qsl(query)]
    return f"unix://{place}" + (f"?{urlencode(parameters)}" if parameters else "")


def sqlalchemy_url(url: str) -> str:
    """The address of a database with the driver that is installed: however Postgres' is written, it names psycopg."""
    for scheme in _POSTGRES_SCHEMES:
        if url.startswith(scheme):
            return _PSYCOPG + url.removeprefix(scheme)
    return url


def cache_kind(url: str) -> Literal["memory", "redis", "sql"]:
    """What kind of cache is at an address.

    Raises:
        ConfigurationError: none could be there.
    """
    if url == "memory://":
        return "memory"
    if url.startswith((*_REDIS_SCHEMES, _CELERY_SOCKET)):
        return "redis"
    if url.startswith((*_POSTGRES_SCHEMES, _PSYCOPG)) or url.removeprefix("sqlite:///") not in (url, "", ":memory:"):
        return "sql"
    raise ConfigurationError(
        f"{redacted(url)!r} is not the address of a cache; allowed are redis://…, rediss://…, unix://…, "
        "redis+socket://…, postgresql://…, sqlite:///PATH and memory://"
    )


def redacted(url: str) -> str:
    """The address without its password: `***` stands where one was. Never raises, whatever the text.

    Where it is unclear how far the password goes, more is hidden rather than less.
    """
    return ";".join(_redacted_one(part) for part in _NEXT_ADDRESS.split(url))


def _redacted_one(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    # The last @ of all: a password with / ? # or @ in it, unquoted, is wrong but no less secret.
    login, at, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    shown = f"{user}:***{at}{place}" if password else rest
    return scheme + separator + _SECRET_PARAMETER.sub(r"\1***", shown)
