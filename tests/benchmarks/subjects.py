"""Subjects: what is measured, how each is started, and where its nodes can be read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.environments import environment_python

__all__ = ["SUBJECTS", "Subject"]

_OUR_NODES = "SELECT document_id, text_start, text, token_count FROM nodes_bench ORDER BY document_id, position"
_PLAIN_NODES = "SELECT document_id, text_start, text, token_count FROM nodes ORDER BY document_id, position"
_LLAMAINDEX_NODES = """
SELECT metadata_->>'doc_id', (CAST(metadata_->>'_node_content' AS json)->>'start_char_idx')::int, text, NULL
FROM data_nodes ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to ingest a folder.

    Attributes:
        name: on the command line and in the results.
        label: in the table.
        program: module that runs it.
        nodes: the query for (document id, first character, text, tokens or NULL) of all nodes.
        python: gives the interpreter; raises NotInstalled.
        arguments: the program's, after the folder and the database's address.
        ours: it uses docmill's workers and Redis.
    """

    name: str
    label: str
    program: str
    nodes: str
    python: Callable[[], Path] = lambda: Path(sys.executable)
    arguments: tuple[str, ...] = ("",)
    ours: bool = False


def _docmill(name: str, label: str, source: str) -> Subject:
    return Subject(
        *(name, label, "run_docmill", _OUR_NODES),
        python=lambda: environment_python("docmill"),
        arguments=(source,),
        ours=True,
    )


def _llamaindex(name: str, label: str, workers: int) -> Subject:
    return Subject(
        *(name, label, "run_llamaindex", _LLAMAINDEX_NODES),
        python=lambda: environment_python("llamaindex"),
        arguments=(str(workers),),
    )


SUBJECTS = (
    Subject("bare", "bare loop, 1 process", "run_bare", _PLAIN_NODES, arguments=("library",)),
    Subject("bare-own", "the same, docmill's splitter", "run_bare", _PLAIN_NODES, arguments=("docmill",)),
    _docmill("ours", "docmill, 2 workers, a folder", "folder"),
    _docmill("ours-texts", "docmill, 2 workers, from Python", "texts"),
    Subject(
        *("cocoindex", "CocoIndex 1.0", "run_cocoindex", _PLAIN_NODES), python=lambda: environment_python("cocoindex")
    ),
    _llamaindex("llamaindex", "LlamaIndex", 1),
    _llamaindex("llamaindex-2", "LlamaIndex, num_workers=2", 2),
)
