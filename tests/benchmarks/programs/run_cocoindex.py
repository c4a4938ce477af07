"""CocoIndex 1.0 on pgvector, in an environment of its own: a component a file, a row a chunk, nothing more.

The chunks are cut by the same splitter as ours and the bare loop's: its own counts characters, not tokens.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import cocoindex as coco  # type: ignore[import-not-found]
import numpy as np
import toktok
from cocoindex.connectors import localfs, postgres  # type: ignore[import-not-found]
from cocoindex.resources.schema import VectorSchema  # type: ignore[import-not-found]
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter

from tests.benchmarks.programs.protocol import CHUNK_OVERLAP, CHUNK_SIZE, DIMENSION, ENCODING, serve

_DATABASE = coco.ContextKey[asyncpg.Pool]("database")
_VECTOR = np.full(DIMENSION, DIMENSION**-0.5, dtype=np.float32)

_count = toktok._encoding(ENCODING).count
_splitter = TextSplitter.from_callback(_count, CHUNK_SIZE, overlap=CHUNK_OVERLAP)


@coco.lifespan  # type: ignore[untyped-decorator]
async def _resources(builder: Any) -> AsyncIterator[None]:
    async with asyncpg.create_pool(sys.argv[2]) as pool:
        builder.provide(_DATABASE, pool)
        yield


@dataclass
class _Node:
    document_id: str
    position: int
    text_start: int
    text: str
    token_count: int
    embedding: Annotated[NDArray[np.float32], VectorSchema(dtype=np.dtype(np.float32), size=DIMENSION)]


@coco.fn(memo=True)  # type: ignore[untyped-decorator]
async def _ingest_file(file: Any, folder: Path, table: Any) -> None:
    text = (await file.read()).decode("utf-8")
    name = file.file_path.resolve().relative_to(folder).as_posix()
    for position, (start, chunk) in enumerate(_splitter.chunk_indices(text)):
        table.declare_row(row=_Node(name, position, start, chunk, _count(chunk), _VECTOR))


@coco.fn  # type: ignore[untyped-decorator]
async def _ingest_folder(folder: Path) -> None:
    schema = await postgres.TableSchema.from_class(_Node, primary_key=["document_id", "position"])
    table = await postgres.mount_table_target(_DATABASE, "nodes", schema)
    await coco.mount_each(_ingest_file, localfs.walk_dir(folder, recursive=True).items(), folder, table)


def main(folder: Path) -> None:
    app = coco.App(coco.AppConfig(name="bench"), _ingest_folder, folder=folder)

    def ingest() -> dict[str, Any]:
        app.update_blocking()
        return {}

    serve(ingest)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
