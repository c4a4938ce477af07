"""How the harness talks to a subject: a line of JSON each way, so that it can look at the meters in between.

Imported by programs in environments that have nothing of ours: the standard library alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["CHUNK_OVERLAP", "CHUNK_SIZE", "DIMENSION", "ENCODING", "files", "serve"]

CHUNK_SIZE = 512
CHUNK_OVERLAP = 64
DIMENSION = 256
ENCODING = "cl100k_base"


def serve(ingest: Callable[[], dict[str, Any]]) -> None:
    """Say that all is loaded; then ingest once for every line that comes, and say how long it took."""
    # What libraries print is not part of the protocol.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(fact: dict[str, Any]) -> None:
        print(json.dumps(fact), file=answers, flush=True)

    say({"ready": True})
    for _ in sys.stdin:
        started = time.perf_counter()
        facts = ingest()
        seconds = time.perf_counter() - started
        say({"seconds": seconds, "ended_at": time.time(), **facts})


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(id, path) of every file, folder by folder, in the order of their names."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        inside = "" if Path(parent) == folder else os.path.relpath(parent, folder).replace(os.sep, "/") + "/"
        for name in sorted(names):
            yield inside + name, Path(parent, name)
