"""Settings: read when asked for, and every wrong value is an error that says how to put it right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.settings import Settings, load_settings, source_of

_DATABASE = "postgresql://host/db"
_BROKER = "redis://host:6379/0"


def test_defaults_are_the_embedded_stack() -> None:
    """Without a variable the embedded stack is used, and the defaults are consistent."""
    settings = load_settings()
    assert settings.is_embedded
    assert (settings.chunk_size, settings.chunk_overlap, settings.embedder) == (1024, 200, "wordllama")
    assert settings.home.is_absolute()


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("CHUNK_SIZE", "0", "greater than or equal to 1"),
        ("CHUNK_SIZE", "many", "valid integer"),
        ("CHUNK_OVERLAP", "-1", "greater than or equal to 0"),
        ("WINDOW", "1", "greater than or equal to 2"),
        ("SLICE_DOCUMENTS", "0", "greater than or equal to 1"),
        ("BATCH_BYTES", "0", "greater than or equal to 1"),
        ("MAX_DOCUMENT_BYTES", "-5", "greater than or equal to 1"),
        ("SEGMENT_BATCHES", "0", "greater than or equal to 1"),
        ("SEGMENT_BYTES", "0", "greater than or equal to 1"),
        ("MASS_DELETE_SHARE", "1.5", "less than or equal to 1"),
        ("MASS_DELETE_SHARE", "-0.1", "greater than or equal to 0"),
        ("HNSW_ROWS", "-1", "greater than or equal to 0"),
        ("HEARTBEAT", "0", "greater than 0"),
        ("STALE_AFTER", "nan", "greater than 0"),
        ("RECONCILE_EVERY", "0", "greater than 0"),
        ("MAX_ATTEMPTS", "0", "greater than or equal to 1"),
        ("MAX_RETRIES", "0", "greater than or equal to 1"),
        ("TIME_LIMIT", "0", "greater than 0"),
        ("CONNECT_TIMEOUT", "soon", "valid number"),
        ("LLM_CONCURRENCY", "0", "greater than or equal to 1"),
        ("LLM_TIMEOUT", "0", "greater than 0"),
        ("OPENAI_BASE_URL", "localhost:8000/v1", "begins with http:// or https://"),
        ("CACHE_TTL", "0", "greater than or equal to 1"),
        ("CACHE_BYTES", "0", "greater than or equal to 1"),
        ("CACHE_URL", "amqp://host//", "allowed are redis://"),
        ("CACHE_URL", "sqlite://", "sqlite:///PATH"),
    ],
)
def test_wrong_value_is_named_with_its_variable_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    """A value out of range is an error that names the variable, the value and what is allowed."""
    monkeypatch.setenv(f"DOCMILL_{variable}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert f"DOCMILL_{variable}='{value}'" in message
    assert allowed in message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"chunk_size": 64}, ["chunk_overlap 200", "smaller than chunk_size 64"]),
        ({"chunk_size": 200}, ["chunk_overlap 200", "chunk_size 200"]),
        ({"window": 10, "segment_batches": 6}, ["segment_batches 6", "half of window 10"]),
        ({"heartbeat": 6.0}, ["stale_after 15.0", "3 heartbeats of 6.0"]),
        ({"database_url": _DATABASE}, ["DOCMILL_BROKER_URL is not set", "DOCMILL_DATABASE_URL", "embedded"]),
        ({"broker_url": _BROKER}, ["DOCMILL_DATABASE_URL is not set", "embedded"]),
        ({"database_url": _DATABASE, "broker_url": "amqp://host//"}, ["DOCMILL_RESULT_URL must name a Redis"]),
        ({"chunksize": 64}, ["DOCMILL_CHUNKSIZE=64", "not permitted"]),
    ],
)
def test_values_that_do_not_fit_together_are_named(overrides: dict[str, object], words: list[str]) -> None:
    """Settings that contradict each other are an error that names both of them, and their values."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**overrides)
    for word in words:
        assert word in str(caught.value)


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wrong values are two complaints in one error."""
    monkeypatch.setenv("DOCMILL_WINDOW", "1")
    monkeypatch.setenv("DOCMILL_CHUNK_SIZE", "0")
    with pytest.raises(ConfigurationError, match=r"DOCMILL_CHUNK_SIZE.*; DOCMILL_WINDOW"):
        load_settings()


def test_password_is_not_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error about addresses does not give a password away."""
    monkeypatch.setenv("DOCMILL_DATABASE_URL", "postgresql://user:secret@host/db")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "secret" not in str(caught.value)


def test_environment_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable counts when the settings are asked for, and an argument goes before it."""
    assert load_settings().chunk_size == 1024
    monkeypatch.setenv("DOCMILL_CHUNK_SIZE", "512")
    assert load_settings().chunk_size == 512
    assert load_settings(chunk_size=300).chunk_size == 300
    monkeypatch.delenv("DOCMILL_CHUNK_SIZE")
    assert load_settings().chunk_size == 1024


def test_import_does_not_read_the_environment() -> None:
    """A wrong variable does not keep anything from being imported."""
    code = "import orchestrator, orchestrator.settings, orchestrator.pipeline, workers.app, workers.tasks"
    environment = {**os.environ, "DOCMILL_CHUNK_SIZE": "nonsense", "DOCMILL_MODULES": "no.such.module"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ()), ("a", ("a",)), (" a.b , c ,", ("a.b", "c")), (",", ())],
)
def test_modules_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: tuple[str, ...]
) -> None:
    """Modules are split at commas; blanks and empty parts do not count."""
    monkeypatch.setenv("DOCMILL_MODULES", value)
    assert load_settings().modules == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p@host/db", "postgresql+psycopg://u:p@host/db"),
        ("postgresql://host/db", "postgresql+psycopg://host/db"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg://host/db"),
        ("sqlite:///ledger.db", "sqlite:///ledger.db"),
    ],
)
def test_address_of_the_ledger_names_the_driver(given: str, expected: str) -> None:
    """The usual ways to write Postgres' address lead to the driver that is installed."""
    settings = load_settings(database_url=given, broker_url=_BROKER)
    assert settings.ledger_url == expected
    assert not settings.is_embedded


def test_results_and_cache_lie_where_the_broker_is_unless_said_otherwise() -> None:
    """The Redis of the broker serves for results and cache too; each can have its own."""
    one = load_settings(database_url=_DATABASE, broker_url=_BROKER)
    assert (one.results_redis_url, one.cache_address) == (_BROKER, _BROKER)
    two = load_settings(database_url=_DATABASE, broker_url="amqp://host//", result_url="redis://results")
    assert (two.results_redis_url, two.cache_address) == ("redis://results", "redis://results")
    three = load_settings(database_url=_DATABASE, broker_url=_BROKER, cache_url="redis://cache")
    assert three.cache_address == "redis://cache"


@pytest.mark.parametrize(
    "address",
    [
        "rediss://cache:6379/0",
        "redis+socket:///run/cache.sock?virtual_host=0",
        "unix:///run/cache.sock",
        "postgres://host/cache",
        "postgresql+psycopg://host/cache",
        "sqlite:////var/lib/cache.sqlite",
        "memory://",
    ],
)
def test_addresses_of_caches(address: str) -> None:
    """A cache may lie in a Redis, a database or memory, with the embedded stack as well."""
    settings = load_settings(cache_url=address)
    assert settings.is_embedded
    assert settings.cache_address == address


def test_settings_do_not_change() -> None:
    """Settings can be shared and be keys: nobody can change them."""
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.__setattr__("chunk_size", 7)
    assert hash(settings) == hash(load_settings())


def test_home_is_where_data_belongs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data lies in DOCMILL_HOME if it is set; else root's in /var/lib, and anybody else's where XDG says."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert load_settings().home == tmp_path / "docmill"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert load_settings().home == Path.home() / ".local" / "share" / "docmill"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load_settings().home == Path("/var/lib/docmill")
    monkeypatch.setenv("DOCMILL_HOME", str(tmp_path))
    assert load_settings().home == tmp_path


def test_every_variable_is_a_field() -> None:
    """The settings have no field that the environment cannot reach."""
    assert {name for name in Settings.model_fields if not name.isidentifier() or name != name.lower()} == set()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the program is started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_settings_may_stand_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docmill.toml in the current folder is read at each call; the environment overrules it, an argument both."""
    (folder / "docmill.toml").write_text('chunk_size = 512\nwindow = 64\nmodules = ["a", "b"]\n', encoding="utf-8")
    assert (load_settings().chunk_size, load_settings().window, load_settings().modules) == (512, 64, ("a", "b"))
    monkeypatch.setenv("DOCMILL_CHUNK_SIZE", "300")
    monkeypatch.setenv("DOCMILL_WINDOW", "32")
    settings = load_settings(window=16)
    assert (settings.chunk_size, settings.window) == (300, 16)
    assert [source_of(settings, name) for name in ("chunk_size", "modules", "embedder")] == [
        "environment",
        "docmill.toml",
        "default",
    ]


def test_the_file_may_lie_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCMILL_SETTINGS_FILE names the file to read, and no other is; tables in it are transformations."""
    (folder / "docmill.toml").write_text("chunk_size = 512\n", encoding="utf-8")
    (folder / "other.toml").write_text('[[transformations]]\nname = "embed"\nembedder = "hashed"\n', encoding="utf-8")
    monkeypatch.setenv("DOCMILL_SETTINGS_FILE", str(folder / "other.toml"))
    settings = load_settings()
    assert (settings.chunk_size, settings.transformations) == (1024, ({"name": "embed", "embedder": "hashed"},))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("chunk_size = 0\n", "docmill.toml: chunk_size=0: .*greater than or equal to 1"),
        ("chunks = 7\n", "docmill.toml: chunks=7: "),
        ("chunk_size = 64\n", "chunk_overlap 200 must be smaller than chunk_size 64"),
        ("num_output = 4000\n", "num_output 4000 must be smaller than context_window 3900"),
        ("transformations = []\n", "one is needed"),
        ("chunk_size\n", "settings file 'docmill.toml' is not TOML"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(folder: Path, content: str, said: str) -> None:
    """An entry that is not allowed is named with the file, its value and what is allowed."""
    (folder / "docmill.toml").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said):
        load_settings()


def test_a_file_that_is_named_must_be_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file that DOCMILL_SETTINGS_FILE names is an error, and so are tables that are not JSON."""
    monkeypatch.setenv("DOCMILL_SETTINGS_FILE", "missing.toml")
    with pytest.raises(ConfigurationError, match=r"'missing\.toml' cannot be read: No such file"):
        load_settings()
    monkeypatch.delenv("DOCMILL_SETTINGS_FILE")
    monkeypatch.setenv("DOCMILL_TRANSFORMATIONS", "embed")
    with pytest.raises(ConfigurationError, match=r"TRANSFORMATIONS.*JSON"):
        load_settings()
