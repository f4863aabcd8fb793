"""Checks a whole installation, from its disk to its answers: `recsys doctor`."""

from collections.abc import Callable

from recsys.config.settings import Settings
from serving.clocks import Clock, system_clock
from serving.diagnosis import installation_checks as here
from serving.diagnosis.findings import Finding, fail, print_findings
from serving.diagnosis.service_checks import service_findings

__all__ = ["Finding", "diagnose", "print_findings"]

_HERE: tuple[Callable[[Settings, int], Finding], ...] = (
    here.configuration,
    here.doors,
    here.certificate,
    here.folder,
    here.disk,
    here.snapshot,
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
    """Check an installation from a machine of it, the service included; takes seconds, whatever hangs.

    Args:
        settings: Of the shop.
        target: Where the service listens, host:port; the configured address by default.
        token: Where the service asks for one; an admin's sees more.
        clock: What time it is here.
    """
    findings = [_done(check, settings, clock()) for check in _HERE]
    return [*findings, *service_findings(settings.serving, target, token, clock)]


def _done(check: Callable[[Settings, int], Finding], settings: Settings, now: int) -> Finding:
    try:
        return check(settings, now)
    except Exception as error:  # a check that breaks must not keep the others from being made
        return fail(check.__name__, f"{type(error).__name__}: {error}", "the check itself failed: report it")
