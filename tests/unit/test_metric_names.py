"""The list of metrics, and what is said of them elsewhere: docs, dashboard and alert rules."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workers.metrics.names import LEDGER_METRICS, METRICS, WORKER_METRICS, Metric

_ROOT = Path(__file__).parents[2]
_MONITORING = _ROOT / "docker" / "monitoring"
_USED = re.compile(r"\bdocmill_\w+")
_MATCHED = re.compile(r"(docmill_\w+)\{(\w+)")
_ROW = re.compile(r"^\| `(docmill_\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*) \|$", re.MULTILINE)


def _series(metric: Metric) -> set[str]:
    suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
    return {metric.name + suffix for suffix in suffixes}


def test_names_follow_the_conventions_of_prometheus() -> None:
    """Names are one each, begin with docmill_, and only counters end with _total."""
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("docmill_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.meaning.endswith("."), metric.name
    assert all(len(metric.labels) == 1 for metric in WORKER_METRICS)  # measured.py counts by one


def test_the_page_has_a_row_for_each_metric() -> None:
    """docs/monitoring.md says of every metric what the list says, and of no other."""
    rows = _ROW.findall((_ROOT / "docs" / "monitoring.md").read_text("utf-8"))
    assert rows == [
        (metric.name, metric.kind, metric.unit, ", ".join(metric.labels), metric.meaning) for metric in METRICS
    ]


@pytest.mark.parametrize("file", ["alerts.yaml", "grafana-dashboard.json"])
def test_alerts_and_dashboard_ask_for_what_exists(file: str) -> None:
    """Every metric that an alert or a panel asks for is in the list, and has the label it is chosen by."""
    said = (_MONITORING / file).read_text("utf-8").replace('\\"', '"')
    exist = {name: metric for metric in METRICS for name in _series(metric)}
    assert set(_USED.findall(said)) <= set(exist)
    assert all(label in exist[name].labels for name, label in _MATCHED.findall(said))
    assert len(_USED.findall(said)) > 5


def test_every_metric_is_on_the_dashboard() -> None:
    """The dashboard shows each metric at least once."""
    panels = json.loads((_MONITORING / "grafana-dashboard.json").read_text("utf-8"))["panels"]
    shown = {name for panel in panels for target in panel["targets"] for name in _USED.findall(target["expr"])}
    missing = [metric.name for metric in METRICS if not _series(metric) & shown]
    assert missing == []


def test_every_alert_is_explained() -> None:
    """docs/monitoring.md says of each alert what it means and what to do, and of no other."""
    alerts = re.findall(r"- alert: (\w+)", (_MONITORING / "alerts.yaml").read_text("utf-8"))
    explained = re.findall(
        r"^\| `(Docmill\w+)` \|", (_ROOT / "docs" / "monitoring.md").read_text("utf-8"), re.MULTILINE
    )
    assert explained == alerts


def test_a_worker_that_serves_nothing_loads_nothing() -> None:
    """Without a port prometheus_client is not loaded, and counting does nothing."""
    code = (
        "import sys; import workers.tasks; from workers.metrics.measured import count, timed;"
        "from workers.metrics.names import RETRIES, STAGE_SECONDS;"
        "count(RETRIES, 'x'); timed(STAGE_SECONDS, 'lease').__enter__();"
        "sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=_ROOT, check=True)


def test_the_two_places_share_no_name() -> None:
    """A metric is served by Flower or by workers, never by both, where a sum would count it twice."""
    assert not {metric.name for metric in LEDGER_METRICS} & {metric.name for metric in WORKER_METRICS}
