"""The alerts of nights in deploy/alerts.yaml, evaluated by Prometheus' own tool on series of metrics."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.night.nightly import steps_of_night
from jobs.night.publish_snapshot import PUBLISH_CLOSED_SHOP
from tests.helpers.paths import ROOT

RULES = ROOT / "deploy" / "alerts.yaml"
HOUR = 3600
NIGHT = 10_000 * HOUR
"""When the night begins, seconds since 1970."""


def step(name: str, **values: float) -> dict[str, str]:
    """Return the series of a step that keep their values: when it was last started, done and failed, hours of night."""
    metric = "recsys_step_{}_timestamp_seconds"
    return {f'{metric.format(what)}{{step="{name}"}}': str(NIGHT + hours * HOUR) for what, hours in values.items()}


CASES: dict[str, tuple[float, dict[str, str], set[str]]] = {
    "published in time": (
        9,
        step("plan_night", started=0, done=0.1) | step("publish_snapshot", started=0.9, done=1),
        set(),
    ),
    "the night of a shop without open sales": (
        9,
        step("plan_night", started=0, done=0.1)
        | step("publish_snapshot", started=-24, done=-23)
        | step("publish_closed_shop", started=0.2, done=0.3),
        set(),
    ),
    "no night came": (
        28,
        step("plan_night", started=0, done=0.1) | step("publish_snapshot", started=0.9, done=1),
        {"RecsysNightMissed"},
    ),
    "the night takes long, its steps do not": (
        5,
        step("plan_night", started=0, done=0.1)
        | step("publish_snapshot", started=-23.1, done=-20)
        | step("score_users", started=4),
        {"RecsysNightLong"},
    ),
    "a step was killed": (
        3,
        step("plan_night", started=0, done=0.1)
        | step("publish_snapshot", started=-23.1, done=-20)
        | step("score_users", started=0.5, done=-22),
        {"RecsysStepLong"},
    ),
    "a step failed": (
        3,
        step("plan_night", started=0, done=0.1)
        | step("publish_snapshot", started=-23.1, done=-20)
        | step("check_night", started=0.8, failed=0.9, done=-21),
        {"RecsysStepFailed"},
    ),
    "a step failed at its first run": (
        3,
        step("publish_snapshot", done=1) | step("tag_images", started=0.8, failed=0.9),
        {"RecsysStepFailed"},
    ),
    "a failed step was repeated": (
        3,
        step("publish_snapshot", done=1) | step("check_night", started=1, failed=0.9, done=1.1),
        set(),
    ),
}


def test_steps_in_expressions_are_steps_of_the_night():
    named = re.findall(r'step=~?"([^"]+)"', RULES.read_text())
    assert named
    known = {each.name for each in (*steps_of_night(trains=True), PUBLISH_CLOSED_SHOP)}
    assert {name for names in named for name in names.split("|")} <= known


def unit_test(hours: float, series: dict[str, str], firing: set[str], alert: str) -> dict[str, Any]:
    """Return a test of promtool: time begins with 1970, so values are moved to hours before the evaluation."""
    now = int(hours * HOUR)
    shifted = {name: float(value) - NIGHT for name, value in series.items()}
    return {
        "interval": "5m",
        "input_series": [{"series": name, "values": f"{value:.0f}x{now // 300}"} for name, value in shifted.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": f"{now}s",
                "exp_samples": [{"labels": "{}", "value": 1 if alert in firing else 0}],
            }
        ],
    }


@pytest.mark.skipif(not shutil.which("promtool"), reason="alerts are evaluated by promtool: apt-get install prometheus")
def test_alerts_of_nights_fire_when_they_should(tmp_path: Path):
    alerts = ("RecsysNightMissed", "RecsysNightLong", "RecsysStepFailed", "RecsysStepLong")
    tests = [unit_test(*case, alert) | {"name": name} for name, case in CASES.items() for alert in alerts]
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
