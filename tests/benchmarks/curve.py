"""`python -m tests.benchmarks.curve`: docmill and the bare loop on ever more documents, drawn as a picture."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.chart import Line, Panel, chart
from tests.benchmarks.corpus import copy_corpus, grow_corpus, standard_library
from tests.benchmarks.measure import Measurement, measure
from tests.benchmarks.stack import Stack
from tests.benchmarks.subjects import SUBJECTS
from tests.services import Services

_SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
_RESULTS = Path(__file__).parent / "measured"
_MB = 1e6
# Holding a corpus beside its nodes for a check costs more memory than measuring does.
_CHECKED_DOCUMENTS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.curve", description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder of texts; default: the standard library's sources")
    parser.add_argument("--limit", type=int, default=_SIZES[-1], help="documents of the largest run at most")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder of the picture and its numbers")
    options = parser.parse_args()
    sizes = [size for size in _SIZES if size <= options.limit] or [options.limit]
    runs: dict[str, list[tuple[int, Measurement]]] = {"bare": [], "ours": []}
    services = Services()
    try:
        stack = Stack(services)
        with tempfile.TemporaryDirectory(prefix="docmill-corpus-") as folder:
            source = copy_corpus(options.corpus or standard_library(), Path(folder) / "source")
            for size in sizes:
                with tempfile.TemporaryDirectory(prefix="docmill-grown-") as grown:
                    corpus = grow_corpus(source, Path(grown), size)
                    for subject in SUBJECTS:
                        if subject.name in runs:
                            check = size <= _CHECKED_DOCUMENTS
                            (run,) = measure(subject, corpus, stack, modes=("cold",), check=check)
                            runs[subject.name].append((size, run))
                            _say(f"{size:,} documents, {corpus.size / _MB:.0f} MB: {subject.label} {_facts(run)}")
    finally:
        services.close()
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"curve-{time.strftime('%Y%m%d-%H%M%S')}.svg"
    path.write_text(_picture(runs))
    numbers = {name: [{"documents": size, **run.as_facts()} for size, run in found] for name, found in runs.items()}
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1))
    _say(f"written to {path}")


def _facts(run: Measurement) -> str:
    memory = ", ".join(f"{name} {held / _MB:.0f} MB" for name, held in run.memory.items())
    return f"{run.seconds:.1f} s, {memory}, load {run.load:.1f}"


def _picture(runs: dict[str, list[tuple[int, Measurement]]]) -> str:
    labels = {subject.name: subject.label for subject in SUBJECTS}
    seconds = [
        Line(labels[name], [(size, 1000 * run.seconds / size) for size, run in found]) for name, found in runs.items()
    ]
    ours = runs["ours"]
    memory = [
        Line(label, [(size, run.memory[name] / _MB) for size, run in ours])
        for name, label in (("program", "client and workers"), ("redis", "Redis"), ("cache", "cache"))
    ]
    return chart(
        [Panel("milliseconds a document, cold", "documents", seconds), Panel("MB at the peak", "documents", memory)]
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - what the program is for


if __name__ == "__main__":
    main()
