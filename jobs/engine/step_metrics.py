"""Metrics of the steps of a run, for Prometheus."""

import logging

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

_REGISTRY = CollectorRegistry()
_SECONDS = Gauge("recsys_step_seconds", "Duration of the step when it was last run.", ["step"], registry=_REGISTRY)
_DONE = Gauge(
    "recsys_step_done_timestamp_seconds", "When the step was last run to its end.", ["step"], registry=_REGISTRY
)
_log = logging.getLogger(__name__)


def record_step(target: str | None, step: str, seconds: float) -> None:
    """Add a step that was run to its end to the metrics, and write or push them; a failure is only reported.

    Args:
        target: A file of node_exporter's textfile collector, or the URL of a Pushgateway; nothing is done without.
        step: Name of the step.
        seconds: Its duration.
    """
    if target is None:
        return
    _SECONDS.labels(step).set(seconds)
    _DONE.labels(step).set_to_current_time()
    try:
        if "://" in target:
            push_to_gateway(target, "recsys", _REGISTRY)
        else:
            write_to_textfile(target, _REGISTRY)
    except OSError as error:
        _log.warning(f"    the metrics of {step} do not reach nights.metrics == '{target}' ({error})")
