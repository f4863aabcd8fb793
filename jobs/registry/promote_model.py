"""A version → the champion: by evidence, by force, or back; each change is in the log before and after it is made."""

import secrets
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from jobs.registry import tracking
from recsys.config.settings import Settings
from recsys.errors import ConfigurationError, ModelError
from recsys.instants import DAY, from_micros
from recsys.registry.log import Change, Evidence, ModelLog
from recsys.registry.versions import CHALLENGER, CHAMPION, evidence

NIGHTLY = "nightly"


class Asked(NamedTuple):
    """Who asks for a change, when and why."""

    at: datetime
    by: str
    why: str = ""


def promote(settings: Settings, model: str, asked: Asked, force: bool = False, conf: str = "") -> Change:
    """Make a version the champion, where the last backtest of both shows that it is better.

    Args:
        settings: The shop.
        model: A version or an alias of one.
        asked: By whom.
        force: Do without evidence; the log says so.
        conf: The shop's configuration file, for the command that a refusal names.

    Raises:
        ConfigurationError: If force is not explained.
        ModelError: If there is no such version, it is the champion, or nothing shows that it is better.
    """
    if force and not asked.why:
        raise ConfigurationError("--why == '', must say why where --force overrules the evidence")
    log = log_of(settings)
    with log.changing():
        _settle(settings, log, asked.at)
        version, champion = tracking.version_of(settings, model), tracking.version_of(settings, CHAMPION)
        if version == champion:
            raise ModelError(f"version {version} is the champion already: name another one of 'recsys models list'")
        found = evidence_of(settings, version, champion)
        if not force:
            _require_better(settings, version, champion, found, conf)
        return _make(settings, log, _change(settings, "promote", asked, champion, version, found, force))


def rollback(settings: Settings, asked: Asked) -> Change:
    """Make the version that was the champion before this one the champion; the next time goes one further back.

    Raises:
        ModelError: If the log has no earlier one that is still registered.
    """
    log = log_of(settings)
    with log.changing():
        _settle(settings, log, asked.at)
        champion = tracking.version_of(settings, CHAMPION)
        registered = {each.version for each in tracking.versions(settings)}
        earlier = next((version for version in log.before_current() if version in registered), None)
        if earlier is None:
            raise ModelError(
                f"version {champion} is the first champion that the log knows, a rollback needs an earlier one: "
                "promote another one of 'recsys models list'"
            )
        return _make(settings, log, _change(settings, "rollback", asked, champion, earlier))


def appoint(settings: Settings, version: str, as_of: int, at: datetime) -> str | None:
    """Give a night's version its alias, and return it: the first is the champion, a later one the challenger.

    Args:
        settings: The shop.
        version: What the night trained.
        as_of: Up to when it knows its data: what knows less than the champion becomes nothing.
        at: Now.
    """
    log = log_of(settings)
    with log.changing():
        _settle(settings, log, at)
        champion = tracking.alias(settings, CHAMPION)
        if champion is None:
            _make(settings, log, _change(settings, "first", Asked(at, NIGHTLY, "the first version"), None, version))
        if champion in (None, version):
            return CHAMPION
        known = tracking.described(settings, champion).as_of
        if known is not None and as_of < known:
            return None
        tracking.point(settings, CHALLENGER, version)
    return CHALLENGER


def evidence_of(settings: Settings, version: str, other: str) -> Evidence | None:
    """Return what the last backtest that ranked by both versions says; None without one."""
    found = tracking.last_backtest(settings, (version, other))
    return evidence(*found, version, other) if found else None


def log_of(settings: Settings) -> ModelLog:
    """Return the log of the shop's model."""
    return ModelLog(Path(settings.folder), settings.mlflow.model_name)


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
    """Return the command that compares two versions on the first week that neither knows anything of."""
    known = max(tracking.described(settings, each).as_of or 0 for each in (version, champion))
    first = -(-known // DAY) * DAY
    days = f"--from {from_micros(first):%Y-%m-%d} --to {from_micros(first + 6 * DAY):%Y-%m-%d}"
    return f"recsys backtest {days} --versions {champion},{version}" + (f" --conf {conf}" if conf else "")


def _make(settings: Settings, log: ModelLog, change: Change) -> Change:
    log.begin(change)
    tracking.point(settings, CHAMPION, change.after)
    log.end(change, change.at, "done")
    return change


def _settle(settings: Settings, log: ModelLog, at: datetime) -> None:
    """Let the log agree with the alias: end a change that was cut off, and note an alias that was moved elsewhere."""
    champion, cut_off = tracking.alias(settings, CHAMPION), log.cut_off()
    if cut_off is not None:
        log.end(cut_off, at, "done" if cut_off.after == champion else "abandoned")
    done = log.changes()
    known = done[-1].after if done else None
    if champion is not None and champion != known:
        asked = Asked(at, "unknown", "the alias was not moved by 'recsys models'")
        found = _change(settings, "found", asked, known, champion)
        log.begin(found)
        log.end(found, at, "done")


def _change(
    settings: Settings,
    action: Literal["first", "promote", "rollback", "found"],
    asked: Asked,
    before: str | None,
    after: str,
    shown: Evidence | None = None,
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
        evidence=shown,
        forced=forced,
    )
