"""The port of a transformation: nodes of one document in, nodes out; known by a registered name and version."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.registered import register as register_class
from orchestrator.contracts.registered import registered
from orchestrator.contracts.spec import TransformationSpec

__all__ = [
    "Transformation",
    "build",
    "build_transformation",
    "transformation",
    "transformation_class",
]

TransformationClass = TypeVar("TransformationClass", bound="type[Transformation]")


class Transformation(BaseModel, ABC):
    """A step of a pipeline. Its fields are its parameters; constructing one imports nothing heavy.

    Attributes:
        name, version: set by the decorator `transformation`. Raise the version when the output changes: documents
            made by the old one are then ingested again.
        tuning: names of the fields that change the speed and never the output; they stay out of the fingerprint.
        cacheable: False where doing it again is cheap enough to leave the memory of the cache to what is dear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    version: ClassVar[int]
    tuning: ClassVar[frozenset[str]] = frozenset()
    cacheable: ClassVar[bool] = True

    @property
    def asked_server(self) -> str:
        """The address of the server that this step asks, without secrets; "" for none. Goes into the cache's keys."""
        return ""

    @abstractmethod
    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Transform the nodes of ONE document. May change and return the nodes it was handed; [] where none are left.

        Anything but a list of Nodes ends the job: that is no document's fault.

        Raises:
            DocumentError: this document cannot be transformed; the rest of the batch goes on. So does any error that
                is neither transient nor one of configuration.
        """

    def spec(self) -> TransformationSpec:
        """This step as plain data."""
        fields = self.model_dump(mode="json")
        return TransformationSpec(
            name=self.name,
            version=self.version,
            parameters={key: value for key, value in fields.items() if key not in self.tuning},
            tuning={key: value for key, value in fields.items() if key in self.tuning},
        )


def transformation(name: str, version: int) -> Callable[[TransformationClass], TransformationClass]:
    """Register a Transformation class under a name, so that a spec can speak of it.

    Raises:
        ConfigurationError: another class has that name, or the class can be seen to return no list of nodes.
    """

    def register(cls: TransformationClass) -> TransformationClass:
        _check_returns(name, cls)
        register_class(name, cls)
        cls.name, cls.version = name, version
        return cls

    return register


def _check_returns(name: str, cls: type[Transformation]) -> None:
    """Refuse what never returns a list, before anything is paid for."""
    call = cls.__call__
    what = ""
    if iscoroutinefunction(call):
        what = "is async: await what it needs by workers.run_on_process_loop"
    elif isgeneratorfunction(call) or isasyncgenfunction(call):
        what = "yields: collect the nodes in a list"
    if what:
        raise ConfigurationError(f"transformation {name!r} must return a list of Nodes, but its __call__ {what}")


def transformation_class(name: str) -> type[Transformation]:
    """The class registered under a name, loaded from its entry point if need be.

    Raises:
        UnknownName: nobody registered it; the error lists who did.
    """
    cls: type[Transformation] = registered(name)
    return cls


def build_transformation(spec: TransformationSpec) -> Transformation:
    """The transformation that a spec describes.

    Raises:
        UnknownName: the name is not registered here.
        ConfigurationError: the version here is another, or a parameter is wrong.
    """
    cls = transformation_class(spec.name)
    if cls.version != spec.version:
        raise ConfigurationError(
            f"transformation {spec.name!r} is version {cls.version} here, but the pipeline asks for {spec.version}: "
            "client and workers run different releases"
        )
    return build(cls, {**spec.parameters, **spec.tuning})


def build(cls: type[Transformation], fields: Mapping[str, Any]) -> Transformation:
    """A transformation of this class with these fields.

    Raises:
        ConfigurationError: a field is unknown or missing, or its value is not allowed.
    """
    try:
        return cls.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"transformation {cls.name!r}, {place}={first['input']!r}: {first['msg']}") from error
