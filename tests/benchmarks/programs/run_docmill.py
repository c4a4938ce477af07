"""docmill's client: enqueue a folder, or its texts, and wait. The workers are the harness's."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orchestrator.dispatch  # noqa: F401 - what the first enqueue would load: start-up is not measured
from orchestrator import Document, IngestionPipeline
from orchestrator.reader import FileReader
from tests.benchmarks.programs.protocol import CHUNK_OVERLAP, CHUNK_SIZE, DIMENSION, files, serve
from workers.transformations import Embed, SentenceSplitter

_PATIENCE_SECONDS = 3600.0


def main(folder: Path, source: str) -> None:
    pipeline = IngestionPipeline(
        "bench",
        [SentenceSplitter(chunk_size=CHUNK_SIZE, chunk_overlap=CHUNK_OVERLAP), Embed(f"constant/{DIMENSION}")],
    )
    pipeline.connections.check()

    def documents() -> Iterable[Document]:
        if source == "folder":
            return FileReader(folder)
        return (Document(id=name, text=path.read_text(encoding="utf-8")) for name, path in files(folder))

    def ingest() -> dict[str, Any]:
        report = pipeline.run(documents(), timeout=_PATIENCE_SECONDS)
        counts = report.documents
        return {
            "job": report.job_id,
            "state": report.state,
            "changed": counts.new + counts.changed,
            "unchanged": counts.unchanged,
        }

    serve(ingest)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3])
