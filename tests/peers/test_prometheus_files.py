"""The files of deploy/prometheus: Prometheus' own tool accepts them, each rule fires, and each name is one of ours."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from senderproxy.metrics.series import SERIES, SeriesKind
from tests.peers.packages import PROMTOOL
from tests.peers.process import why_not_here
from tests.peers.prometheus import DEPLOY, promtool

RULES = (DEPLOY / "senderproxy-rules.yml").read_text(encoding="utf-8")
RULE_TESTS = (DEPLOY / "senderproxy-rules-test.yml").read_text(encoding="utf-8")
DASHBOARD = json.loads((DEPLOY / "senderproxy-dashboard.json").read_text(encoding="utf-8"))
NAMES = re.findall(r"- alert: (\w+)", RULES)
OWN_NAME = re.compile(r"\b(?:senderproxy|process)_[a-z_]+\b")
# What Prometheus calls the parts of a histogram.
SCRAPED = {
    f"{one.name}{suffix}"
    for one in SERIES
    for suffix in (("_bucket", "_sum", "_count") if one.kind is SeriesKind.HISTOGRAM else ("",))
}
LABELS = {label for one in SERIES for label in one.labels} | {"job", "instance", "le"}

reason = why_not_here(PROMTOOL)
needs_promtool = pytest.mark.skipif(reason is not None, reason=reason or "")


def expressions(value: Any) -> Iterator[str]:
    """The expressions of a part of the dashboard."""
    if isinstance(value, dict):
        if "expr" in value:
            yield value["expr"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from expressions(one)


def labels_in(expression: str) -> set[str]:
    """The labels that an expression names."""
    matched = re.findall(r"([a-z_]+)\s*(?:=~|!=|=)\s*\"", expression)
    grouped = [name.strip() for names in re.findall(r"\bby \(([^)]*)\)", expression) for name in names.split(",")]
    return {*matched, *grouped}


@needs_promtool
def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    assert f"{len(NAMES)} rules found" in promtool("check", "rules", "senderproxy-rules.yml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


@needs_promtool
@pytest.mark.slow
def test_the_tests_of_the_rules_pass() -> None:
    assert "SUCCESS" in promtool("test", "rules", "senderproxy-rules-test.yml")


def test_each_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert len(NAMES) == len(set(NAMES)) > 15
    checks = re.findall(r"alertname: (\w+)\n\s+exp_alerts:(.*)", RULE_TESTS)
    assert {name for name, expected in checks if not expected.strip()} == set(NAMES)
    assert {name for name, expected in checks if expected.strip() == "[]"} == set(NAMES)


@needs_promtool
def test_each_expression_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    found = list(expressions(DASHBOARD))
    assert len(found) > 30
    rules = [
        {"record": f"panel:{number}", "expr": one.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for number, one in enumerate(found)
    ]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}), encoding="utf-8")
    assert f"{len(found)} rules found" in promtool("check", "rules", "panels.yml", folder=tmp_path)


@pytest.mark.parametrize(
    "text", [*re.findall(r"expr: (.*?)\n        [a-z]", RULES, re.DOTALL), *expressions(DASHBOARD)]
)
def test_each_name_and_label_in_an_expression_is_scraped(text: str) -> None:
    names = set(OWN_NAME.findall(text))
    assert names <= SCRAPED
    assert names or "up{" in text
    assert labels_in(text) <= LABELS


def test_panels_have_an_order_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _y in cells) == 23
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Now", "Messages", "Queue", "Providers", "Service",
    ]  # fmt: skip
