"""Addresses in the form a client wants, and in one that may be shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.addresses import redacted, redis_client_url
from orchestrator.contracts.errors import ConfigurationError


@pytest.mark.parametrize(
    ("celery", "client"),
    [
        ("redis+socket:///run/redis.sock?virtual_host=1", "unix:///run/redis.sock?db=1"),
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+socket://:secret@/run/redis.sock?virtual_host=0", "unix://:secret@/run/redis.sock?db=0"),
        ("redis+socket:///run/a%20b.sock?virtual_host=2&protocol=3", "unix:///run/a%20b.sock?db=2&protocol=3"),
    ],
)
def test_celery_socket_address_becomes_one_of_redis_py(celery: str, client: str) -> None:
    """Celery's address of a Unix socket becomes redis-py's, with its database and its password."""
    assert redis_client_url(celery) == client


@pytest.mark.parametrize("url", ["redis://:p@host:6379/0", "rediss://host/1?ssl_cert_reqs=required", "unix:///s?db=1"])
def test_addresses_that_redis_py_knows_stay(url: str) -> None:
    """An address that redis-py understands is not touched."""
    assert redis_client_url(url) == url


def test_address_of_something_else_is_refused_without_its_password() -> None:
    """The address of a RabbitMQ is refused, and the message does not give its password away."""
    with pytest.raises(ConfigurationError, match="not the address of a Redis") as caught:
        redis_client_url("amqp://user:secret@host//")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql+psycopg://user:secret@host/db", "postgresql+psycopg://user:***@host/db"),
        ("postgresql+psycopg://postgres@/docmill?host=/run", "postgresql+psycopg://postgres@/docmill?host=/run"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis+socket:///run/redis.sock?virtual_host=1", "redis+socket:///run/redis.sock?virtual_host=1"),
        ("amqp://u:one@a//;amqp://u:two@b//", "amqp://u:***@a//;amqp://u:***@b//"),
        ("unix:///s?db=0&password=secret", "unix:///s?db=0&password=***"),
        ("user:secret@host", "user:***@host"),
        ("redis://:se/cr@et?#@host/0", "redis://:***@host/0"),
        ("http://[", "http://["),
        ("", ""),
    ],
)
def test_password_is_hidden_and_the_rest_is_shown(url: str, shown: str) -> None:
    """Stars stand where a password was; an address without one is shown as it is."""
    assert redacted(url) == shown


@given(password=st.text(min_size=1).filter(lambda text: "://" not in text))
def test_no_password_is_shown_whatever_is_in_it(password: str) -> None:
    """A password is hidden as a whole, even one that should have been quoted and was not."""
    assert redacted(f"redis://user:{password}@host/0") == "redis://user:***@host/0"


@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    """Redacting never fails, whatever the text."""
    assert isinstance(redacted(text), str)
