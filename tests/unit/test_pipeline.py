"""IngestionPipeline: what it is made of, and what is refused before any service is asked."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Document, IngestionPipeline
from orchestrator.contracts.errors import ConfigurationError, EmptySource, UnknownName
from orchestrator.contracts.nodes import Node
from orchestrator.runtime import worker_environment
from orchestrator.settings import load_settings
from workers.transformations import Embed, SentenceSplitter

_DOCUMENTS = [Document(id="a", text="one")]


def _pipeline(**arguments: Any) -> IngestionPipeline:
    """A pipeline whose services are nowhere: whoever asks them fails."""
    nowhere = load_settings(database_url="sqlite:////nowhere/ledger", broker_url="redis://127.0.0.1:1/0")
    return IngestionPipeline("handbook", **{"settings": nowhere, **arguments})


def _steps(pipeline: IngestionPipeline) -> list[str]:
    return [step.name for step in pipeline.spec.transformations]


def test_default_transformations_honour_the_settings() -> None:
    """A pipeline that names no transformations splits by the settings' sizes and tokenizer, and embeds by theirs."""
    settings = load_settings(chunk_size=64, chunk_overlap=8, tokenizer="o200k_base", embedder="hashed")
    split, embed = IngestionPipeline("handbook", settings=settings).spec.transformations[1:]
    assert split.parameters == {"chunk_size": 64, "chunk_overlap": 8, "tokenizer": "o200k_base"}
    assert embed.parameters == {"embedder": "hashed"}


def test_transformations_may_come_from_the_settings() -> None:
    """The settings' transformations are those of a pipeline that names none; parsing comes first all the same."""
    steps = (
        {"name": "markdown_splitter", "chunk_size": 64, "chunk_overlap": 8},
        {"name": "embed", "embedder": "hashed"},
    )
    made = IngestionPipeline("handbook", settings=load_settings(transformations=steps))
    assert _steps(made) == ["parse", "markdown_splitter", "embed"]
    assert made.spec.transformations[1].parameters["chunk_size"] == 64
    assert _steps(_pipeline(transformations=[Embed("hashed")])) == ["parse", "embed"]


def test_transformations_of_the_settings_may_be_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformation that a module of DOCMILL_MODULES registers may stand in the settings by its name."""
    (tmp_path / "acme_settings_steps.py").write_text(
        "from workers.transformations import Transformation, transformation\n"
        "@transformation('acme.shout', version=2)\n"
        "class Shout(Transformation):\n"
        "    mark: str = '!'\n"
        "    def __call__(self, nodes):\n"
        "        return nodes\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    steps = ({"name": "acme.shout", "mark": "?"}, {"name": "embed", "embedder": "hashed"})
    made = IngestionPipeline(
        "handbook", settings=load_settings(transformations=steps, modules=("acme_settings_steps",))
    )
    assert _steps(made) == ["parse", "acme.shout", "embed"]
    assert (made.spec.transformations[1].version, made.spec.transformations[1].parameters) == (2, {"mark": "?"})


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"name": "nothing"}, "unknown transformation 'nothing'"),
        ({"name": "sentence_splitter", "chunk_size": 64}, "chunk_overlap 200 must be smaller than chunk_size 64"),
    ],
)
def test_wrong_transformations_in_the_settings_are_named(step: dict[str, object], said: str) -> None:
    """What is wrong with a transformation of the settings is said when a pipeline is made of it."""
    with pytest.raises((ConfigurationError, UnknownName), match=said):
        IngestionPipeline("handbook", settings=load_settings(transformations=(step,)))


def test_vector_store_is_that_of_the_settings_or_none() -> None:
    """Without a word of it the store is the settings'; none where that is asked for, or where nothing is embedded."""
    sqlite = load_settings(vector_store="sqlite")
    assert IngestionPipeline("handbook", settings=sqlite).spec.vector_store == "sqlite"
    assert IngestionPipeline("handbook", settings=sqlite, vector_store="pgvector").spec.vector_store == "pgvector"
    assert IngestionPipeline("handbook", settings=sqlite, vector_store=None).spec.vector_store is None
    assert IngestionPipeline("handbook", [SentenceSplitter()], settings=sqlite).spec.vector_store is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"vector_store": "chroma"}, "vector_store='chroma'.*pgvector, sqlite"),
        ({"transformations": [SentenceSplitter()], "vector_store": "sqlite"}, "let `embed` be the last"),
        ({"transformations": [Embed("hashed"), SentenceSplitter()]}, "`embed` must stand once, and last"),
        ({"transformations": [SentenceSplitter]}, "is a class: give an instance, SentenceSplitter"),
        ({"transformations": [lambda nodes: nodes]}, "function is no transformation"),
        ({"transformations": SentenceSplitter()}, "give a list of transformations"),
        ({"docstore_strategy": "append"}, "'append' is unknown; allowed are upserts, duplicates_only"),
        ({"collection": "No Such"}, "collection='No Such'"),
        ({"collection": ""}, "collection=''"),
        ({"cache_collection": "No Such"}, "cache_collection='No Such'"),
        ({"documents": "text"}, "documents is str 'text'"),
        ({"readers": ["folder"]}, "'folder' is no reader"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(arguments: dict[str, Any], said: str) -> None:
    """What is wrong with a pipeline is an error that names the value and what is allowed, when it is made."""
    with pytest.raises(ConfigurationError, match=said):
        _pipeline(**arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "pipeline 'handbook' has nothing to ingest"),
        ({"documents": _DOCUMENTS[0]}, "a single Document; give a list"),
        ({"documents": ["text"]}, "str is no document"),
        ({"nodes": [Node(text="lost")]}, "names no parent"),
        ({"documents": _DOCUMENTS, "num_workers": 0}, "num_workers must be a whole number from 1 on, or None, not 0"),
        ({"documents": _DOCUMENTS, "num_workers": 1.5}, r"num_workers must be .*, not 1\.5"),
        (
            {"documents": _DOCUMENTS, "priority": "urgent"},
            "priority 'urgent' is unknown; allowed are high, normal, low",
        ),
        ({"documents": _DOCUMENTS, "cache_collection": "No"}, "cache_collection='No'"),
        ({"documents": _DOCUMENTS, "scope": "guides/"}, "scope 'guides/' says what may vanish, but with .*'upserts'"),
    ],
)
@pytest.mark.parametrize("call", ["enqueue", "run", "arun"])
def test_a_call_that_cannot_be_is_refused(call: str, arguments: dict[str, Any], said: str) -> None:
    """What is wrong with a call is said before any service is asked, whichever entry point it is."""
    method: Callable[..., Any] = getattr(_pipeline(), call)
    with pytest.raises(ConfigurationError, match=said):
        asyncio.run(method(**arguments)) if call == "arun" else method(**arguments)


def test_an_unknown_option_is_refused() -> None:
    """An option that `enqueue` does not have is a TypeError of `run` as well."""
    options: dict[str, Any] = {"scoop": "guides/"}
    with pytest.raises(TypeError, match="scoop"):
        _pipeline().run(_DOCUMENTS, **options)


def test_an_empty_source_is_no_job() -> None:
    """A source without a document is an error before any service is asked."""
    with pytest.raises(EmptySource):
        _pipeline(readers=[[]]).enqueue(iter([]))


def test_a_pipeline_is_kept_in_a_folder(tmp_path: Path) -> None:
    """A pipeline that was persisted is loaded as it was, with all that its spec says."""
    steps = [SentenceSplitter(chunk_size=64, chunk_overlap=8), Embed("hashed", batch_size=7)]
    made = _pipeline(
        transformations=steps,
        vector_store="sqlite",
        docstore_strategy="duplicates_only",
        collection="other",
        cache_collection="mine",
        disable_cache=True,
    )
    assert made.persist(tmp_path / "new" / "folder").name == "pipeline.json"
    assert IngestionPipeline.load(tmp_path / "new" / "folder").spec == made.spec
    products = _pipeline(transformations=steps, vector_store=None)
    products.persist(str(tmp_path))
    assert IngestionPipeline.load(str(tmp_path)).spec == products.spec


def test_persisting_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that cannot be written leaves the one that was there, and nothing else."""
    _pipeline(cache_collection="first").persist(tmp_path)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        _pipeline(cache_collection="second").persist(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.json"]
    assert IngestionPipeline.load(tmp_path).spec.cache_collection == "first"


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("{", "holds no pipeline"), ("{}", "name: ")])
def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    """Loading what is not there, or damaged, is an error that names the file."""
    if content is not None:
        (tmp_path / "pipeline.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"pipeline.json.*{said}"):
        IngestionPipeline.load(tmp_path)


def test_settings_of_a_pipeline_reach_its_workers() -> None:
    """All that was set, a default and a table too, travels to a worker's environment, and reads the same there."""
    steps = ({"name": "embed", "embedder": "hashed"},)
    given = load_settings(chunk_size=1024, modules="a,b", transformations=steps)
    variables = worker_environment(given)
    assert variables["DOCMILL_CHUNK_SIZE"] == "1024"
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        assert load_settings() == given
