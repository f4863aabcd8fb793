"""Metrics of the steps of runs, for Prometheus."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

METRICS = {
    "recsys_step_seconds": "Duration of the step when it was last run to its end.",
    "recsys_step_started_timestamp_seconds": "When the step was last started.",
    "recsys_step_done_timestamp_seconds": "When the step was last run to its end.",
    "recsys_step_failed_timestamp_seconds": "When the step last failed.",
}
"""What each metric means; all have the label `step`."""
SECONDS, STARTED, DONE, FAILED = METRICS
_log = logging.getLogger(__name__)


@contextmanager
def measured(target: str | None, step: str) -> Iterator[None]:
    """Tell Prometheus when a step starts, and when it ends or fails; that it cannot be told is only reported.

    Args:
        target: A file of node_exporter's textfile collector, or the URL of a Pushgateway; nothing is done without.
        step: Name of the step that is run within.
    """
    start = time.monotonic()
    _record(target, step, {STARTED: time.time()})
    try:
        yield
    except BaseException:
        _record(target, step, {FAILED: time.time()})
        raise
    _record(target, step, {DONE: time.time(), SECONDS: time.monotonic() - start})


def _record(target: str | None, step: str, values: dict[str, float]) -> None:
    if target is None:
        return
    try:
        if "://" in target:  # a group for each step, since a push replaces all values of its group
            push = _registry({(name, ""): value for name, value in values.items()})
            pushadd_to_gateway(target, "recsys", push, {"step": step})
        else:
            known = _values_in(Path(target))
            write_to_textfile(target, _registry(known | {(name, step): value for name, value in values.items()}))
    except (OSError, ValueError) as error:
        _log.warning(f"    the metrics of {step} do not reach nights.metrics == '{target}' ({error})")


def _registry(values: dict[tuple[str, str], float]) -> CollectorRegistry:
    """Return metrics by name and step; those of an empty step have no label."""
    registry, gauges = CollectorRegistry(), dict[str, Gauge]()
    for (name, step), value in sorted(values.items()):
        if name not in gauges:
            gauges[name] = Gauge(name, METRICS[name], ["step"] if step else [], registry=registry)
        (gauges[name].labels(step) if step else gauges[name]).set(value)
    return registry


def _values_in(file: Path) -> dict[tuple[str, str], float]:
    """Return what earlier runs wrote; a night does not run all steps, and a refresh runs few."""
    if not file.exists():
        return {}
    families = text_string_to_metric_families(file.read_text("utf-8"))
    samples = [sample for family in families for sample in family.samples if sample.name in METRICS]
    return {(sample.name, sample.labels["step"]): sample.value for sample in samples}
