"""`python -m tests.benchmarks`: docmill, a bare loop, LlamaIndex and CocoIndex in turns, on the same documents."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.checking import count_problem
from tests.benchmarks.corpus import copy_corpus, standard_library
from tests.benchmarks.environments import NotInstalled
from tests.benchmarks.measure import MODES, Measurement, WrongOutput, measure
from tests.benchmarks.results import render, write_results
from tests.benchmarks.stack import Stack
from tests.benchmarks.subjects import SUBJECTS
from tests.services import Services

_RESULTS = Path(__file__).parent / "measured"


def main() -> int:
    options = _options()
    subjects = [subject for subject in SUBJECTS if not options.only or subject.name in options.only]
    skipped: dict[str, str] = {}
    measured: list[Measurement] = []
    services = Services()
    try:
        stack = Stack(services)
        with tempfile.TemporaryDirectory(prefix="docmill-corpus-") as folder:
            limit = None if options.limit_mb is None else int(options.limit_mb * 1e6)
            corpus = copy_corpus(options.corpus or standard_library(), Path(folder), max_bytes=limit)
            _say(f"{corpus.documents} documents, {corpus.size / 1e6:.1f} MB; {options.rounds} rounds")
            for turn in range(options.rounds):
                for subject in subjects:
                    if subject.name in skipped:
                        continue
                    try:
                        found = measure(
                            subject, corpus, stack, modes=options.modes, check=turn == 0, say_pids=options.say_pids
                        )
                        _compare(found, measured)
                    except (NotInstalled, WrongOutput) as error:
                        skipped[subject.name] = f"{type(error).__name__}: {error}"
                        _say(f"{subject.label}: no times. {skipped[subject.name]}")
                        # What it did in earlier rounds is not to be trusted either.
                        measured = [run for run in measured if run.subject != subject.name]
                        continue
                    measured += found
                    times = (f"{run.mode} {run.seconds:.2f} s (load {run.load:.1f})" for run in found)
                    _say(f"round {turn + 1}, {subject.label}: {', '.join(times)}")
    finally:
        services.close()
    table = render(measured, corpus, skipped)
    print(table)  # noqa: T201 - what the program is for
    path = write_results(options.results, measured, corpus, skipped)
    _say(f"written to {path}")
    return 1 if any(reason.startswith(WrongOutput.__name__) for reason in skipped.values()) else 0


def _compare(found: Sequence[Measurement], measured: Sequence[Measurement]) -> None:
    """Hold the numbers of nodes against the bare loop's, where that was measured before.

    Raises:
        WrongOutput: they are too far apart.
    """
    reference = {run.mode: run.nodes for run in measured if run.subject == "bare"}
    for run in found:
        problem = count_problem(run.nodes, reference[run.mode]) if run.mode in reference else None
        if problem:
            raise WrongOutput(f"{run.subject}, {run.mode}: {problem}")


def _options() -> argparse.Namespace:
    names = [subject.name for subject in SUBJECTS]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder of texts; default: the standard library's sources")
    parser.add_argument("--limit-mb", type=float, help="take no more of it than so many megabytes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each subject; the table has medians")
    parser.add_argument("--only", type=_names(names), help=f"some of {','.join(names)}")
    parser.add_argument("--modes", type=_names(MODES), default=list(MODES), help=f"some of {','.join(MODES)}, in order")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder of the file with all numbers")
    parser.add_argument("--say-pids", action="store_true", help="name the processes, for a profiler")
    options = parser.parse_args()
    if options.modes[0] != "cold":
        parser.error("the first mode must be cold: every subject begins with an empty database")
    return options


def _names(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in allowed]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"{text!r}: allowed are {', '.join(allowed)}")
        return names

    return parse


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - what the program is for


if __name__ == "__main__":
    sys.exit(main())
