"""Changes of the champion: promotion with or without evidence, and rollback; the log records each before and after."""

import secrets
from datetime import datetime
from typing import Literal, NamedTuple

from jobs.registry import tracking
from recsys.config.settings import Settings
from recsys.errors import ConfigurationError, ModelError
from recsys.instants import DAY, from_micros
from recsys.registry.log import Change, Evidence, ModelLog
from recsys.registry.versions import CHALLENGER, CHAMPION, evidence

NIGHTLY = "nightly"


class Asked(NamedTuple):
    """Time, author and reason of a change."""

    at: datetime
    by: str
    why: str = ""


def promote(settings: Settings, model: str, asked: Asked, force: bool = False, conf: str = "") -> Change:
    """Make a version the champion if the last backtest of both versions shows that it is better.

    Args:
        settings: The shop.
        model: A version, or an alias of one.
        asked: Time, author and reason.
        force: Promote without evidence; the log records it. Where no version is the champion, none is needed.
        conf: The shop's configuration file, for the command in the error message.

    Raises:
        ConfigurationError: If `force` is given without a reason.
        ModelError: If there is no such version, it is the champion, or no backtest shows that it is better.
    """
    if force and not asked.why:
        raise ConfigurationError("--why == '', must give the reason where --force overrules the evidence")
    log = log_of(settings)
    with log.locked():
        _reconcile_log(settings, log, asked.at)
        version, champion = tracking.version_of(settings, model), tracking.alias(settings, CHAMPION)
        if version == champion:
            raise ModelError(f"version {version} is the champion already: name another one of 'recsys models list'")
        found = evidence_of(settings, version, champion) if champion else None
        if champion and not force:
            _require_better(settings, version, champion, found, conf)
        return _apply_change(settings, log, _new_change(settings, "promote", asked, champion, version, found, force))


def rollback(settings: Settings, asked: Asked) -> Change:
    """Make the previous champion the champion again; each further call goes one champion back.

    Raises:
        ModelError: If the log has no earlier champion that is still registered.
    """
    log = log_of(settings)
    with log.locked():
        _reconcile_log(settings, log, asked.at)
        champion = tracking.alias(settings, CHAMPION)
        registered = {each.version for each in tracking.versions(settings)}
        earlier = next((version for version in log.rollback_targets() if version in registered), None)
        if earlier is None:
            now = f"version {champion}" if champion else "no version"
            raise ModelError(
                f"{now} is the champion and the log knows no earlier one that is still registered: promote another one "
                "of 'recsys models list'"
            )
        return _apply_change(settings, log, _new_change(settings, "rollback", asked, champion, earlier))


def appoint(settings: Settings, version: str, as_of: int, at: datetime) -> str | None:
    """Set the alias of a version that a night trained, and return it: champion for the first, challenger for others.

    Args:
        settings: The shop.
        version: The version.
        as_of: Instant of its data, microseconds UTC; a version with older data than the champion gets no alias.
        at: The current time.
    """
    log = log_of(settings)
    with log.locked():
        _reconcile_log(settings, log, at)
        champion = tracking.alias(settings, CHAMPION)
        if champion is None:
            _apply_change(
                settings, log, _new_change(settings, "first", Asked(at, NIGHTLY, "the first version"), None, version)
            )
        if champion in (None, version):
            return CHAMPION
        known = tracking.described(settings, champion).as_of
        if known is not None and as_of < known:
            return None
        tracking.point(settings, CHALLENGER, version)
    return CHALLENGER


def restore_champion(settings: Settings, at: datetime) -> None:
    """Set the alias of the champion again if another tool deleted it, to the last champion of the log."""
    log = log_of(settings)
    with log.locked():
        _reconcile_log(settings, log, at)


def evidence_of(settings: Settings, version: str, other: str) -> Evidence | None:
    """Return the result of the last backtest of both versions; None without one."""
    found = tracking.last_backtest(settings, (version, other))
    return evidence(*found, version, other) if found else None


def log_of(settings: Settings) -> ModelLog:
    """Return the log of the shop's registered model."""
    return ModelLog(settings.place, settings.mlflow.model_name)


def _require_better(settings: Settings, version: str, champion: str, found: Evidence | None, conf: str) -> None:
    command = _backtest_command(settings, version, champion, conf)
    if found is None:
        raise ModelError(
            f"version {version} has 0 backtests beside the champion, version {champion}, must have 1 that shows it "
            f"better: once these days are over, run '{command}'"
        )
    if not found.is_better:
        raise ModelError(
            f"version {version} against the champion, version {champion}: {found}; the lower end must be above 0: "
            f"measure other or more days, such as '{command}', or overrule it with --force --why"
        )


def _backtest_command(settings: Settings, version: str, champion: str, conf: str) -> str:
    """Return the command that compares two versions on the first week after the data of both."""
    known = max(tracking.described(settings, each).as_of or 0 for each in (version, champion))
    first = -(-known // DAY) * DAY
    days = f"--from {from_micros(first):%Y-%m-%d} --to {from_micros(first + 6 * DAY):%Y-%m-%d}"
    return f"recsys backtest {days} --versions {champion},{version}" + (f" --conf {conf}" if conf else "")


def _apply_change(settings: Settings, log: ModelLog, change: Change) -> Change:
    log.begin(change)
    tracking.point(settings, CHAMPION, change.after)
    log.end(change, change.at, "done")
    return change


def _reconcile_log(settings: Settings, log: ModelLog, at: datetime) -> None:
    """Make log and alias agree: end an interrupted change, record an alias that was moved elsewhere, and restore one
    that was deleted."""
    champion, unfinished = tracking.alias(settings, CHAMPION), log.unfinished_change()
    if unfinished is not None:
        log.end(unfinished, at, "done" if unfinished.after == champion else "abandoned")
    done = log.changes()
    known = done[-1].after if done else None
    if champion is not None and champion != known:
        asked = Asked(at, "unknown", "the alias was not moved by 'recsys models'")
        found = _new_change(settings, "found", asked, known, champion)
        log.begin(found)
        log.end(found, at, "done")
    if champion is None and known in {each.version for each in tracking.versions(settings)}:
        asked = Asked(at, "recsys", "the alias had been deleted")
        _apply_change(settings, log, _new_change(settings, "restored", asked, None, known))


def _new_change(
    settings: Settings,
    action: Literal["first", "promote", "rollback", "found", "restored"],
    asked: Asked,
    before: str | None,
    after: str,
    found: Evidence | None = None,
    forced: bool = False,
) -> Change:
    return Change(
        id=secrets.token_hex(8),
        model=settings.mlflow.model_name,
        at=asked.at,
        action=action,
        by=asked.by,
        why=asked.why,
        before=before,
        after=after,
        evidence=found,
        forced=forced,
    )
