"""Every error docmill raises on purpose. The type says whether trying again can help.

DocmillError
├── TransientError              trying again may help; workers retry with backoff
│   └── ServiceUnreachable      a database, broker or provider does not answer
└── TerminalError               trying again changes nothing
    ├── ConfigurationError      a setting, spec or argument is wrong (also a ValueError)
    │   ├── UnknownName         a registered name that nobody registered
    │   └── CollectionMismatch  vectors of another model or dimension
    ├── DocumentError           one document is bad; the rest of the job goes on
    ├── TokenBudgetExceeded     the tokens that a job or a handler may spend are spent
    ├── PayloadError            bytes that are not what their header says, or too many
    ├── CollectionNotFound      no collection of that name in the vector store
    ├── EmptySource             nothing to ingest
    └── JobNotFound             no job of that id in the ledger
"""

from collections.abc import Iterable

__all__ = [
    "CollectionMismatch",
    "CollectionNotFound",
    "ConfigurationError",
    "DocmillError",
    "DocumentError",
    "EmptySource",
    "JobNotFound",
    "PayloadError",
    "ServiceUnreachable",
    "TerminalError",
    "TokenBudgetExceeded",
    "TransientError",
    "UnknownName",
]


class DocmillError(Exception):
    """The root of all errors that docmill raises on purpose.

    Attributes:
        summary: what logs show instead of the message, where that repeats words that may be a document's.
    """

    summary: str | None = None


class TransientError(DocmillError):
    """Trying again may help.

    Attributes:
        retry_after: seconds to leave the service alone, where it said so; None leaves it to our own backoff.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServiceUnreachable(TransientError):
    """A service does not answer at its address (shown without its password)."""

    def __init__(self, service: str, address: str, reason: str) -> None:
        super().__init__(f"{service} at {address} cannot be reached: {reason}")
        self.service = service
        self.address = address


class TerminalError(DocmillError):
    """Trying again changes nothing."""


class ConfigurationError(TerminalError, ValueError):
    """A setting, a spec or an argument is wrong."""


_LOADED_BY = {
    "transformation": ". A module of your own is loaded by DOCMILL_MODULES or an entry point",
    "callback handler": ". A module of your own is loaded by DOCMILL_MODULES",
}


class UnknownName(ConfigurationError):
    """A spec names something that is not registered here; the message lists what is."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"unknown {kind} {name!r}; known here: {names}{_LOADED_BY.get(kind, '')}")


class CollectionMismatch(ConfigurationError):
    """A collection holds vectors of one model and dimension, and was handed vectors of another."""

    def __init__(self, collection: str, held: str, given: str) -> None:
        super().__init__(
            f"collection {collection!r} holds {held}, but this pipeline makes {given}; "
            "use another collection, or ingest with the embedder the collection was made with"
        )


class DocumentError(TerminalError):
    """One document cannot be ingested. `stage` is the step of the flow that refused it."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


class TokenBudgetExceeded(TerminalError):
    """More tokens were spent, or are about to be, than the budget allows. Trying again would only spend more."""

    def __init__(self, budget: int, spent: int, planned: int = 0) -> None:
        if planned > budget:
            what = f"is too small for one call, which takes {planned:,}"
            mend = "raise token_budget, or let a call take less (batch_size of embed, chunk_size of a splitter)"
        else:
            what = f"is exceeded: {spent:,} are spent" + (f", and {planned:,} more are asked for" if planned else "")
            mend = "raise token_budget to go on"
        super().__init__(f"the budget of {budget:,} tokens {what}; {mend}")
        self.budget = budget
        self.spent = spent
        self.planned = planned


class PayloadError(TerminalError):
    """Stored bytes are damaged, of an unknown version, or larger than allowed."""


class CollectionNotFound(TerminalError):
    """The vector store has no collection of that name."""

    def __init__(self, collection: str) -> None:
        super().__init__(f"there is no collection {collection!r}: `docmill ingest --collection {collection}` makes one")


class EmptySource(TerminalError):
    """The source held no document at all."""


class JobNotFound(TerminalError):
    """No job of that id is in the ledger."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r} in the ledger; `docmill jobs` lists them")
