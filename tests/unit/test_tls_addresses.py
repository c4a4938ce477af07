"""TLS in addresses: the same words for Redis and RabbitMQ, and a certificate that is verified unless they say no."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from orchestrator.contracts.addresses import celery_address, redis_client_url
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.queues import celery_config
from orchestrator.settings import load_settings

REDIS = "rediss://user:secret@host:6380/1"
RABBITMQ = "amqps://user:secret@host:5671/vhost"


@pytest.mark.parametrize(
    ("query", "redis", "amqp"),
    [
        (
            "",
            {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True},
            {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "host"},
        ),
        (
            "?ssl_check_hostname=false",
            {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": False},
            {"cert_reqs": ssl.CERT_REQUIRED},
        ),
        (
            "?ssl_cert_reqs=none",
            {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False},
            {"cert_reqs": ssl.CERT_NONE},
        ),
        (
            "?ssl_cert_reqs=CERT_REQUIRED",
            {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True},
            {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "host"},
        ),
    ],
)
def test_a_certificate_is_verified_unless_a_word_says_no(
    query: str, redis: dict[str, Any], amqp: dict[str, Any]
) -> None:
    """Without a parameter the CA and the name are verified; each is switched off by its own word, in both servers."""
    assert celery_address(REDIS + query) == (REDIS, redis)
    assert celery_address(RABBITMQ + query) == (RABBITMQ, amqp)


def test_files_reach_every_client(tmp_path: Path) -> None:
    """The CA's file and the client's certificate and key go to redis-py, to Celery's Redis and to RabbitMQ."""
    files = {name: str(tmp_path / f"{name} &.pem") for name in ("ca_certs", "certfile", "keyfile")}
    for path in files.values():
        Path(path).touch()
    query = "&".join(f"ssl_{name}={path.replace(' ', '%20').replace('&', '%26')}" for name, path in files.items())
    assert files.items() <= (celery_address(f"{RABBITMQ}?{query}&heartbeat=5")[1] or {}).items()
    assert celery_address(f"{RABBITMQ}?{query}&heartbeat=5")[0] == f"{RABBITMQ}?heartbeat=5"
    for_redis = celery_address(f"{REDIS}?{query}")[1] or {}
    assert {name: for_redis[f"ssl_{name}"] for name in files} == files
    client = Redis.from_url(redis_client_url(f"{REDIS}?{query}"))
    read = client.connection_pool.connection_kwargs
    assert {name: read[f"ssl_{name}"] for name in files} == files
    assert (read["ssl_cert_reqs"], read["password"], read["db"]) == ("required", "secret", 1)


def test_client_and_workers_are_configured_alike() -> None:
    """Celery gets the options for broker and results apart from the addresses; without TLS it gets none."""
    config = celery_config(RABBITMQ, f"{REDIS}?ssl_cert_reqs=none")
    assert config["broker_use_ssl"]["server_hostname"] == "host"
    assert config["redis_backend_use_ssl"]["ssl_cert_reqs"] is ssl.CERT_NONE
    plain = celery_config("redis://host/0", "redis://host/1")
    assert not plain["broker_use_ssl"]
    assert not plain["redis_backend_use_ssl"]


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        (f"{REDIS}?ssl_cert_reqs=maybe", "ssl_cert_reqs='maybe' is not one of required"),
        (f"{REDIS}?ssl_check_hostname=", "ssl_check_hostname='' is not one of true"),
        (f"{RABBITMQ}?ssl_ca_cert=/ca.pem", "unknown parameter 'ssl_ca_cert'; for TLS there are ssl_ca_certs"),
        (f"{RABBITMQ}?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs='/nowhere/ca.pem' is not a file that can be read"),
        (f"{REDIS}?ssl_keyfile={__file__}", "ssl_keyfile is given without ssl_certfile"),
        ("redis://user:secret@host?ssl_cert_reqs=required", "redis://, which has no TLS; write rediss://"),
        ("amqp://user:secret@host?ssl=true", "amqp://, which has no TLS"),
        ("amqps://u:secret@one;amqps://u:secret@two", "several names, of which only one could be verified"),
        (f"{RABBITMQ};{RABBITMQ}?ssl_cert_reqs=none", "differ in TLS"),
    ],
)
def test_what_could_be_misread_is_refused(address: str, complaint: str) -> None:
    """A parameter that is unknown, wrong or out of place is an error of the settings, without the password."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(database_url="sqlite:///x", broker_url=address, result_url=REDIS)
    assert complaint in str(caught.value)
    assert "DOCMILL_BROKER_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_brokers_of_one_name_may_be_several() -> None:
    """Several brokers that share a name, or whose names are not verified, may stand in one address."""
    assert celery_address("amqps://host:1;amqps://host:2")[1] == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "host",
    }
    lax = "?ssl_check_hostname=false"
    assert celery_address(f"amqps://one{lax};amqps://two{lax}") == (
        "amqps://one;amqps://two",
        {"cert_reqs": ssl.CERT_REQUIRED},
    )
