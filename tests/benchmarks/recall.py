"""Recall of a search over a labelled corpus: `python -m tests.benchmarks.recall FOLDER [--embedder NAME]`.

FOLDER holds corpus.jsonl (id, text), queries.jsonl (id, text) and qrels.tsv (query-id, corpus-id, score). The corpus
is ingested by docmill's own workers; each query is searched as `docmill search` would.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

from orchestrator import Document, IngestionPipeline, Runtime, load_settings
from workers.search import search
from workers.transformations import Embed, SentenceSplitter

_DEPTH = 10


def read_lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--embedder", default="wordllama")
    parser.add_argument("--queries", type=int, default=0, help="the first so many; 0 for all")
    options = parser.parse_args()
    with (options.folder / "qrels.tsv").open(encoding="utf-8") as lines:
        wanted = {row["query-id"]: row["corpus-id"] for row in csv.DictReader(lines, delimiter="\t")}
    queries = list(read_lines(options.folder / "queries.jsonl"))[: options.queries or None]
    with Runtime(load_settings(), workers=None) as runtime:
        pipeline = IngestionPipeline(
            "recall-" + options.embedder.replace("/", "-"),
            [SentenceSplitter(chunk_size=512, chunk_overlap=64), Embed(options.embedder)],
            connections=runtime.connections,
        )
        documents = (Document(id=row["id"], text=row["text"]) for row in read_lines(options.folder / "corpus.jsonl"))
        report = pipeline.run(documents)
        print(report.model_dump_json())  # noqa: T201 - what the program is for
        ranks = []
        for query in queries:
            found = search(
                runtime.connections.engine,
                runtime.settings,
                query["text"],
                collection=pipeline.spec.collection,
                k=_DEPTH,
            )
            ids = [match.document_id for match in found]
            ranks.append(ids.index(wanted[query["id"]]) if wanted[query["id"]] in ids else _DEPTH)
    first = sum(rank == 0 for rank in ranks) / len(ranks)
    top = sum(rank < _DEPTH for rank in ranks) / len(ranks)
    print(f"{len(ranks)} queries, {options.embedder}: recall@1 {first:.3f}, recall@{_DEPTH} {top:.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
