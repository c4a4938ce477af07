"""Results: a table for people, a file for programs."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.corpus import Corpus
from tests.benchmarks.measure import MODES, Measurement
from tests.benchmarks.subjects import SUBJECTS

__all__ = ["render", "summarize", "write_results"]

_MB = 1e6
_REFERENCE = "bare"


def summarize(measured: Sequence[Measurement]) -> dict[tuple[str, str], dict[str, Any]]:
    """{(subject, mode): medians over the rounds}, each with its ratio to the bare loop of the same mode."""
    runs: dict[tuple[str, str], list[Measurement]] = {}
    for run in measured:
        runs.setdefault((run.subject, run.mode), []).append(run)
    summary = {key: _medians(found) for key, found in runs.items()}
    for (_, mode), medians in summary.items():
        reference = summary.get((_REFERENCE, mode))
        for name in ("seconds", "cpu"):
            medians[f"{name}_ratio"] = medians[name] / reference[name] if reference and reference[name] else None
    return summary


def _medians(runs: Sequence[Measurement]) -> dict[str, Any]:
    return {
        "rounds": len(runs),
        "seconds": median(run.seconds for run in runs),
        "seconds_low": min(run.seconds for run in runs),
        "seconds_high": max(run.seconds for run in runs),
        "cpu": median(run.cpu for run in runs),
        "cpu_parts": {name: median(run.cpu_parts[name] for run in runs) for name in runs[0].cpu_parts},
        "memory": {name: median(run.memory[name] for run in runs) for name in runs[0].memory},
        "load": median(run.load for run in runs),
        "nodes": round(median(run.nodes for run in runs)),
        "stages": {name: median(run.stages[name] for run in runs) for name in runs[0].stages},
    }


def render(measured: Sequence[Measurement], corpus: Corpus, skipped: Mapping[str, str]) -> str:
    """The table, a block a mode, the stages below it, and who has no times."""
    summary = summarize(measured)
    lines = [f"{corpus.documents} documents, {corpus.size / _MB:.1f} MB; medians, ratios to the bare loop"]
    for mode in MODES:
        rows = [
            _row(subject.label, summary[subject.name, mode]) for subject in SUBJECTS if (subject.name, mode) in summary
        ]
        if rows:
            lines += ["", f"{mode}:", _HEAD, *rows]
    for subject in SUBJECTS:
        for mode in MODES:
            stages = summary.get((subject.name, mode), {}).get("stages")
            if stages:
                lines += ["", f"{subject.label}, {mode}, where the seconds went:", *_stage_lines(stages)]
                parts = summary[subject.name, mode]["cpu_parts"]
                lines.append("  processors:   " + ", ".join(f"{name} {spent:.2f}" for name, spent in parts.items()))
    labels = {subject.name: subject.label for subject in SUBJECTS}
    lines += [f"\n{labels[name]} has no times: {reason}" for name, reason in skipped.items()]
    return "\n".join(lines)


_HEAD = f"{'':32}{'seconds':>9}{'ratio':>7}{'range':>15}{'CPU s':>8}{'ratio':>7}{'MB':>7}{'Redis MB':>10}{'load':>6}"


def _row(label: str, medians: Mapping[str, Any]) -> str:
    memory = medians["memory"]
    redis = f"{memory['redis'] / _MB:.0f}+{memory['cache'] / _MB:.0f}" if "redis" in memory else ""
    spread = f"{medians['seconds_low']:.2f} to {medians['seconds_high']:.2f}"
    return (
        f"{label:32}{medians['seconds']:9.2f}{_ratio(medians['seconds_ratio'])}{spread:>15}"
        f"{medians['cpu']:8.2f}{_ratio(medians['cpu_ratio'])}{memory['program'] / _MB:7.0f}{redis:>10}"
        f"{medians['load']:6.1f}"
    )


def _ratio(value: float | None) -> str:
    return f"{value:7.2f}" if value is not None else f"{'':7}"


def _stage_lines(stages: Mapping[str, float]) -> list[str]:
    along = ("unaccounted", "listing", "transforming", "committing", "finishing", "telling")
    summed = ("transform", "workers_rest", "waiting_for_worker", "waiting_for_commit")
    return [
        "  wall clock:   " + ", ".join(f"{name} {stages[name]:.3f}" for name in along),
        "  over workers: " + ", ".join(f"{name} {stages[name]:.2f}" for name in summed),
        f"  {stages['batches']:.0f} batches, first started after {stages['first_start']:.3f}, "
        f"cache hits {stages['cache_hits']:.0f} of {stages['cache_hits'] + stages['cache_misses']:.0f}",
    ]


def write_results(folder: Path, measured: Sequence[Measurement], corpus: Corpus, skipped: Mapping[str, str]) -> Path:
    """Write every run and the medians, with the machine they are of; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    facts = {
        "corpus": {"documents": corpus.documents, "bytes": corpus.size},
        "machine": {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
        "medians": [
            {"subject": subject, "mode": mode, **medians} for (subject, mode), medians in summarize(measured).items()
        ],
        "runs": [run.as_facts() for run in measured],
        "no_times": dict(skipped),
    }
    path.write_text(json.dumps(facts, indent=1))
    return path
