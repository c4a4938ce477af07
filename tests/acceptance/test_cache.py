"""What is paid for again, and what is not: by the report, and by counting what the workers really did."""

import json
from collections.abc import Iterator, Sequence
from uuid import uuid4

import pytest

from orchestrator import Document, IngestionPipeline, JobState, Report
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.nodes import Node
from orchestrator.runtime import worker_environment
from tests.deployment import Deployment, deployment_settings, run_docmill
from tests.transformations import Slow
from workers.search import search
from workers.tokens import get_tokenizer
from workers.transformations import Embed, SentenceSplitter

pytestmark = pytest.mark.acceptance

_COUNT = 100


def corpus() -> list[Document]:
    return [document(number) for number in range(_COUNT)]


def document(number: int, **edits: str) -> Document:
    """A document of six paragraphs, each of which is a node or more; `paragraph2="…"` replaces one."""
    paragraphs = [
        " ".join(f"Sentence {line} of paragraph {index} tells of topic{number}x{index}." for line in range(4))
        for index in range(6)
    ]
    for name, text in edits.items():
        paragraphs[int(name.removeprefix("paragraph"))] = text
    return Document(id=f"doc{number}", text="\n\n".join(paragraphs), metadata={"source": f"doc{number}"})


def split(document: Document) -> set[str]:
    """The texts of a document's nodes, as the workers' splitter makes them."""
    return {node.text for node in SentenceSplitter(chunk_size=64, chunk_overlap=8)([Node(document.text or "")])}


class Bench:
    """Pipelines over one cache, and a log of the documents that their first step was run for.

    Collections and cache collections have names of this bench's own: tests share workers, ledger and cache.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.prefix = uuid4().hex[:8]
        self.log = deployment.folder / "executions.log"

    def ingest(
        self,
        collection: str,
        documents: Sequence[Document],
        *,
        chunk_size: int = 64,
        embedder: str = "hashed",
        batch_size: int = 64,
        cache_collection: str | None = None,
        disable_cache: bool = False,
        fails: bool = False,
    ) -> tuple[Report, list[str]]:
        """The report of a job, and for which documents the first step was run."""
        self.log.write_text("")
        pipeline = IngestionPipeline(
            self.named(collection),
            [
                Slow(seconds=0, log=str(self.log)),
                SentenceSplitter(chunk_size=chunk_size, chunk_overlap=8),
                Embed(embedder, batch_size=batch_size),
            ],
            connections=self.deployment.connections,
            disable_cache=disable_cache,
        )
        report = self.deployment.wait(pipeline.enqueue(documents, cache_collection=cache_collection or self.prefix))
        assert report.state is (JobState.FAILED if fails else JobState.SUCCEEDED), report
        return report, self.log.read_text().split()

    def named(self, collection: str) -> str:
        """A collection of this bench."""
        return f"{self.prefix}-{collection}"

    def nodes(self, collection: str) -> int:
        """How many nodes the vector store has of a collection."""
        return len(self.deployment.nodes(self.named(collection)))


@pytest.fixture(scope="module")
def deployment(
    request: pytest.FixtureRequest,
    postgres_url: str,
    redis_url: str,
    cache_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """Workers with a cache of the kind that a test asks for, which the tests of a kind share."""
    folder = tmp_path_factory.mktemp(request.param)
    urls = {
        "redis": cache_url,
        "sqlite": f"sqlite:///{folder / 'cache.sqlite'}",
        "postgresql": postgres_url,
        "memory": "memory://",
    }
    deployment = Deployment(deployment_settings(postgres_url, redis_url, urls[request.param], folder), folder)
    deployment.start_worker(concurrency=2)
    yield deployment
    deployment.close()


@pytest.fixture
def bench(deployment: Deployment) -> Bench:
    """Collections that no other test has."""
    return Bench(deployment)


def on(*kinds: str) -> pytest.MarkDecorator:
    """Run a test with caches of these kinds."""
    return pytest.mark.parametrize("deployment", kinds, indirect=True)


def _docmill(deployment: Deployment, *arguments: str) -> str:
    ended = run_docmill(arguments, worker_environment(deployment.settings))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@on("redis", "sqlite", "postgresql")
def test_only_what_changed_is_paid_for(bench: Bench) -> None:
    """Of 100 documents with one edited, one is split and only its changed nodes embedded; order and borders cost 0."""
    first, ran = bench.ingest("handbook", corpus())
    assert sorted(ran) == sorted(found.id for found in corpus())
    assert (first.documents.new, first.cache.hits) == (_COUNT, 0)

    edited = corpus()
    edited[42] = document(42, paragraph2="This paragraph is new, and tells of something else. " * 4)
    again, ran = bench.ingest("handbook", edited)
    assert (again.documents.changed, again.documents.unchanged, ran) == (1, _COUNT - 1, ["doc42"])
    fresh, kept = split(edited[42]) - split(document(42)), split(edited[42]) & split(document(42))
    assert 0 < len(fresh) < len(kept)
    assert again.tokens.embedding == sum(get_tokenizer().count_many(fresh))
    assert (again.cache.hits, again.cache.misses) == (len(kept), 1 + len(fresh)), "the first step, and the new nodes"

    # Another collection of vectors: dedupe knows none of these documents, so that the cache alone answers.
    reordered, ran = bench.ingest("reordered", edited[::-1])
    assert (reordered.documents.new, ran) == (_COUNT, [])
    assert (reordered.tokens.embedding, reordered.cache.misses) == (0, 0)
    assert reordered.nodes.upserted == bench.nodes("reordered")

    tuned, ran = bench.ingest("handbook", edited, batch_size=7)
    assert (tuned.documents.unchanged, tuned.tokens.embedding, ran) == (_COUNT, 0, [])
    elsewhere, ran = bench.ingest("tuned", edited, batch_size=7)
    assert (elsewhere.documents.new, elsewhere.tokens.embedding, elsewhere.cache.misses, ran) == (_COUNT, 0, 0, [])


@on("redis")
def test_another_splitter_or_model_is_paid_for(bench: Bench) -> None:
    """Another splitter makes and embeds all nodes anew, another model embeds all; search never shows two models'."""
    first, _ = bench.ingest("handbook", corpus())

    split, ran = bench.ingest("handbook", corpus(), chunk_size=32)
    assert split.documents.changed == _COUNT
    assert ran == [], "the step before the splitter is known"
    assert split.cache.hits == _COUNT
    assert split.tokens.embedding >= first.tokens.embedding * 0.8
    assert split.nodes.upserted == bench.nodes("handbook")

    other, ran = bench.ingest("handbook-64", corpus(), chunk_size=32, embedder="hashed/64")
    assert (other.documents.new, ran) == (_COUNT, [])
    assert other.tokens.embedding == split.tokens.embedding
    deployment = bench.deployment
    mixed, _ = bench.ingest("handbook", corpus(), chunk_size=32, embedder="hashed/64", fails=True)
    assert "vectors of 'hashed/256' with 256" in str(mixed.error)
    assert "this pipeline makes vectors of 'hashed/64' with 64" in str(mixed.error)
    assert (mixed.tokens.embedding, mixed.nodes.upserted) == (0, 0), "refused before it was paid for"
    for collection, model in (("handbook", "hashed/256"), ("handbook-64", "hashed/64")):
        name = bench.named(collection)
        found = search(deployment.connections.engine, deployment.settings, "topic7x3", collection=name, k=5)
        assert {match.id for match in found} <= {node for _, node in deployment.nodes(name)}
        assert len(found) == 5
        held = deployment.store.describe(name)
        assert held is not None
        assert held.model == model


@on("postgresql")
def test_cache_collections_and_no_cache(bench: Bench) -> None:
    """Entries of another cache collection are not found; without a cache nothing is looked up, and nothing kept."""
    documents = corpus()[:10]
    first, _ = bench.ingest("one", documents, cache_collection=bench.named("drafts"))
    other, ran = bench.ingest("two", documents)
    assert (other.tokens.embedding, other.cache.hits, len(ran)) == (first.tokens.embedding, 0, 10)
    same, ran = bench.ingest("three", documents, cache_collection=bench.named("drafts"))
    assert (same.tokens.embedding, same.cache.misses, ran) == (0, 0, [])
    none, ran = bench.ingest("four", documents, disable_cache=True)
    assert (none.tokens.embedding, len(ran)) == (first.tokens.embedding, 10)
    assert (none.cache.hits, none.cache.misses) == (0, 0)
    with pytest.raises(ConfigurationError, match="cache_collection='No Name'"):
        bench.ingest("five", documents, cache_collection="No Name")


@on("sqlite")
def test_stats_and_clear(bench: Bench) -> None:
    """`docmill cache` counts entries and look-ups by cache collection, and forgets one or all."""
    documents = corpus()[:10]
    deployment, counted, kept = bench.deployment, bench.named("counted"), bench.named("kept")
    report, _ = bench.ingest("a", documents, cache_collection=counted)
    hit, _ = bench.ingest("b", documents, cache_collection=counted)
    bench.ingest("c", documents, cache_collection=kept)

    (found,) = json.loads(_docmill(deployment, "cache", "stats", "-c", counted, "--json"))["collections"]
    assert found["entries"] == report.cache.misses
    assert found["bytes"] > 1024 * report.nodes.upserted, "a vector of 256 floats for each node"
    assert (found["hits"], found["misses"]) == (hit.cache.hits, report.cache.misses)

    shown = _docmill(deployment, "cache", "stats")
    assert shown.splitlines()[0].split("\t") == ["collection", "entries", "bytes", "hits", "misses"]
    assert {counted, kept} <= {line.split("\t")[0] for line in shown.splitlines()}

    cleared = json.loads(_docmill(deployment, "cache", "clear", "--collection", counted, "--json"))
    assert cleared == {"collection": counted, "entries": found["entries"]}
    still, ran = bench.ingest("d", documents, cache_collection=kept)
    assert (still.tokens.embedding, ran) == (0, [])
    assert "entries of the cache forgotten" in _docmill(deployment, "cache", "clear")
    gone, ran = bench.ingest("e", documents, cache_collection=kept)
    assert (gone.tokens.embedding, len(ran)) == (report.tokens.embedding, 10)


@on("memory")
def test_what_is_in_memory_is_seen_by_no_command(bench: Bench) -> None:
    """A cache in the workers' memory serves their jobs; commands that cannot see it say so."""
    report, _ = bench.ingest("in-memory", corpus()[:3])
    assert report.cache.misses > 0
    for command in ("stats", "clear"):
        ended = run_docmill(["cache", command], worker_environment(bench.deployment.settings))
        assert ended.returncode == 1
        assert "memory of each worker process" in ended.stderr


@on("redis", "sqlite")
def test_doctor_looks_at_the_cache(bench: Bench) -> None:
    """`docmill doctor` asks the cache wherever it is, and finds it well."""
    # Its exit code says whether all is well, and the workers may not have started yet.
    ended = run_docmill(["doctor", "--json"], worker_environment(bench.deployment.settings))
    checks = json.loads(ended.stdout)["checks"]
    (cache,) = [check for check in checks if check["name"] == "cache"]
    assert cache["ok"]
    assert cache["message"].startswith(("unix://", "redis+socket://", "sqlite:///", "postgresql"))
