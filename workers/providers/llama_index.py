"""LlamaIndex on a worker: components built from a registered name and state, and its errors as ours."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from orchestrator.contracts.errors import ConfigurationError, DocmillError, TransientError, UnknownName
from orchestrator.contracts.llama_index import registered_classes, secret_variable
from orchestrator.settings import load_settings
from workers.tokens.vocabulary import ensure_vocabulary

__all__ = ["build_component", "check_component_name", "llama_index_errors", "secrets_hint"]

# Of the libraries beneath LlamaIndex's integrations, none of which is imported here: trying again may help.
_PASSING = frozenset(
    {
        *("APIConnectionError", "APITimeoutError", "InternalServerError", "OverloadedError", "RateLimitError"),
        *("ServiceUnavailableError", "TransportError", "ConnectionError", "TimeoutError", "Timeout"),
        *("InterfaceError", "OperationalError"),  # of databases
    }
)


def check_component_name(name: str) -> tuple[str, str]:
    """(module, class) of a registered name; nothing is imported.

    Raises:
        UnknownName: it is not registered here.
    """
    classes = registered_classes(load_settings().llama_index_classes)
    if name not in classes:
        raise UnknownName("LlamaIndex class", name, classes)
    return classes[name]


def build_component(name: str, state: Mapping[str, Any]) -> Any:
    """The component of that name and state; secrets that did not travel are taken from this process's environment.

    Raises:
        UnknownName: the name is not registered here.
        ConfigurationError: its package is not installed, or refuses the state.
    """
    module, attribute = check_component_name(name)
    ensure_vocabulary("cl100k_base")  # which LlamaIndex counts in, and would fetch if it is not in TIKTOKEN_CACHE_DIR
    try:
        cls = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        package = module.replace("llama_index.core", "llama_index").replace(".", "-").replace("_", "-")
        raise ConfigurationError(
            f"LlamaIndex's {name} is not installed here: {error}; pip install {package} where the workers are"
        ) from error
    fields = {key: _nested(value) for key, value in _with_secrets(name, state).items()}
    try:
        return cls.from_dict(fields)
    except DocmillError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"LlamaIndex's {name} cannot be made here: {type(error).__name__}: {error}. {secrets_hint(name)}"
        ) from error


def secrets_hint(name: str) -> str:
    """What to look at where a component does not work."""
    return f"Secrets do not travel: {secret_variable(name, '<field>')} in this process's environment gives it one"


def _nested(value: Any) -> Any:
    """A component within a component; anything else as it is."""
    if isinstance(value, dict) and "class_name" in value:
        fields = dict(value)
        return build_component(fields.pop("class_name"), fields)
    return value


def _with_secrets(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    prefix = secret_variable(name, "")
    found = {key.removeprefix(prefix).lower(): value for key, value in os.environ.items() if key.startswith(prefix)}
    return {**state, **found}


@contextmanager
def llama_index_errors() -> Iterator[None]:
    """What passes is raised as transient, whichever library raised it; all else as it is.

    Raises:
        TransientError: a service beneath LlamaIndex did not answer, or had too much to do.
    """
    try:
        yield
    except DocmillError:
        raise
    except Exception as error:
        if _PASSING.isdisjoint(base.__name__ for base in type(error).__mro__):
            raise
        raise TransientError(f"{type(error).__name__}: {error}") from error
