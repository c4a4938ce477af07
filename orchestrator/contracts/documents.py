"""Document: what the caller hands in."""

from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.contracts.errors import DocumentError
from orchestrator.contracts.hashing import digest

__all__ = ["MAX_ID_BYTES", "Document", "SplitDocument"]

MAX_ID_BYTES = 1024  # in UTF-8; with the collection's name it fits a key of Postgres' B-trees, 2,704 bytes


class Document(BaseModel):
    """A text, or a local file by its URI, with an id and metadata.

    The id names the document across runs: ingest the same id again and its nodes are replaced. Without one, the
    document is named by its content. `uri` is a path or a `file:` URI, read only if the file may have changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = ""
    text: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if (self.text is None) == (self.uri is None):
            raise ValueError(f"document {self.id!r} needs either a text or a uri, and not both")
        return self

    @property
    def name(self) -> str:
        """The id, or what stands for it: the uri, or a hash of the text."""
        return self.id or self.uri or digest(self.text or "")

    @property
    def path(self) -> str | None:
        """The path of the file behind the uri; None for a text.

        Raises:
            DocumentError: the uri has a scheme that this machine cannot read.
        """
        if self.uri is None:
            return None
        if ":" not in self.uri and "//" not in self.uri:
            return self.uri
        try:
            parts = urlsplit(self.uri)
        except ValueError as error:
            raise DocumentError("read", f"uri {self.uri!r} cannot be read: {error}") from error
        if parts.scheme == "file":
            return unquote(parts.path)
        if "://" in self.uri:
            raise DocumentError("read", f"uri {self.uri!r} cannot be read: allowed are paths and file: URIs")
        return self.uri


class SplitDocument(Document):
    """A document that its caller has split already: known by its id, and by what its nodes say."""

    text: str | None = ""
    nodes: tuple[Any, ...]  # of Node, whose own type would need numpy to be checked
