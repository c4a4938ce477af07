"""Settings: one typed object, read from `DOCMILL_…` variables and a file when asked for, never at import."""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from orchestrator.contracts.addresses import cache_kind, celery_address, redacted, sqlalchemy_url
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.logs import LogFormat, LogLevel
from orchestrator.contracts.prices import Price

__all__ = ["FILE_VARIABLE", "Settings", "load_settings", "settings_file", "source_of"]

FILE_VARIABLE = "DOCMILL_SETTINGS_FILE"
_FILE_NAME = "docmill.toml"  # in the folder in which the program is started


def _default_home() -> Path:
    """Where the embedded stack keeps its data.

    Root's goes to /var/lib: Postgres runs there as another user, who must be able to walk to it.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/docmill")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "docmill"


class Settings(BaseSettings):
    """Where the services are, and the defaults of a pipeline.

    Every field is `DOCMILL_<FIELD>` in the environment, and `<field>` in the settings file; the environment wins.
    """

    # Input stays out of pydantic's own errors, which tracebacks show: it may hold a key or a password.
    model_config = SettingsConfigDict(env_prefix="DOCMILL_", frozen=True, extra="forbid", hide_input_in_errors=True)

    # Addresses. With none of them set, the embedded stack is started and fills them in.
    database_url: str | None = Field(default=None, description="ledger: postgresql+psycopg://… or sqlite:///…")
    broker_url: str | None = Field(default=None, description="Celery broker: redis://… or amqp://…")
    result_url: str | None = Field(default=None, description="Redis for results; the broker's if it is a Redis")
    cache_url: str | None = Field(
        default=None, description="cache: redis://…, postgresql://…, sqlite:///… or memory://; else the results' Redis"
    )
    home: Path = Field(default_factory=_default_home, description="data of the embedded stack")

    # Defaults of a pipeline.
    embedder: str = Field(default="wordllama", description="embedder of pipelines that name none")
    llm: str | None = Field(default=None, description="language model of extractors that name none: openai/<model>")
    tokenizer: str = Field(default="cl100k_base", description="encoding that chunks are measured in")
    context_window: int = Field(default=3900, ge=1, description="tokens of prompt and answer of a language model")
    num_output: int = Field(default=256, ge=0, description="tokens of it that are kept free for the answer")
    transformations: tuple[dict[str, Any], ...] | None = Field(
        default=None, description="steps of pipelines that name none; without it they split and embed"
    )
    chunk_size: int = Field(default=1024, ge=1, description="tokens a node at most")
    chunk_overlap: int = Field(default=200, ge=0, description="tokens that neighbouring nodes may share")
    vector_store: str = Field(default="pgvector", description="vector store of pipelines that name none, and of search")
    sqlite_vectors: Path | None = Field(default=None, description="file of the sqlite vector store; default in home")
    models_path: Path | None = Field(default=None, description="folder of ONNX models, one folder a model")
    modules: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="modules that register transformations of your own, separated by commas"
    )
    callback_handlers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="what hears of every paid call in a worker, by the names that your modules register"
    )
    llama_index_classes: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="LlamaIndex classes that pipelines may name besides those known: module:Class, …"
    )

    # A server that speaks OpenAI's API: OpenAI itself, vLLM, Ollama, LM Studio, …
    openai_base_url: str | None = Field(
        default=None, description="server that speaks OpenAI's API, up to and with /v1; default: OpenAI's"
    )
    openai_api_key: SecretStr | None = Field(default=None, description="that server's key; local ones often need none")
    llm_concurrency: int = Field(default=4, ge=1, description="requests to that server at once, a worker process")
    llm_timeout: float = Field(default=60.0, gt=0, description="seconds for that server to answer one request")

    prices: tuple[Price, ...] = Field(
        default=(), description="what a million tokens cost: model, embedding, prompt, completion, cached"
    )

    # Bounds.
    slice_documents: int = Field(default=1000, ge=1, le=10_000, description="documents per dedupe query, at most")
    batch_bytes: int = Field(default=1024 * 1024, ge=1, description="bytes of documents in a batch, about")
    max_document_bytes: int = Field(default=64 * 1024 * 1024, ge=1, description="larger documents are refused")
    window: int = Field(default=32, ge=2, description="published and unfinished batches of one job at most")
    segment_batches: int = Field(default=4, ge=1, description="batches gathered into one commit at most")
    segment_bytes: int = Field(default=16 * 1024 * 1024, ge=1, description="bytes of nodes gathered into one commit")
    mass_delete_share: float = Field(default=0.5, ge=0, le=1, description="share of a collection a job may delete")
    cache_bytes: int | None = Field(
        default=None, ge=1, description="bytes of a cache in SQL (default 1 GiB) or memory (64 MiB a process)"
    )
    hnsw_rows: int = Field(default=50_000, ge=0, description="nodes from which a collection gets an HNSW index")

    # Metrics of workers, for Prometheus; those of the ledger are on Flower's page.
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="port at which a worker serves what it counts; default: none"
    )
    metrics_address: str = Field(default="127.0.0.1", description="address at which it does")

    # What docmill's programs write to stderr.
    log_format: LogFormat = Field(default="auto", description="console, json, or auto: json unless in a terminal")
    log_level: LogLevel = Field(default="info", description="least that is logged: debug, info, warning or error")

    traces: bool = Field(default=False, description="spans for OpenTelemetry, sent where OTEL_… variables say")

    # Time, in seconds.
    heartbeat: float = Field(default=3.0, gt=0, description="between two heartbeats of a running batch")
    stale_after: float = Field(default=15.0, gt=0, description="a lease without a heartbeat for so long is dead")
    reconcile_every: float = Field(default=3.0, gt=0, description="between two looks for what has stalled")
    lost_after: float = Field(default=10.0, gt=0, description="a message not taken for so long is lost")
    forgotten_after: float = Field(default=8.0, gt=0, description="a commit not taken for so long is lost")
    max_attempts: int = Field(default=3, ge=1, description="runs of a batch before it is halved or given up")
    max_retries: int = Field(default=10, ge=1, description="tries of a batch whose trouble may pass, with backoff")
    memory_limit: int = Field(default=4 * 1024**3, ge=0, description="bytes a worker's child may allocate; 0: no limit")
    time_limit: float = Field(default=840.0, gt=0, description="a batch that runs longer is killed")
    connect_timeout: float = Field(default=5.0, gt=0, description="for a service to answer")
    cache_ttl: int = Field(default=30 * 24 * 3600, ge=1, description="life of an unused entry of the ingestion cache")

    @field_validator("modules", "callback_handlers", "llama_index_classes", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("llama_index_classes")
    @classmethod
    def _are_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place in value:
            module, colon, name = place.partition(":")
            if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
                raise ValueError(f"{place!r} does not name a class: write module:Class")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=_file_values())

    @field_validator("log_format", "log_level", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("transformations", mode="before")
    @classmethod
    def _is_json(cls, value: object) -> object:
        if isinstance(value, str):  # of a variable, which was no JSON
            raise ValueError('in the environment it is JSON: [{"name": "embed", "embedder": "wordllama"}]')
        return value

    @field_validator("transformations")
    @classmethod
    def _are_named(cls, value: tuple[dict[str, Any], ...] | None) -> tuple[dict[str, Any], ...] | None:
        if value is not None and (not value or not all(isinstance(step.get("name"), str) for step in value)):
            raise ValueError("each transformation is a table with a name, as in a pipeline file, and one is needed")
        return value

    @field_validator("prices")
    @classmethod
    def _are_of_different_models(cls, value: tuple[Price, ...]) -> tuple[Price, ...]:
        models = [price.model for price in value]
        if len(set(models)) < len(models):
            raise ValueError("each model has one price")
        return value

    @field_validator("cache_url")
    @classmethod
    def _is_a_cache(cls, value: str | None) -> str | None:
        if value:
            cache_kind(value)
        return value or None

    @field_validator("broker_url", "result_url", "cache_url")
    @classmethod
    def _asks_for_tls_in_words_that_exist(cls, value: str | None) -> str | None:
        if value:
            celery_address(value)
        return value

    @field_validator("openai_base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("the address of a server begins with http:// or https://")
        return value or None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.chunk_overlap >= self.chunk_size:
            raise ValueError(f"chunk_overlap {self.chunk_overlap} must be smaller than chunk_size {self.chunk_size}")
        if self.num_output >= self.context_window:
            raise ValueError(f"num_output {self.num_output} must be smaller than context_window {self.context_window}")
        if self.segment_batches > self.window // 2:
            raise ValueError(
                f"segment_batches {self.segment_batches} must be at most half of window {self.window}, "
                "or a window could fill with batches that wait for a commit"
            )
        if self.stale_after < 3 * self.heartbeat:
            raise ValueError(f"stale_after {self.stale_after} must be at least 3 heartbeats of {self.heartbeat} s")
        given = {"database_url": self.database_url, "broker_url": self.broker_url}
        missing = [name for name, value in given.items() if value is None]
        if len(missing) == 1:
            raise ValueError(
                f"DOCMILL_{missing[0].upper()} is not set: give both DOCMILL_DATABASE_URL and DOCMILL_BROKER_URL, "
                "or neither to use the embedded stack"
            )
        if self.broker_url and not self.broker_url.startswith("redis") and self.result_url is None:
            raise ValueError("DOCMILL_RESULT_URL must name a Redis when DOCMILL_BROKER_URL does not")
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Addresses are shown without their passwords."""
        for name, value in super().__repr_args__():
            yield name, redacted(value) if name and name.endswith("_url") and value else value

    @property
    def is_embedded(self) -> bool:
        """No address is set: the embedded stack is to be used."""
        return self.database_url is None

    @property
    def ledger_url(self) -> str:
        """The ledger's address, with the driver that is installed."""
        return sqlalchemy_url(self.database_url or "")

    @property
    def results_redis_url(self) -> str:
        """The Redis that holds the results of running jobs."""
        return self.result_url or self.broker_url or ""

    @property
    def cache_address(self) -> str:
        """Where the ingestion cache is: a Redis, a database, or memory."""
        return self.cache_url or self.results_redis_url

    @property
    def sqlite_vectors_file(self) -> Path:
        """The file of the sqlite vector store."""
        return self.sqlite_vectors or self.home / "vectors.sqlite"


def load_settings(**overrides: object) -> Settings:
    """The settings from the environment and the settings file, with overrides.

    Raises:
        ConfigurationError: a value is out of range; the message names the variable, the value and what is allowed. Or
            the settings file cannot be read.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except SettingsError as error:
        raise ConfigurationError(f"the environment cannot be read: {error}; lists and tables are JSON there") from error
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            given = problem["input"]
            if place.endswith(("_url", "_key")):  # may hold a password, or be one
                given = redacted(str(given)) if place.endswith("_url") else "***"
            name = f"{_spoken_name(place)}={given!r}: " if place else ""
            problems.append(name + problem["msg"].removeprefix("Value error, "))
        raise ConfigurationError("; ".join(problems)) from error


def settings_file() -> Path | None:
    """The settings file: the one that DOCMILL_SETTINGS_FILE names, else docmill.toml in the current folder, if any."""
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    path = Path(_FILE_NAME)
    return path if path.is_file() else None


def source_of(settings: Settings, name: str) -> str:
    """Where a setting's value came from: environment, the settings file, an argument, or default."""
    if name not in settings.model_fields_set:
        return "default"
    if f"DOCMILL_{name.upper()}" in os.environ:
        return "environment"
    return str(settings_file()) if name in _file_values() else "argument"


def _file_values() -> dict[str, Any]:
    """What the settings file says.

    Raises:
        ConfigurationError: it cannot be read, or is not TOML.
    """
    path = settings_file()
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"settings file {str(path)!r} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {str(path)!r} is not TOML: {error}") from error


def _spoken_name(place: str) -> str:
    """A setting as whoever set it knows it."""
    name = place.partition(".")[0]
    if f"DOCMILL_{name.upper()}" not in os.environ and name in _file_values():
        return f"{settings_file()}: {place}"
    return f"DOCMILL_{place.upper()}"
