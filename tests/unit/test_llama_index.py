"""LlamaIndex's components and documents, and LangChain's documents, as docmill's plain data."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.documents import Document as LangChainDocument
from llama_index.core import MockEmbedding
from llama_index.core.extractors import TitleExtractor
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import (
    MarkdownNodeParser,
    NodeParser,
    SemanticSplitterNodeParser,
    SentenceSplitter,
    SentenceWindowNodeParser,
    TokenTextSplitter,
)
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode, TransformComponent
from llama_index.core.schema import Document as LlamaIndexDocument
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.vector_stores.postgres import PGVectorStore

from orchestrator import Document, IngestionPipeline, load_settings
from orchestrator.contracts.errors import ConfigurationError, TransientError, UnknownName
from orchestrator.contracts.llama_index import Component, describe, parse_label
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.spec import PipelineSpec, TransformationSpec
from orchestrator.foreign import ForeignDocument, as_documents
from orchestrator.sources import split_documents
from workers.embedders import get_embedder
from workers.embedders.registry import check_embedder_name, embedder_name
from workers.providers.llama_index import build_component, llama_index_errors
from workers.transformations import Embed
from workers.transformations.contract import build_transformation
from workers.vector_stores import open_vector_store

TEXT = "Postgres keeps a log. It writes the log first! Then come the pages.\n\n\nA second paragraph, of Ω and 漢字."


class Shout(TransformComponent):
    """A component of a user's own."""

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        return [TextNode(text=node.get_content().upper()) for node in nodes]


class Mute(TransformComponent):
    """A component that forgets to return the nodes."""

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Any:
        return None


class Moody(TransformComponent):
    """A component whose service raises what its library calls it."""

    error: str

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        raise type(self.error, (Exception,), {})("slow down")


class Remote(MockEmbedding):
    """A model behind an address."""

    api_key: str | None = None
    password: str | None = None
    base_url: str | None = None
    dsn: str | None = None
    urls: tuple[str, ...] = ()
    default_headers: dict[str, str] | None = None


OWN = tuple(f"{__name__}:{name}" for name in ("Shout", "Mute", "Moody", "Remote"))


def step_of(component: Component) -> TransformationSpec:
    """The spec that a pipeline makes of a component, once it has travelled."""
    settings = load_settings(llama_index_classes=OWN)
    spec = IngestionPipeline("p", [component, Embed("hashed")], settings=settings).spec
    return PipelineSpec.model_validate_json(spec.model_dump_json()).transformations[1]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes of this file are registered, as an operator does it on workers."""
    monkeypatch.setenv("DOCMILL_LLAMA_INDEX_CLASSES", ",".join(OWN))


@pytest.mark.parametrize(
    "component",
    [
        SentenceSplitter(chunk_size=60, chunk_overlap=5),
        TokenTextSplitter(chunk_size=60, chunk_overlap=5),
        MarkdownNodeParser(),
        SentenceWindowNodeParser.from_defaults(window_size=1),
        SemanticSplitterNodeParser(embed_model=MockEmbedding(embed_dim=3), buffer_size=2),
    ],
    ids=lambda component: type(component).__name__,
)
def test_a_component_does_on_a_worker_what_it_does_here(component: NodeParser) -> None:
    """Handed to a pipeline, through JSON, and rebuilt, a component makes the same texts of a document."""
    rebuilt = build_transformation(step_of(component))
    made = rebuilt([Node(text=TEXT, metadata={"source": "a"}, start=0, end=len(TEXT))])
    here = component([LlamaIndexDocument(text=TEXT, metadata={})])
    assert [node.text for node in made] == [node.get_content() for node in here]
    assert all(node.metadata["source"] == "a" for node in made)
    for node in made:
        if node.start is not None:
            assert TEXT[node.start : node.end] == node.text


def test_offsets_point_into_the_document() -> None:
    """A chunk of a chunk has its span in the document, and the same text twice is no reason for a wrong one."""
    step = build_transformation(step_of(SentenceSplitter(chunk_size=60, chunk_overlap=0)))
    text = "padding " + TEXT * 6
    made = step([Node(text=text[8:], start=8, end=len(text))])
    assert len(made) > 2
    assert [text[node.start : node.end] for node in made] == [node.text for node in made]


def test_metadata_take_no_room_in_a_chunk() -> None:
    """Long metadata leave the chunks as they are: docmill embeds a node's text alone."""
    step = build_transformation(step_of(SentenceSplitter(chunk_size=60, chunk_overlap=0)))
    bare = step([Node(text=TEXT * 5)])
    described = step([Node(text=TEXT * 5, metadata={"long": "word " * 500})])
    assert [node.text for node in bare] == [node.text for node in described]


def test_what_only_changes_the_speed_is_not_in_the_fingerprint() -> None:
    """num_workers, progress and retries stay out of the fingerprint; chunk size, class and release are in it."""
    slow, fast = (TitleExtractor(llm=MockLLM(), num_workers=workers, show_progress=False) for workers in (1, 8))
    assert step_of(slow).fingerprint == step_of(fast).fingerprint
    assert step_of(slow).tuning != step_of(fast).tuning
    assert step_of(TitleExtractor(llm=MockLLM(), nodes=2)).fingerprint != step_of(slow).fingerprint
    small, large = step_of(SentenceSplitter(chunk_size=300)), step_of(SentenceSplitter(chunk_size=400))
    assert small.fingerprint != large.fingerprint
    assert small.parameters["release"] == "0.14"


def test_a_component_within_a_component_travels() -> None:
    """An extractor comes with its language model, both by their registered names."""
    spec = step_of(TitleExtractor(llm=MockLLM(max_tokens=3), nodes=2))
    assert spec.parameters["state"]["llm"]["class_name"] == "MockLLM"
    [node] = build_transformation(spec)([Node(text=TEXT)])
    assert node.text == TEXT
    assert "document_title" in node.metadata


def test_the_spec_names_no_place_in_code() -> None:
    """Nothing in a spec says where code is: neither a module nor a function."""
    written = json.dumps(
        [step_of(SentenceSplitter()).model_dump(), step_of(TitleExtractor(llm=MockLLM())).model_dump()]
    )
    assert "llama_index." not in written
    assert "id_func" not in written


def test_a_class_that_nobody_registered_is_refused() -> None:
    """A pipeline refuses a component of an unregistered class, and says how an operator registers it."""
    with pytest.raises(ConfigurationError, match=r"DOCMILL_LLAMA_INDEX_CLASSES=.*test_llama_index:Shout"):
        IngestionPipeline("p", [Shout(), Embed("hashed")])


def test_a_name_is_not_enough() -> None:
    """A user's class that has the name of a registered one is not taken for it."""
    impostor = type("SentenceSplitter", (Shout,), {"__module__": __name__})
    with pytest.raises(ConfigurationError, match="is not registered"):
        IngestionPipeline("p", [impostor(), Embed("hashed")])


@pytest.mark.usefixtures("registered")
def test_a_class_of_ones_own_runs_where_it_is_registered() -> None:
    """A component of a user's own is built by name on a worker whose operator allows it."""
    [node] = build_transformation(step_of(Shout()))([Node(text="quiet")])
    assert node.text == "QUIET"


@pytest.mark.parametrize("name", ["Shout", "os", "llama_index.core.node_parser:SentenceSplitter", "subprocess.Popen"])
def test_a_worker_builds_only_what_is_registered(name: str) -> None:
    """Whatever a spec asks for, a worker imports nothing that is not registered with it."""
    spec = step_of(SentenceSplitter())
    forged = spec.model_copy(update={"parameters": {**spec.parameters, "component": name}})
    with pytest.raises(ConfigurationError, match="unknown LlamaIndex class"):
        build_transformation(forged)
    with pytest.raises(UnknownName):
        build_component("SemanticSplitterNodeParser", {"embed_model": {"class_name": name}})


def test_another_release_is_refused() -> None:
    """A worker with another release of LlamaIndex does not run the step; the error names both."""
    spec = step_of(SentenceSplitter())
    older = spec.model_copy(update={"parameters": {**spec.parameters, "release": "0.9"}})
    with pytest.raises(ConfigurationError, match=r"0\.14 here, but the pipeline was made with 0\.9"):
        build_transformation(older)([Node(text=TEXT)])


@pytest.mark.parametrize(
    "component",
    [SentenceSplitter(tokenizer=str.split), SentenceSplitter(tokenizer=lambda text: list(text)),
     SentenceSplitter(chunking_tokenizer_fn=lambda text: [text])],
    ids=["method", "lambda", "sentences"],
)  # fmt: skip
def test_a_function_is_refused_rather_than_lost(component: SentenceSplitter) -> None:
    """A component with a function of its own, which to_dict leaves out, is refused by the function's name."""
    with pytest.raises(ConfigurationError, match=r"tokenizer.* no code travels"):
        IngestionPipeline("p", [component, Embed("hashed")])


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": "sk-1234567890"},
        {"password": "hunter2"},
        {"default_headers": {"Authorization": "Bearer abc"}},
        {"default_headers": {"X-Api-Key": "abc"}},
        {"base_url": "https://user:hunter2@models.internal/v1"},
        {"dsn": "host=db password=hunter2"},
        {"urls": ["https://a", "postgresql://u:hunter2@db/x"]},
    ],
    ids=json.dumps,
)
def test_a_secret_is_refused(fields: dict[str, Any]) -> None:
    """A state with a secret in it is refused, by the field and the variable to set; the secret is not in the error."""
    with pytest.raises(ConfigurationError, match=r"holds a secret in .*DOCMILL_SECRET_REMOTE_") as refused:
        describe(Remote(embed_dim=3, **fields), OWN)
    assert not any(secret in str(refused.value) for secret in ("sk-1234567890", "hunter2", "abc"))
    with pytest.raises(ConfigurationError, match=r"holds a secret in"):
        parse_label("llama_index/MockEmbedding " + json.dumps(fields))


@pytest.mark.parametrize("fields", [{"window_metadata_key": "window"}, {"max_tokens": 5}, {"eos_token": "</s>"}])
def test_what_only_sounds_like_a_secret_travels(fields: dict[str, Any]) -> None:
    """Names of metadata keys and numbers of tokens are no secrets."""
    assert parse_label("llama_index/MockEmbedding " + json.dumps(fields))[1] == fields


def test_a_secret_of_the_environment_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that stands in the environment is left out of the spec, and a worker takes it from its own."""
    addresses = {
        "CONNECTION_STRING": "postgresql+psycopg2://user:hunter2@client/db",
        "ASYNC_CONNECTION_STRING": "postgresql+asyncpg://user:hunter2@client/db",
    }
    for field, address in addresses.items():
        monkeypatch.setenv(f"DOCMILL_SECRET_PGVECTORSTORE_{field}", address)
    store = PGVectorStore.from_params(
        connection_string=addresses["CONNECTION_STRING"],
        async_connection_string=addresses["ASYNC_CONNECTION_STRING"],
        table_name="handbook",
        embed_dim=256,
    )
    spec = IngestionPipeline("p", [Embed("hashed")], vector_store=store).spec
    assert "hunter2" not in spec.model_dump_json()
    monkeypatch.setenv("DOCMILL_SECRET_PGVECTORSTORE_CONNECTION_STRING", "postgresql+psycopg2://worker:x@there/db")
    assert spec.vector_store is not None
    rebuilt = build_component(*parse_label(spec.vector_store))
    assert rebuilt.connection_string == "postgresql+psycopg2://worker:x@there/db"
    assert rebuilt.async_connection_string == addresses["ASYNC_CONNECTION_STRING"]
    assert (rebuilt.table_name, rebuilt.embed_dim) == ("handbook", 256)


def test_a_store_in_memory_is_refused() -> None:
    """LlamaIndex's SimpleVectorStore lives in one process, and is refused with what to use."""
    with pytest.raises(ConfigurationError, match=r"SimpleVectorStore keeps vectors in the memory.*PGVectorStore"):
        IngestionPipeline("p", [Embed("hashed")], vector_store=SimpleVectorStore())


@pytest.mark.parametrize("store", ["chroma", "llama_index/", "llama_index/PGVectorStore {", "llama_index/x:y {}"])
def test_a_store_that_is_none_is_refused(store: str) -> None:
    """A name that is no vector store's is refused when the pipeline is made."""
    with pytest.raises(ConfigurationError, match=r"allowed are pgvector, sqlite|does not name|does not hold"):
        IngestionPipeline("p", [Embed("hashed")], vector_store=store)


def test_an_embedding_becomes_the_last_step() -> None:
    """A LlamaIndex embedding is an embedder by a name that makes it again, with its own batch size as tuning."""
    spec = IngestionPipeline("p", [MockEmbedding(embed_dim=5, embed_batch_size=7)]).spec
    assert spec.transformations[-1].tuning == {"batch_size": 7}
    assert spec.embedder is not None
    check_embedder_name(spec.embedder)
    embedder = get_embedder(spec.embedder)
    assert (embedder.dimension, embedder_name(embedder.model)) == (5, spec.embedder)
    matrix = embedder.embed(["a word", "", "another"])
    assert matrix.shape == (3, 5)
    assert matrix[0].tolist() == pytest.approx([5**-0.5] * 5)
    assert not matrix[1].any()
    faster = IngestionPipeline("p", [MockEmbedding(embed_dim=5, embed_batch_size=70, num_workers=4)]).spec
    assert faster.fingerprint == spec.fingerprint


@pytest.mark.parametrize("error", ["RateLimitError", "APIConnectionError", "ReadTimeout"])
def test_what_passes_is_tried_again(error: str) -> None:
    """A busy or silent service beneath LlamaIndex is a transient error, whatever its library calls it."""
    base = type("TimeoutError" if error == "ReadTimeout" else error, (Exception,), {})
    with pytest.raises(TransientError, match=f"{error}: slow down"), llama_index_errors():
        raise type(error, (base,), {})("slow down")


@pytest.mark.usefixtures("registered")
def test_what_does_not_pass_fails_its_document() -> None:
    """Any other error of a component comes out as it is, for its document alone to fail."""
    with pytest.raises(Exception, match="slow down") as raised:
        build_transformation(step_of(Moody(error="BadRequestError")))([Node(text=TEXT)])
    assert type(raised.value).__name__ == "BadRequestError"
    with pytest.raises(TransientError, match="RateLimitError: slow down"):
        build_transformation(step_of(Moody(error="RateLimitError")))([Node(text=TEXT)])


def converted(*documents: Document | ForeignDocument) -> list[tuple[str, str | None]]:
    return [(document.id, document.text) for document in as_documents(documents)]


def test_documents_of_other_libraries_keep_what_they_say() -> None:
    """Id, text and metadata come over, with the keys that LlamaIndex excludes; docmill's own are left alone."""
    own = Document(id="own", text="text")
    theirs = LlamaIndexDocument(
        id_="a", text="text", metadata={"k": [1]}, excluded_llm_metadata_keys=["k"], metadata_template="{key}"
    )
    langchain = LangChainDocument(id="b", page_content="text", metadata={"source": "b.txt"})
    first, second, third = as_documents([own, theirs, langchain])
    assert first is own
    assert second == Document(id="a", text="text", metadata={"k": [1], "excluded_llm_metadata_keys": ["k"]})
    assert third == Document(id="b", text="text", metadata={"source": "b.txt"})


def test_an_id_that_was_made_up_is_not_used() -> None:
    """Without an id of its own a document is named by its source, or by its content, at every run alike."""
    for _ in range(2):
        named, unnamed, langchain = as_documents(
            [
                LlamaIndexDocument(text="x", metadata={"file_path": "a/b.txt"}),
                LlamaIndexDocument(text="x"),
                LangChainDocument(page_content="y", metadata={"source": "c.txt"}),
            ]
        )
        assert (named.name, langchain.name) == ("a/b.txt", "c.txt")
        assert unnamed.name == Document(text="x").name


def test_pages_of_one_source_stay_apart() -> None:
    """Documents of one source are numbered from the second on, also when another stands between them."""
    pages = [LangChainDocument(page_content=text, metadata={"source": "a.pdf"}) for text in "xyz"]
    other = LangChainDocument(page_content="o", metadata={"source": "o.pdf"})
    assert converted(pages[0], pages[1], other, pages[2]) == [
        ("a.pdf", "x"),
        ("a.pdf#2", "y"),
        ("o.pdf", "o"),
        ("a.pdf#3", "z"),
    ]


def test_nodes_are_named_by_what_they_were_cut_from() -> None:
    """A node's id is made up anew at each run; its document's is not."""
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="a")}
    nodes = [TextNode(text=text, relationships=source) for text in "xy"]
    assert converted(*nodes, TextNode(text="z", id_="mine")) == [("a", "x"), ("a#2", "y"), ("mine", "z")]


def test_nodes_of_llama_index_are_handed_in_by_their_documents() -> None:
    """Nodes that LlamaIndex has split are gathered by the document they were cut from, with metadata and spans."""
    texts = {"a": TEXT * 3, "b": "Something else."}
    documents = [LlamaIndexDocument(text=text, id_=id, metadata={"of": id}) for id, text in texts.items()]
    nodes = SentenceSplitter(chunk_size=30, chunk_overlap=0).get_nodes_from_documents(documents)
    found = {document.id: document.nodes for document in split_documents(nodes)}
    assert list(found) == ["a", "b"]
    assert [len(of_parent) for of_parent in found.values()] == [len(nodes) - 1, 1]
    assert len(nodes) > 3
    for parent, of_parent in found.items():
        for node in of_parent:
            assert (node.metadata, texts[parent][node.start : node.end]) == ({"of": parent}, node.text)
    with pytest.raises(ConfigurationError, match=r"nodes\[0\] \('lost'\) names no parent: .*relationships"):
        split_documents([TextNode(text="lost")])


@pytest.mark.usefixtures("registered")
def test_a_component_that_returns_no_nodes_ends_the_job() -> None:
    """A component that returns something else than nodes is at fault itself: the error names it and the value."""
    with pytest.raises(ConfigurationError, match="LlamaIndex's Mute returned None; allowed is a list of nodes"):
        build_transformation(step_of(Mute()))([Node(text="x")])


def test_what_is_no_document_is_refused() -> None:
    """Something else than a document is refused by the name of its class."""
    with pytest.raises(ConfigurationError, match="dict is no document: allowed are"):
        list(as_documents([{"text": "x"}]))  # type: ignore[list-item]  # what is tested
    with pytest.raises(ConfigurationError, match="str is no transformation"):
        IngestionPipeline("p", ["SentenceSplitter", Embed("hashed")])  # type: ignore[list-item]  # what is tested


def test_nothing_of_llama_index_is_imported_unless_used() -> None:
    """A pipeline without LlamaIndex, and a worker that opens its modules, import nothing of it, nor of LangChain."""
    program = """
import sys
from orchestrator import Document, IngestionPipeline
from orchestrator.foreign import as_documents
from workers.transformations import Embed, SentenceSplitter
from workers.transformations.contract import build_transformation
from workers.transformations.llama_index import LlamaIndexTransformation
import workers.embedders.llama_index, workers.vector_stores.llama_index, workers.embedders.registry
spec = IngestionPipeline("p", [SentenceSplitter(), Embed("hashed")]).spec
list(as_documents([Document(text="x")]))
step = LlamaIndexTransformation(component="SentenceSplitter", state={"chunk_size": 100})
IngestionPipeline("q", [step, Embed('llama_index/MockEmbedding {"embed_dim": 3}')],
                  vector_store='llama_index/PGVectorStore {"table_name": "t"}')
[build_transformation(each) for each in spec.transformations]
print(sorted({name.partition(".")[0] for name in sys.modules} & {"llama_index", "langchain_core", "nltk", "numpy"}))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCMILL_")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_store_is_opened_without_its_library() -> None:
    """Opening the store builds nothing yet; an unregistered class is refused at once."""
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")
    open_vector_store('llama_index/PGVectorStore {"table_name": "t"}', engine, load_settings().home)
    with pytest.raises(UnknownName, match="'Other'"):
        open_vector_store("llama_index/Other {}", engine, load_settings().home)
