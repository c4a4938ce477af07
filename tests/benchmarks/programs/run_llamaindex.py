"""LlamaIndex's IngestionPipeline on pgvector, in an environment of its own.

In its best mode: no cache, which a first run only pays for, and a docstore in memory, which knows what is unchanged as
long as this process lives. Its own splitter, which shares none of its work between documents.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from llama_index.core import Document
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.postgres import PGVectorStore

from tests.benchmarks.programs.protocol import CHUNK_OVERLAP, CHUNK_SIZE, DIMENSION, files, serve


def main(folder: Path, address: str, workers: int) -> None:
    place = address.removeprefix("postgresql://")
    store = PGVectorStore(
        connection_string=f"postgresql+psycopg2://{place}",
        async_connection_string=f"postgresql+asyncpg://{place}",
        table_name="nodes",
        embed_dim=DIMENSION,
    )
    pipeline = IngestionPipeline(
        transformations=[
            SentenceSplitter(chunk_size=CHUNK_SIZE, chunk_overlap=CHUNK_OVERLAP),
            MockEmbedding(embed_dim=DIMENSION),
        ],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
        disable_cache=True,
    )

    def ingest() -> dict[str, Any]:
        documents = [Document(id_=name, text=path.read_text(encoding="utf-8")) for name, path in files(folder)]
        pipeline.run(documents=documents, num_workers=workers if workers > 1 else None)
        return {}

    serve(ingest)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
