"""Transformations of the tests, loaded by workers through DOCMILL_MODULES: slow, poisonous, and deadly ones."""

import os
import time
from pathlib import Path
from typing import Any

from orchestrator.contracts.errors import TransientError
from orchestrator.contracts.nodes import Node
from workers import TokenEvent, callback_handler
from workers.transformations.contract import Transformation, transformation

__all__ = [
    "Bill",
    "Bursting",
    "Deadly",
    "Endless",
    "Flaky",
    "Forgetful",
    "Held",
    "Hungry",
    "Picky",
    "Poisonous",
    "Scribbling",
    "Slow",
    "Unready",
]


@callback_handler("test_bill")
class Bill:
    """Writes what each call cost into the file that TEST_BILL names."""

    def on_event(self, event: TokenEvent) -> None:
        """A line a call."""
        with Path(os.environ["TEST_BILL"]).open("a", encoding="utf-8") as file:
            file.write(f"{event.transformation} {event.usage.total}\n")


@transformation("test_slow", version=1)
class Slow(Transformation):
    """Takes a while for each document, and notes in a file which ones it was run for."""

    tuning = frozenset({"seconds", "log"})

    seconds: float = 0.05
    log: str = ""

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Sleep: the stand-in for a service that takes its time."""
        time.sleep(self.seconds)
        if self.log:
            with Path(self.log).open("a", encoding="utf-8") as file:
                file.write(nodes[0].metadata.get("source", "?") + "\n")
        return nodes


@transformation("test_poisonous", version=1)
class Poisonous(Transformation):
    """Raises for documents that hold a word."""

    word: str = "poison"

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Raise what no part of docmill knows."""
        if any(self.word in node.text for node in nodes):
            raise RuntimeError(f"cannot stand {self.word}")
        return nodes


@transformation("test_scribbling", version=1)
class Scribbling(Transformation):
    """Changes the nodes it is handed in place, otherwise at every run."""

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Write the time into text and metadata."""
        for node in nodes:
            node.text += f" Read at {time.time_ns()}."
            node.metadata["read_at"] = time.time_ns()
        return nodes


@transformation("test_deadly", version=1)
class Deadly(Transformation):
    """Kills its process at documents that hold a word, as a segmentation fault would."""

    word: str = "deadly"

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Die without a word."""
        if any(self.word in node.text for node in nodes):
            os._exit(139)
        return nodes


@transformation("test_picky", version=1)
class Picky(Transformation):
    """Refuses documents whose metadata say so, or dies of them: the same text under another id fares better."""

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Raise, or end the process."""
        if nodes[0].metadata.get("deadly"):
            os._exit(139)
        if nodes[0].metadata.get("refused"):
            raise RuntimeError("refused")
        return nodes


@transformation("test_flaky", version=1)
class Flaky(Transformation):
    """Meets a passing trouble the first time, in whichever process it runs."""

    tuning = frozenset({"mark"})

    mark: str = ""

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Fail once for all processes together."""
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return nodes
        raise TransientError("the service is busy")


@transformation("test_forgetful", version=1)
class Forgetful(Transformation):
    """Forgets to return the nodes."""

    def __call__(self, nodes: list[Node]) -> Any:
        """Change the nodes in place, and that is all."""
        for node in nodes:
            node.metadata["seen"] = True


@transformation("test_unready", version=1)
class Unready(Transformation):
    """Raises for documents that hold a word, until a file exists: a fault that somebody mends."""

    tuning = frozenset({"mark"})

    word: str = "poison"
    mark: str = ""

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Raise what no part of docmill knows, as long as the file is not there."""
        if any(self.word in node.text for node in nodes) and not Path(self.mark).exists():
            raise RuntimeError(f"not ready for {self.word}")
        return nodes


@transformation("test_held", version=1)
class Held(Transformation):
    """Waits at documents that hold a word, until a file exists: the test decides when the job goes on."""

    tuning = frozenset({"mark"})

    word: str = "held"
    mark: str = ""

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Look for the file, again and again."""
        while any(self.word in node.text for node in nodes) and not Path(self.mark).exists():
            time.sleep(0.02)
        return nodes


@transformation("test_endless", version=1)
class Endless(Transformation):
    """Never ends for documents that hold a word."""

    word: str = "endless"

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Compute for ever, as a regular expression gone wrong would."""
        while any(self.word in node.text for node in nodes):
            pass
        return nodes


@transformation("test_hungry", version=1)
class Hungry(Transformation):
    """Takes all memory there is for documents that hold a word."""

    word: str = "hungry"

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Allocate without end."""
        eaten = []
        while any(self.word in node.text for node in nodes):
            eaten.append(bytearray(64 * 1024 * 1024))
        return nodes


@transformation("test_bursting", version=1)
class Bursting(Transformation):
    """Fails for the whole batch at documents that hold a word, and repeats their text in its error."""

    word: str = "bursting"

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Raise what is not a document's own fault."""
        for node in nodes:
            if self.word in node.text:
                raise MemoryError(f"no room for {node.text}")
        return nodes
