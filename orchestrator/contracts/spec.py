"""The pipeline spec: transformations, vector store and strategy as plain data."""

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from orchestrator.contracts.budget import check_token_budget
from orchestrator.contracts.hashing import canonical_json, digest
from orchestrator.contracts.llama_index import PREFIX, parse_label

__all__ = [
    "COLLECTION_PATTERN",
    "DEFAULT_CACHE_COLLECTION",
    "DocstoreStrategy",
    "PipelineSpec",
    "SpecSource",
    "TransformationSpec",
]

COLLECTION_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
DEFAULT_CACHE_COLLECTION = "default"
_VECTOR_STORES = ("pgvector", "sqlite")


class DocstoreStrategy(StrEnum):
    """What happens to documents the ledger already knows."""

    UPSERTS = "upserts"  # changed documents are replaced
    DUPLICATES_ONLY = "duplicates_only"  # and equal content under a second id is recorded, not embedded
    UPSERTS_AND_DELETE = "upserts_and_delete"  # and documents absent from the source are removed


class TransformationSpec(BaseModel):
    """One transformation by its registered name. `parameters` change the output, `tuning` only the speed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = Field(ge=1)
    parameters: dict[str, Any] = Field(default_factory=dict)
    tuning: dict[str, Any] = Field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Name, version and the parameters that change the output."""
        return digest(self.name, str(self.version), canonical_json(self.parameters))


@runtime_checkable
class SpecSource(Protocol):
    """Anything that can describe itself as a transformation spec."""

    def spec(self) -> TransformationSpec: ...


class PipelineSpec(BaseModel):
    """A pipeline as plain data: what travels to workers, by way of the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    collection: str = Field(pattern=COLLECTION_PATTERN)
    transformations: tuple[TransformationSpec, ...] = Field(min_length=1)
    # None: the nodes are the product.
    vector_store: str | None = Field(default="pgvector", validate_default=True)
    strategy: DocstoreStrategy = DocstoreStrategy.UPSERTS
    # Where to look before paying; not in the fingerprint, for it changes no node.
    cache_collection: str = Field(default=DEFAULT_CACHE_COLLECTION, pattern=COLLECTION_PATTERN)
    disable_cache: bool = False
    token_budget: int | None = None  # tokens that a job may spend; None: no limit

    @field_validator("token_budget", mode="before")
    @classmethod
    def _can_be_spent(cls, value: object) -> object:
        check_token_budget(value)
        return value

    @field_validator("transformations")
    @classmethod
    def _embed_last(cls, value: tuple[TransformationSpec, ...]) -> tuple[TransformationSpec, ...]:
        if any(spec.name == "embed" for spec in value[:-1]):
            raise ValueError("`embed` must stand once, and last: what comes after it would change what was embedded")
        return value

    @field_validator("vector_store")
    @classmethod
    def _known_store(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if value.startswith(PREFIX):
            parse_label(value)
        elif value not in _VECTOR_STORES:
            raise ValueError(f"allowed are {', '.join(_VECTOR_STORES)}, and a vector store of LlamaIndex")
        steps = info.data.get("transformations")
        if steps and steps[-1].name != "embed":
            raise ValueError(
                "a vector store takes embedded nodes: let `embed` be the last transformation, or give no vector store"
            )
        return value

    @property
    def fingerprint(self) -> str:
        """Names what is done to a document: the transformations with their versions and parameters, and the store.

        The store is in it because a document whose nodes lie elsewhere is not done.
        """
        return digest(self.vector_store or "", *(step.fingerprint for step in self.transformations))

    @property
    def embedder(self) -> str | None:
        """The embedder's name; None where nothing is embedded."""
        last = self.transformations[-1]
        return str(last.parameters["embedder"]) if last.name == "embed" else None
