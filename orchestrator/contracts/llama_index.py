"""LlamaIndex's components as plain data: a registered name, and the state that `to_dict` gives.

Nothing of LlamaIndex is imported here: whoever hands in a component has imported it. What travels is never a pickle,
an import path, a function or a secret.
"""

import json
import os
import re
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, signature
from typing import Any, NamedTuple, Protocol, TypeGuard

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.hashing import canonical_json

__all__ = [
    "EXCLUDED_KEYS",
    "PREFIX",
    "Component",
    "Described",
    "check_no_secrets",
    "describe",
    "installed_release",
    "is_kind",
    "parse_label",
    "registered_classes",
    "secret_variable",
]

# Fields of its documents and nodes that name metadata not shown to a model.
EXCLUDED_KEYS = ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")
PREFIX = "llama_index/"  # of the names of embedders and vector stores

# The classes that a spec may name, and where they are. An operator adds others by DOCMILL_LLAMA_INDEX_CLASSES.
_CLASSES = {
    **dict.fromkeys(
        (
            "CodeSplitter",
            "HTMLNodeParser",
            "JSONNodeParser",
            "MarkdownNodeParser",
            "SemanticSplitterNodeParser",
            "SentenceSplitter",
            "SentenceWindowNodeParser",
            "SimpleFileNodeParser",
            "TokenTextSplitter",
        ),
        "llama_index.core.node_parser",
    ),
    **dict.fromkeys(
        ("KeywordExtractor", "QuestionsAnsweredExtractor", "SummaryExtractor", "TitleExtractor"),
        "llama_index.core.extractors",
    ),
    "MockEmbedding": "llama_index.core.embeddings",
    "MockLLM": "llama_index.core.llms",
    "PGVectorStore": "llama_index.vector_stores.postgres",
}

# Functions and objects that a worker has of its own: ids are bound by docmill, events are counted by it.
_NOT_STATE = frozenset({"callback_manager", "class_name", "embeddings_cache", "id_func"})
# What changes the speed and never the output.
_TUNING = frozenset({"embed_batch_size", "max_retries", "num_workers", "retry_backoff", "show_progress", "timeout"})
_OWN_ENCODING = "cl100k_base"  # LlamaIndex counts in it unless it is told otherwise

_SECRET_FIELD = re.compile(
    r"(^|_)(api_?key|(access|account|private|secret|subscription)_key|(access|api|auth|bearer|hf|session)_token|"
    r"authorization|credentials?|passw(or)?d|secret)$|^token$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"://[^/\s@]*:[^/\s@]+@"  # a password in an address
    r"|(^|[?&\s;])(api_?key|password|secret|sig|token)="  # or behind it
    r"|^\*{10}$",  # a SecretStr of pydantic, as to_dict shows it
    re.IGNORECASE,
)


_SECRET = object()  # stands for a value that stays here


class Component(Protocol):
    """What is asked of a component of LlamaIndex."""

    def to_dict(self, **kwargs: Any) -> dict[str, Any]: ...


class Described(NamedTuple):
    """A component as plain data: `tuning` changes the speed alone, `state` the output."""

    name: str
    state: dict[str, Any]
    tuning: dict[str, Any]

    @property
    def label(self) -> str:
        """Name and state in one text, which names an embedder or a vector store."""
        return f"{PREFIX}{self.name} {canonical_json(self.state)}"


def is_kind(value: object, kind: str) -> TypeGuard[Component]:
    """Whether an object is of a class of LlamaIndex, told by the names of its bases: nothing is imported."""
    return any(
        base.__name__ == kind and base.__module__.startswith("llama_index.core.") for base in type(value).__mro__
    )


def describe(component: Component, extra: tuple[str, ...] = ()) -> Described:
    """A component as plain data.

    Args:
        extra: registered besides the classes of docmill, as `module:Class`.

    Raises:
        ConfigurationError: its class is not registered, its state cannot travel, or holds a secret that workers could
            not know.
    """
    name = _registered_name(component, extra)
    _check_functions(name, component)
    state, tuning = {}, {}
    for key, value in component.to_dict(mode="json").items():
        nested = getattr(component, key, None)
        if key in _NOT_STATE or _is_constant(type(component), key, value):
            continue
        if is_kind(nested, "BaseComponent"):
            inner = describe(nested, extra)
            state[key] = {"class_name": inner.name, **inner.state}
            tuning[key] = inner.tuning
        elif key in _TUNING:
            tuning[key] = value
        else:
            state[key] = value
    state = _without_secrets(name, (), state, known=os.environ.values())
    try:
        return Described(name, json.loads(canonical_json(state)), json.loads(canonical_json(tuning)))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"LlamaIndex's {name} cannot travel to workers: its state is no JSON: {error}"
        ) from error


def registered_classes(extra: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    """{name: (module, class)} of what a spec may name."""
    classes = {name: (module, name) for name, module in _CLASSES.items()}
    for place in extra:
        module, _, name = place.partition(":")
        classes[name] = (module, name)
    return classes


def parse_label(label: str) -> tuple[str, dict[str, Any]]:
    """(registered name, state) of a label.

    Raises:
        ConfigurationError: it is none.
    """
    name, _, state = label.removeprefix(PREFIX).partition(" ")
    try:
        found = json.loads(state or "{}")
    except ValueError as error:
        raise ConfigurationError(f"{label!r} does not hold the JSON of a component's state: {error}") from error
    if not label.startswith(PREFIX) or not name.isidentifier() or not isinstance(found, dict):
        raise ConfigurationError(f'{label!r} does not name a LlamaIndex component: write {PREFIX}Class {{"field": …}}')
    check_no_secrets(name, found)
    return name, found


def check_no_secrets(name: str, state: Mapping[str, Any]) -> None:
    """Refuse a state that somebody wrote down with a secret in it.

    Raises:
        ConfigurationError: it holds one; the message names its field and variable.
    """
    _without_secrets(name, (), state, known=())


def secret_variable(name: str, *path: str) -> str:
    """The environment variable that holds a secret of a component, where the component is used."""
    return "_".join(("DOCMILL_SECRET", name, *path)).upper().replace("-", "_")


def installed_release() -> str:
    """LlamaIndex's release up to the minor number, within which its output stays the same: `0.14`.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return ".".join(version("llama-index-core").split(".")[:2])
    except PackageNotFoundError:
        raise ConfigurationError("LlamaIndex is not installed: pip install 'docmill[llama-index]'") from None


def _registered_name(component: Component, extra: tuple[str, ...]) -> str:
    cls = type(component)
    for name, (module, attribute) in registered_classes(extra).items():
        if getattr(sys.modules.get(module), attribute, None) is cls:
            return name
    raise ConfigurationError(
        f"LlamaIndex class {cls.__module__}:{cls.__qualname__} is not registered: set DOCMILL_LLAMA_INDEX_CLASSES="
        f"{cls.__module__}:{cls.__qualname__} here and on the workers, which then may build it from any pipeline spec"
    )


def _is_constant(cls: Any, key: str, value: object) -> bool:
    """Whether a field stands at its default, and the class does not take it: its `from_dict` could not be called."""
    taken = signature(cls.__init__).parameters
    if key in taken or any(parameter.kind is Parameter.VAR_KEYWORD for parameter in taken.values()):
        return False
    field = cls.model_fields.get(key)
    return field is not None and bool(field.default == value)


def _check_functions(name: str, component: object) -> None:
    """`to_dict` leaves functions out without a word, and a worker would go on with LlamaIndex's own."""
    private: Mapping[str, object] = getattr(component, "__pydantic_private__", None) or {}
    for field, value in {**vars(component), **private}.items():
        if field not in _NOT_STATE and _is_foreign(value):
            raise ConfigurationError(
                f"LlamaIndex's {name} was given a function of its own, {field.lstrip('_')}={value!r}, and no code "
                "travels to workers: leave it out, or write a transformation of your own"
            )


def _is_foreign(value: object) -> bool:
    function = getattr(value, "func", value)  # of a functools.partial
    if not callable(function) or isinstance(function, type) or is_kind(value, "BaseComponent"):
        return False
    encoding = getattr(getattr(function, "__self__", None), "name", None)
    return encoding != _OWN_ENCODING and not (getattr(function, "__module__", "") or "").startswith("llama_index.")


def _without_secrets(name: str, path: tuple[str, ...], value: Any, known: Collection[str]) -> Any:
    """The value without its secrets. Those that stand in the environment are found there by the worker."""
    if isinstance(value, Mapping):
        kept = {key: _without_secrets(name, (*path, str(key)), inner, known) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner is not _SECRET}
    if isinstance(value, list | tuple):
        items = (_without_secrets(name, path, inner, known) for inner in value)
        return [inner for inner in items if inner is not _SECRET]
    if not (isinstance(value, str) and value and path and _is_secret(path[-1], value)):
        return value
    if value in known:
        return _SECRET
    raise ConfigurationError(
        f"LlamaIndex's {name} holds a secret in {'.'.join(path)}, and no secret travels in a pipeline: "
        f"set {secret_variable(name, *path)} in the environment, here and on the workers"
    )


def _is_secret(key: str, value: str) -> bool:
    return bool(_SECRET_FIELD.search(key.replace("-", "_")) or _SECRET_VALUE.search(value))
