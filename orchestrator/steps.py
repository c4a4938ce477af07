"""Steps: the transformations of a pipeline as plain data, by default those of the settings, parsing always first."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.llama_index import Component
from orchestrator.contracts.registered import registered
from orchestrator.contracts.spec import SpecSource, TransformationSpec
from orchestrator.foreign import as_spec
from orchestrator.settings import Settings

__all__ = ["steps_as_data"]


def steps_as_data(
    transformations: Sequence[SpecSource | TransformationSpec | Component] | None, settings: Settings
) -> Iterator[TransformationSpec]:
    """The steps as plain data.

    Raises:
        ConfigurationError: one of them cannot be described, or a parameter in the settings is wrong.
        UnknownName: the settings name a transformation that nobody registered, by an entry point or DOCMILL_MODULES.
    """
    if isinstance(transformations, (str, bytes, SpecSource)):
        raise ConfigurationError(f"transformations is {transformations!r:.80}; give a list of transformations")
    if transformations is None:
        transformations = list(_by_settings(settings))
    embed = registered("embed")
    specs = [_spec(step, settings, embed) for step in transformations]
    if not specs or specs[0].name != "parse":
        yield registered("parse")().spec()
    yield from specs


def _by_settings(settings: Settings) -> Iterator[SpecSource]:
    if settings.transformations is None:
        sizes = {"chunk_size": settings.chunk_size, "chunk_overlap": settings.chunk_overlap}
        yield registered("sentence_splitter")(**sizes, tokenizer=settings.tokenizer)
        yield registered("embed")(embedder=settings.embedder)
        return
    for step in settings.transformations:
        parameters = dict(step)
        name = parameters.pop("name")
        try:
            yield registered(str(name), settings.modules)(**parameters)
        except (ValidationError, TypeError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ConfigurationError(f"setting transformations, {name!r}: {reason}") from error


def _spec(step: Any, settings: Settings, embed: Callable[..., SpecSource]) -> TransformationSpec:
    if isinstance(step, type):
        raise ConfigurationError(f"{step!r:.80} is a class: give an instance, {step.__name__}()")
    return as_spec(step, settings.llama_index_classes, embed)
