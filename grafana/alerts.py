"""Alert rules for those who alert from Grafana, made from the rules of Prometheus so that both say the same.

Grafana wants a condition that is a number, so each rule is a PromQL query, reduced to its last value, and
fires where it gives anything. (A formula would be shorter, but its dollar sign would be taken for a variable
of the environment.) Every rule says what it does without data or with an error: a query that gives nothing is
good, one that fails is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SOURCES = HERE / "prometheus" / "rules"
TARGET = HERE / "alerting" / "provisioning" / "rules.yaml"
HEAD = "# Made from prometheus/rules by `make boards`; change those.\n"
PROMETHEUS_UID = "wattline-prometheus"
FOLDER = "Wattline alerts"
"""Of its own: Grafana finds the folder of alerts by its title alone and makes it before those of the boards,
which have identifiers; with their title there would be two of one name."""


def text() -> str:
    """The provisioning file."""
    groups = [
        _group(group) for group in yaml.safe_load((SOURCES / "alerting.yml").read_text("utf-8"))["groups"]
    ]
    document = {"apiVersion": 1, "groups": groups}
    return HEAD + yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=110)


def recorded() -> dict[str, str]:
    """Expressions of the recording rules by name; Grafana may stand before a Prometheus that lacks them."""
    groups = yaml.safe_load((SOURCES / "recording.yml").read_text("utf-8"))["groups"]
    return {rule["record"]: f"({rule['expr']})" for group in groups for rule in group["rules"]}


def _group(group: dict[str, Any]) -> dict[str, Any]:
    return {
        "orgId": 1,
        "name": group["name"],
        "folder": FOLDER,
        "interval": "1m",
        "rules": list(map(_rule, group["rules"])),
    }


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": "wattline-" + hashlib.sha256(rule["alert"].encode()).hexdigest()[:12],
        "title": rule["alert"],
        "condition": "fires",
        "data": list(_steps(_expanded(rule["expr"]))),
        "for": rule.get("for", "0s"),
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": {**rule["labels"], RUNBOOK: "$WATTLINE_RUNBOOK_URL"},
        "annotations": {name: _template(words) for name, words in rule["annotations"].items()},
    }


def _expanded(expression: str) -> str:
    for name, meaning in recorded().items():
        expression = expression.replace(name, meaning)
    return " ".join(expression.split())


RUNBOOK = "runbook"
"""Label with the address of the runbook. Grafana fills variables of the environment into labels, not into
annotations; Prometheus has the address as an external label, which it does not send."""


def _template(words: str) -> str:
    """Grafana's `$values.last.Value` is what Prometheus calls `$value`."""
    external = f"$externalLabels.{RUNBOOK}"
    return words.replace("$value", "$values.last.Value").replace(external, f"$labels.{RUNBOOK}")


_RANGE = {"from": 600, "to": 0}
"""Seconds before now."""


_ANY = {"evaluator": {"type": "gt", "params": [-1]}}
"""True of whatever a rule's query gives: none of them is negative."""


def _steps(expression: str) -> Iterator[dict[str, Any]]:
    yield {
        "refId": "query",
        "relativeTimeRange": dict(_RANGE),
        "datasourceUid": PROMETHEUS_UID,
        "model": {"refId": "query", "expr": expression, "instant": True, "range": False},
    }
    for name, kind, extra in (
        ("last", "reduce", {"expression": "query", "reducer": "last"}),
        ("fires", "threshold", {"expression": "last", "conditions": [_ANY]}),
    ):
        yield {
            "refId": name,
            "relativeTimeRange": dict(_RANGE),
            "datasourceUid": "__expr__",
            "model": {"refId": name, "type": kind, **extra},
        }
