"""Checks an installation, from its disk to its answers: `recsys doctor`."""

from collections.abc import Callable

from recsys.config.settings import Settings
from serving.clocks import Clock, system_clock
from serving.diagnosis import installation_checks as here
from serving.diagnosis.findings import Finding, fail, print_findings
from serving.diagnosis.service_checks import service_findings

__all__ = ["Finding", "diagnose", "print_findings"]

_INSTALLATION_CHECKS: tuple[Callable[[Settings, int], Finding], ...] = (
    here.configuration,
    here.doors,
    here.certificate,
    here.folder,
    here.disk,
    here.fleet,
    here.snapshot,
    here.night,
    here.ranker,
    here.rules,
    here.experiments,
    here.logs,
    here.redis,
    here.mlflow,
)


def diagnose(
    settings: Settings, target: str | None = None, token: str | None = None, clock: Clock = system_clock
) -> list[Finding]:
    """Check an installation, including its running service, from one of its machines; timeouts limit it to seconds.

    Args:
        settings: The shop's settings.
        target: The address of the service, host:port; the configured address by default.
        token: A caller's token, if the service requires one; the status needs an admin's.
        clock: Returns the present time of this machine.
    """
    findings = [_run_check(check, settings, clock()) for check in _INSTALLATION_CHECKS]
    return [*findings, *service_findings(settings.serving, target, token, clock)]


def _run_check(check: Callable[[Settings, int], Finding], settings: Settings, now: int) -> Finding:
    try:
        return check(settings, now)
    except Exception as error:  # a check that fails itself must not prevent the others
        return fail(check.__name__, f"{type(error).__name__}: {error}", "the check itself failed: report it")
