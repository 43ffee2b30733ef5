"""Alarms and dashboard: Prometheus itself reads them, and every number in them is one that is served."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.model import Event, Health, Measure
from broker.observability import Metrics
from broker.observability.metrics import GAUGES
from tests.doubles.web import ANSWERED

FOLDER = Path(__file__).parents[2] / "deploy/observability"
FILES = ("alerts.yaml", "alerts_test.yaml", "dashboard.json")


def a_page() -> str:
    metrics = Metrics("1.0")
    metrics.watch(
        lambda: (Measure(name, 1, tuple("x" for _ in kind.labels)) for name, kind in GAUGES.items()),
    )
    metrics.request(ANSWERED)
    metrics.refused("expired")
    metrics.event(Event(event="credential.issued", outcome="success"))
    return metrics.page([Health("audit", ready=True)]).decode()


def series() -> dict[str, set[str]]:
    """Answer every series that is served, with its labels."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", a_page(), re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    return found


def selectors(file: str) -> Iterator[tuple[str, set[str]]]:
    """Answer what a file reads: names, with the labels that it asks for."""
    text = (FOLDER / file).read_text()
    if file == "dashboard.json":
        text = "\n".join(target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"])
    for name, labels in re.findall(r"\b((?:broker|process)_\w+)(?:\{([^}]*)\})?", text):
        yield name, set(re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*\\?"', labels)) - {"job", "instance", "le"}


@pytest.mark.parametrize("file", FILES)
def test_every_number_that_is_read_is_served(file: str) -> None:
    served = series()
    read = list(selectors(file))
    assert len(read) > 5
    for name, labels in read:
        assert name in served, name
        assert labels <= served[name], (name, labels)


def test_every_number_of_ours_is_on_the_dashboard() -> None:
    shown = {name for name, _ in selectors("dashboard.json")}
    ours = {name.removesuffix("_created") for name in series() if name.startswith("broker_")}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours}
    assert families <= {re.sub(r"_bucket$", "", name) for name in shown} | {
        name for name in families if f"{name}_total" in shown
    }


@pytest.mark.real("promtool")
def test_prometheus_understands_the_alarms_and_they_do_what_they_should() -> None:
    for words in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
        done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real("promtool")
def test_prometheus_understands_the_page() -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=a_page(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real("promtool")
def test_prometheus_understands_every_question_of_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    rules = [
        {"record": f"panel{panel['id']}:{target['refId']}", "expr": target["expr"]}
        for panel in panels
        for target in panel["targets"]
    ]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alarm_says_what_happened_and_what_to_do() -> None:
    alarms = re.findall(r"- alert: (\w+)\n(.*?)(?=\n      - alert|\Z)", (FOLDER / "alerts.yaml").read_text(), re.DOTALL)
    assert len(alarms) >= 10
    for name, text in alarms:
        assert re.search(r"severity: (page|ticket)", text), name
        assert "summary:" in text, name
        assert "action:" in text, name
