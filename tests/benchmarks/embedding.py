"""`python -m tests.benchmarks.embedding`: what is left of an embedder's own speed, and of that of ever more workers.

A model that computes: nodes a second by two workers, over those of the model's own library in two processes; and the
same for docmill's embedder over that model, alone and in a loop that cuts the texts first. A service that answers after
100 ms, one call at once a process: nodes a second by so many workers over those of one, each with as much to do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator import Document, IngestionPipeline, JobState
from orchestrator.contracts.nodes import Node
from orchestrator.settings import load_settings
from tests.benchmarks.corpus import copy_corpus, standard_library
from tests.benchmarks.stack import Stack, warm_deployment
from tests.deployment import Deployment
from tests.openai_server import openai_stub
from tests.services import Services
from workers.embedders.registry import get_embedder
from workers.transformations import Embed, SentenceSplitter

_CORES = 2
_CALL_SECONDS = 0.1
_TEXTS_A_CALL = 8
_CALLS_A_BATCH = 5
_BATCHES_A_WORKER = 24
_PATIENCE_SECONDS = 900.0
_SPLITTER = SentenceSplitter(chunk_size=512, chunk_overlap=64)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.embedding", description=__doc__)
    parser.add_argument("--workers", default="1,2,4,8,16", help="numbers of worker processes; default: 1,2,4,8,16")
    parser.add_argument("--limit-mb", type=float, default=12.0, help="of texts for the model; default: 12")
    options = parser.parse_args()
    table = Table("embedder", "workers", "nodes", "seconds", "nodes a second", "of what it could be")
    services = Services()
    try:
        stack = Stack(services)
        for row in [*_computing(stack, services.folder, options.limit_mb), *_waiting(stack, services.folder, options)]:
            table.add_row(*row)
    finally:
        services.close()
    Console(width=110).print(table)


def _computing(stack: Stack, folder: Path, limit_mb: float) -> Iterator[tuple[str, ...]]:
    """wordllama: its library, our embedder over it, the same with a splitter, and all of docmill."""
    copied = folder / "texts"
    texts = copy_corpus(standard_library(), copied, max_bytes=int(limit_mb * 1e6)).texts()
    chunks = [node.text for text in texts.values() for node in _SPLITTER([Node(text=text)])]
    with ProcessPoolExecutor(_CORES, mp_context=get_context("spawn")) as processes:
        list(processes.map(_split_and_embed, [list(texts.values())[:20]] * 4 * _CORES))  # warm
        list(processes.map(_embed_by_library, [chunks[:64]] * 4 * _CORES))
        calls = [chunks[start : start + 64] for start in range(0, len(chunks), 64)]
        library = _seconds(processes.map(_embed_by_library, calls))
        alone = _seconds(processes.map(_embed_alone, calls))
        split = _seconds(processes.map(_split_and_embed, [[text] for text in texts.values()], chunksize=8))
    measured = (("wordllama, its own library", library), ("our embedder alone", alone), ("with the splitter", split))
    for what, seconds in measured:
        speed = len(chunks) / seconds
        yield what, str(_CORES), f"{len(chunks):,}", f"{seconds:.1f}", f"{speed:,.0f}", f"{library / seconds:.2f}"
    with _deployment(stack, folder / "computing", _CORES) as deployment:
        steps = [_SPLITTER, Embed("wordllama")]
        for name in ("warm", "texts"):
            found = texts if name == "texts" else dict(list(texts.items())[:50])
            documents = [Document(id=id, text=text) for id, text in found.items()]
            seconds, nodes = _ingest(
                deployment, IngestionPipeline(name, steps, connections=deployment.connections), documents
            )
    ratio = nodes / seconds / (len(chunks) / library)
    yield "wordllama, docmill", str(_CORES), f"{nodes:,}", f"{seconds:.1f}", f"{nodes / seconds:,.0f}", f"{ratio:.2f}"


def _seconds(results: Iterable[int]) -> float:
    """How long it takes to have them all."""
    started = time.perf_counter()
    list(results)
    return time.perf_counter() - started


def _embed_by_library(texts: list[str]) -> int:
    return len(_wordllama().embed(texts, norm=True))


@cache
def _wordllama() -> Any:
    import wordllama

    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def _embed_alone(texts: Sequence[str]) -> int:
    return len(get_embedder("wordllama").embed(texts))


def _split_and_embed(texts: Sequence[str]) -> int:
    return _embed_alone([node.text for text in texts for node in _SPLITTER([Node(text=text)])])


def _waiting(stack: Stack, folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """A server that takes its time, and more and more workers."""
    alone = 0.0
    with openai_stub() as server:
        server.dimension = 8
        for workers in map(int, options.workers.split(",")):
            settings = {"openai_base_url": server.url, "openai_api_key": "none", "llm_concurrency": 1}
            server.pause = 0.0
            with _deployment(stack, folder / f"waiting{workers}", workers, **settings) as deployment:
                steps = [
                    SentenceSplitter(chunk_size=64, chunk_overlap=8),
                    Embed("openai/slow", batch_size=_TEXTS_A_CALL),
                ]
                pipeline = IngestionPipeline("waiting", steps, connections=deployment.connections)
                server.pause = _CALL_SECONDS
                seconds, nodes = _ingest(deployment, pipeline, _short_texts(_BATCHES_A_WORKER * workers))
            alone = alone or nodes / seconds / workers
            share = nodes / seconds / workers / alone
            yield (
                f"waiting {1000 * _CALL_SECONDS:.0f} ms",
                str(workers),
                f"{nodes:,}",
                f"{seconds:.1f}",
                f"{nodes / seconds:,.0f}",
                f"{share:.2f}",
            )


def _short_texts(batches: int) -> list[Document]:
    """So many batches of documents of a node each."""
    return [
        Document(id=f"{batch}-{number}", text=f"Document {number} of batch {batch}, which says this and no more.")
        for batch in range(batches)
        for number in range(_TEXTS_A_CALL * _CALLS_A_BATCH)
    ]


def _ingest(deployment: Deployment, pipeline: IngestionPipeline, documents: Sequence[Document]) -> tuple[float, int]:
    """(seconds, nodes) from enqueue to the end."""
    started = time.perf_counter()
    report = deployment.wait(pipeline.enqueue(documents), _PATIENCE_SECONDS)
    seconds = time.perf_counter() - started
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, len(documents)), report
    return seconds, report.nodes.upserted


@contextmanager
def _deployment(stack: Stack, home: Path, workers: int, **changed: Any) -> Iterator[Deployment]:
    """Warm workers on an empty database and empty servers."""
    stack.fresh_redis()
    with stack.database() as database:
        settings = stack.settings(database, home)
        # A batch is so many calls: the weight of a document is its text and 512 bytes.
        changed = {"batch_bytes": 560 * _TEXTS_A_CALL * _CALLS_A_BATCH} | changed if changed else {}
        with warm_deployment(
            load_settings(**{**settings.model_dump(exclude_unset=True), **changed}), home, workers
        ) as warm:
            yield warm


if __name__ == "__main__":
    main()
