"""Addresses of services: in the form a client wants, and in a form that may be shown."""

import re
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.tls import Tls, split_tls

__all__ = ["cache_kind", "celery_address", "redacted", "redis_client_url", "sqlalchemy_url"]

_CELERY_SOCKET = "redis+socket://"
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_POSTGRES_SCHEMES = ("postgres://", "postgresql://")
_PSYCOPG = "postgresql+psycopg://"
_NEXT_ADDRESS = re.compile(r";(?=[\w+.-]+://)")  # Celery takes several brokers in one address
_SECRET_PARAMETER = re.compile(r"([?&][\w-]*(?:password|passwd|pwd|secret|token|key)=)[^&#;]*", re.IGNORECASE)


def redis_client_url(url: str) -> str:
    """The address of a Redis as redis-py wants it; Celery has a form of its own for Unix sockets.

    `redis+socket://PATH?virtual_host=N` becomes `unix://PATH?db=N`; redis:// and unix:// stay as they are; rediss://
    says that the certificate is verified, unless it says otherwise.

    Raises:
        ConfigurationError: the address is not one of a Redis, or its TLS parameters are wrong.
    """
    if url.startswith(_REDIS_SCHEMES):
        plain, tls = split_tls(url)
        return plain if tls is None else f"{plain}{'&' if '?' in plain else '?'}{tls.for_redis_url()}"
    if not url.startswith(_CELERY_SOCKET):
        raise ConfigurationError(
            f"{redacted(url)!r} is not the address of a Redis; allowed are redis://…, rediss://…, "
            "unix://… and redis+socket://…"
        )
    place, _, query = url.removeprefix(_CELERY_SOCKET).partition("?")
    parameters = [("db" if key == "virtual_host" else key, value) for key, value in parse_qsl(query)]
    return f"unix://{place}" + (f"?{urlencode(parameters)}" if parameters else "")


def celery_address(url: str) -> tuple[str, dict[str, Any] | None]:
    """An address of a Redis or RabbitMQ as Celery wants it, and its `use_ssl` options; None: without TLS.

    Left to itself, Celery takes any certificate from a Redis, and from RabbitMQ one for any name.

    Raises:
        ConfigurationError: the TLS parameters are wrong, or several brokers in one address differ in them.
    """
    parts = [split_tls(part) for part in _NEXT_ADDRESS.split(url)]
    plain = ";".join(address for address, _ in parts)
    tls = parts[0][1]
    if any(other != tls for _, other in parts):
        raise ConfigurationError(f"the brokers of {redacted(url)!r} differ in TLS: give all the same parameters")
    if tls is None:
        return plain, None
    if plain.startswith("rediss://"):
        return plain, tls.for_redis()
    return plain, tls.for_amqp(_only_host(plain, tls))


def _only_host(url: str, tls: Tls) -> str | None:
    """The name to verify. Celery hands one to all brokers of an address."""
    try:
        names = {urlsplit(part).hostname for part in _NEXT_ADDRESS.split(url)}
    except ValueError as error:  # brackets without an IPv6 address in them
        raise ConfigurationError(f"the address {redacted(url)!r} cannot be read: {error}") from error
    if len(names) > 1 and tls.check_hostname:
        raise ConfigurationError(
            f"the brokers of {redacted(url)!r} have several names, of which only one could be verified: give one name "
            "that leads to all of them and stands in their certificates, or ssl_check_hostname=false"
        )
    return names.pop()


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
