"""A client in a process of its own, which can be killed while it enqueues: `python -m tests.chaos.client DOCUMENTS`."""

import sys
import time
from collections.abc import Iterator

from orchestrator import Document
from orchestrator.connections import Connections
from orchestrator.settings import load_settings
from tests.chaos.stack import pipeline
from tests.chaos.trial import DOCUMENT_SECONDS, corpus

_PAUSE_SECONDS = 0.05  # before each document: a source that takes its time


def _slowly(documents: list[Document]) -> Iterator[Document]:
    for document in documents:
        time.sleep(_PAUSE_SECONDS)
        yield document


if __name__ == "__main__":
    connections = Connections(load_settings())
    pipeline(connections, DOCUMENT_SECONDS).enqueue(_slowly(corpus(int(sys.argv[1]))))
