"""docmill's front door: what an application imports to enqueue. Nothing heavy is loaded before it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.contracts.documents import Document
    from orchestrator.contracts.errors import (
        ConfigurationError,
        DocmillError,
        DocumentError,
        TokenBudgetExceeded,
        TransientError,
    )
    from orchestrator.contracts.nodes import Node
    from orchestrator.contracts.report import JobState, Report
    from orchestrator.contracts.spec import DocstoreStrategy
    from orchestrator.job import Job
    from orchestrator.pipeline import IngestionPipeline
    from orchestrator.reader import FileReader
    from orchestrator.runtime import Runtime
    from orchestrator.settings import Settings, load_settings

__all__ = [
    "ConfigurationError",
    "DocmillError",
    "DocstoreStrategy",
    "Document",
    "DocumentError",
    "FileReader",
    "IngestionPipeline",
    "Job",
    "JobState",
    "Node",
    "Report",
    "Runtime",
    "Settings",
    "TokenBudgetExceeded",
    "TransientError",
    "load_settings",
]

_HOMES = {
    "ConfigurationError": "contracts.errors",
    "DocmillError": "contracts.errors",
    "DocstoreStrategy": "contracts.spec",
    "Document": "contracts.documents",
    "DocumentError": "contracts.errors",
    "FileReader": "reader",
    "IngestionPipeline": "pipeline",
    "Job": "job",
    "JobState": "contracts.report",
    "Node": "contracts.nodes",
    "Report": "contracts.report",
    "Runtime": "runtime",
    "Settings": "settings",
    "TokenBudgetExceeded": "contracts.errors",
    "TransientError": "contracts.errors",
    "load_settings": "settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
