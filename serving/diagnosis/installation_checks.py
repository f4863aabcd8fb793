"""The checks that do not call the service: its configuration, its files, and the services that it depends on.

Each check takes the settings and the present instant, in microseconds since 1970 UTC, and returns one finding.
"""

import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from recsys.config.settings import Settings
from recsys.data_profile.rule_counts import why_nothing_is_recent
from recsys.errors import ConfigurationError, SnapshotError, StoreError
from recsys.experiments.accepted import IN_FORCE, AcceptedFiles
from recsys.instants import DAY, HOUR, SECOND, from_micros, to_micros
from recsys.logs.log_files import finished
from recsys.logs.records import EXPOSURES, RECORDED_EVENTS
from recsys.rules import load_rules
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot, read_manifest
from recsys.storage.places import Place, put, remove
from recsys.wording import plural
from serving.answers.running_experiments import check_served
from serving.answers.session import SessionRanker
from serving.api.certificates import read_certificate
from serving.clocks import system_clock
from serving.diagnosis.findings import Finding, fail, fail_as, ok, warn
from serving.stores.redis import RedisStore
from serving.telemetry.pull_status import read_status

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EXPOSURE_BYTES = 840
"""Bytes per logged page of ten sales: in the demo shop, 107,489 lines have 839 bytes on average."""
_LITTLE_BYTES = 1 << 30
_LATE_HOURS = 6
"""With a horizon of 36 hours, a snapshot with 6 hours left shows that the nightly run is 6 hours late."""
_WAITING = 26 * HOUR
"""One day, and 2 hours for the nightly run."""
_EXPIRES_SOON = 14 * DAY
_TIMEOUT_SECONDS = 1.0


def configuration(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Summarise the configuration, which was validated when it was loaded; warn of a replay clock."""
    serving = settings.serving
    found = f"{plural(serving.workers, 'worker')}, store {serving.store.kind}, policy {serving.default_policy}"
    if serving.clock == "replay":
        advice = "set 'serving.clock: system', unless the data lies in the past"
        return warn("configuration", f"{found}; the clock replays the hours after a snapshot", advice)
    return ok("configuration", found)


def doors(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that a service that other machines can reach requires authentication and encryption."""
    serving = settings.serving
    if serving.host in LOOPBACK:
        return ok("doors", f"listens on {serving.host} only")
    missing = [key for key, is_set in (("access.callers", serving.access.callers), ("tls", serving.tls)) if not is_set]
    if missing:
        keys = " and ".join(f"'serving.{key}'" for key in missing)
        return warn("doors", f"listens on {serving.host} without {keys}", f"set {keys}, or listen on 127.0.0.1")
    return ok("doors", f"listens on {serving.host}, encrypted, for {plural(len(serving.access.callers), 'caller')}")


def certificate(settings: Settings, now: int) -> Finding:
    """Check that the certificate is valid for another two weeks, and that the key belongs to it."""
    tls = settings.serving.tls
    if tls is None:
        return ok("certificate", "none: the service is not encrypted")
    try:
        left = read_certificate(tls).expires_at - now
    except ConfigurationError as error:
        return fail_as("certificate", error)
    found = f"{tls.certificate} expires in {plural(round(left / DAY), 'day')}"
    if left <= _EXPIRES_SOON:
        return warn("certificate", found, "replace it with a new one, and restart the service")
    return ok("certificate", found)


def folder(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that the shop's folder can be written."""
    path = settings.place
    if not isinstance(path, Path):
        return _store_finding(path)
    if not path.is_dir():
        return fail("folder", f"{path} is no folder", "correct 'folder' in the configuration, or make it")
    try:
        with tempfile.TemporaryFile(dir=path):
            return ok("folder", f"{path} can be written")
    except OSError as error:
        return fail("folder", f"{path}: {error.strerror}", f"give user {os.getuid()} write permission")


def _store_finding(folder: Place) -> Finding:
    """Write a file to an object store, read and remove it."""
    file, token = folder / f".doctor-{secrets.token_hex(4)}", secrets.token_bytes(8)
    try:
        put(file, token)
        is_same = file.read_bytes() == token
        remove(file)
    except Exception as error:  # of whichever library the store has
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        return fail("folder", f"{folder}: {cause}", "check the bucket's name, the endpoint and the credentials")
    if not is_same:
        return fail("folder", f"{folder} gives back another content than was written", "check the endpoint")
    return ok("folder", f"{folder} can be written")


def disk(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that there is room for another snapshot, and for one hour of exposures at the highest permitted rate."""
    path = settings.own_disk.absolute()
    if not path.is_dir() and not isinstance(settings.place, Path):
        path = next(each for each in path.parents if each.is_dir())  # the folder is made when it is needed
    if not path.is_dir():
        return fail("disk", f"{path} is no folder", "correct 'folder' in the configuration, or make it")
    free, needed = shutil.disk_usage(path).free, _LITTLE_BYTES + _snapshot_bytes(settings) + _exposure_bytes(settings)
    found = f"{free / 1e9:,.1f} GB free, should be {needed / 1e9:,.1f} GB"
    if free < _LITTLE_BYTES:
        return fail("disk", found, f"make room on the disk of {path}: exposures and snapshots will be lost")
    return ok("disk", found) if free >= needed else warn("disk", found, f"make room on the disk of {path}")


def _snapshot_bytes(settings: Settings) -> int:
    try:
        name = snapshot_store.current(settings.snapshots_folder)
        return read_manifest(settings.snapshots_folder / name).n_bytes if name else 0
    except SnapshotError:
        return 0


def _exposure_bytes(settings: Settings) -> int:
    serving = settings.serving
    if not serving.exposures.enabled or serving.limits.max_per_second is None:
        return 0
    websites = sum(caller.role == "website" for caller in serving.access.callers)
    an_hour = serving.limits.max_per_second * serving.workers * max(websites, 1) * HOUR / SECOND
    return int(an_hour * _EXPOSURE_BYTES)


def snapshot(settings: Settings, now: int) -> Finding:
    """Check the current snapshot as the service does, including checksums, and that its horizon covers the present."""
    try:
        current = _open_current(settings, verify=True)
    except SnapshotError as error:
        return fail_as("snapshot", error)
    if current is None:
        return _missing_finding(settings)
    default = settings.serving.default_policy
    if default not in current.answered_policies:
        has = f"{current.name} has {', '.join(current.all_policies)}, not {default}"
        return fail("snapshot", has, "choose another 'serving.default_policy', or 'rankings.policies' for the night")
    if settings.serving.clock == "replay":
        return ok("snapshot", f"{current.name}, intact")
    return _age_finding(current, now, why_nothing_is_recent(settings.place))


def _age_finding(current: Snapshot, now: int, nothing_recent: str | None) -> Finding:
    age, left = now - to_micros(current.as_of), to_micros(current.horizon_end) - now
    found = f"{current.name}, intact; {age / HOUR:,.0f} h old, "
    if left <= 0:
        found += f"its horizon ended {-left / HOUR:,.0f} h ago"
        past = f"'as_of: {current.as_of:%Y-%m-%dT%H:%M:%SZ}' and 'serving.clock: replay' for data of the past"
        advice = nothing_recent or f"run 'recsys nightly': sales that opened since then are on no page; or set {past}"
        return fail("snapshot", found, advice)
    found += f"{left / HOUR:,.0f} h left of its horizon"
    if nothing_recent:
        return warn("snapshot", found, nothing_recent)
    if left <= _LATE_HOURS * HOUR:
        return warn("snapshot", found, "the nightly run is late: see its log, and run 'recsys nightly'")
    return ok("snapshot", found)


def _missing_finding(settings: Settings) -> Finding:
    if not settings.serving.store.has_snapshots_on_disk:
        return ok("snapshot", "none on this machine: the service reads it from Redis")
    advice = why_nothing_is_recent(settings.place) or "publish one with 'recsys nightly'"
    return fail("snapshot", f"{settings.snapshots_folder} has no current snapshot", advice)


def fleet(settings: Settings, now: int) -> Finding:
    """Check that this machine has the snapshot that is published in the object store."""
    shared = settings.publisher.shared
    if shared is None:
        return ok("fleet", "snapshots are on this machine's disk alone")
    try:
        entry, here = shared.newest(), snapshot_store.current(settings.snapshots_folder)
    except (StoreError, SnapshotError) as error:
        return fail_as("fleet", error)
    if entry is None:
        return fail("fleet", f"{shared} has no published snapshot", "publish one with 'recsys nightly'")
    hours = (now - to_micros(entry.publications[-1].published_at)) / HOUR
    found = f"{entry.name} was published {hours:,.1f} h ago by {entry.by}"
    status = read_status(settings.own_disk / "serving")
    if status and (problem := status.problem_at(now / SECOND)):
        return warn("fleet", f"{found}; this machine serves {here}: {problem}", "see the service's log")
    if here != entry.name:
        advice = "wait for its pull, or run 'recsys snapshots pull' and see what it says"
        return warn("fleet", f"{found}, but this machine has {here or 'none'}", advice)
    took = f", pulled in {status.pulled_seconds:.1f} s" if status and status.pulled_seconds else ""
    return ok("fleet", f"{found}{took}")


def night(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that the current snapshot was published with everything that users' pages are made of."""
    try:
        current = _open_current(settings, verify=False)
    except SnapshotError as error:
        return fail_as("night", error)
    if current is None:
        return ok("night", "not checked: no snapshot on this machine")
    left_out = current.manifest.left_out
    found = "; ".join(f"without {line.what}: {line.why}" for line in left_out) or "nothing was left out"
    if degrading := [line for line in left_out if line.degrades_pages]:
        return warn("night", found, "; ".join(f"{line.what}: until {line.until}" for line in degrading))
    return ok("night", found)


def ranker(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that running sessions can re-rank pages."""
    try:
        current = _open_current(settings, verify=False)
        if current is None:
            return ok("ranker", "not checked: no snapshot on this machine")
        SessionRanker(current)
    except SnapshotError as error:
        return warn("ranker", str(error).rpartition(": ")[0], "run 'recsys nightly': until then no session re-ranks")
    return ok("ranker", "sessions re-rank pages")


def _open_current(settings: Settings, verify: bool) -> Snapshot | None:
    name = snapshot_store.current(settings.snapshots_folder)
    return Snapshot.open(settings.snapshots_folder / name, verify) if name else None


def rules(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that the file of rules is valid."""
    path = settings.serving.rules
    if path is None:
        return ok("rules", "none")
    try:
        found = load_rules(Path(path))
    except (ConfigurationError, OSError) as error:
        return fail("rules", str(error), f"correct {path}: 'recsys rules validate' lists the errors")
    return ok("rules", f"{plural(len(found.rules), 'rule')} in {path}, fingerprint {found.fingerprint}")


def experiments(settings: Settings, now: int) -> Finding:
    """Check that the experiment files are valid, in force, and can be served."""
    if settings.serving.experiments is None:
        return ok("experiments", "none")
    files = AcceptedFiles(Path(settings.serving.experiments), settings.own_disk / IN_FORCE)
    written, broken = files.as_written()
    if broken:
        return fail("experiments", "; ".join(broken), "correct it: 'recsys experiment validate' lists the errors")
    if current := _open_current(settings, verify=False):
        try:
            for surface, file in written.items():
                check_served(surface, file, current, from_micros(now))
        except ConfigurationError as error:
            return warn("experiments", str(error), "run 'recsys nightly'")
    if waiting := files.waiting():
        found = f"{', '.join(map(str, waiting))} is not in force"
        return warn("experiments", found, "start the service, or see in its log and status why it refuses the file")
    running = [each.key for file in written.values() for each in file.experiments if each.status == "running"]
    return ok("experiments", f"{plural(len(written), 'file')} in force; running: {', '.join(running) or 'none'}")


def logs(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that finished log files of the two logs are collected each day."""
    folders = [settings.own_disk / name for name in (EXPOSURES, RECORDED_EVENTS)]
    waiting = [path for each in folders for path in finished(each)]
    if not waiting:
        return ok("logs", "no log file waits")
    # The system's time, as in file stamps: the service may replay another.
    oldest = system_clock() - int(min(path.stat().st_mtime for path in waiting) * SECOND)
    found = f"{plural(len(waiting), 'log file')} waiting, the oldest for {oldest / HOUR:.0f} h"
    if oldest > _WAITING:
        return warn("logs", found, "run 'recsys exposures' each night before 'recsys nightly'")
    return ok("logs", found)


def redis(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that Redis answers and serves the snapshot that was published on this machine."""
    store = settings.serving.store
    if store.kind != "redis":
        return ok("redis", "not configured")
    store_client = RedisStore(store.model_copy(update={"timeout_seconds": _TIMEOUT_SECONDS}), Path(), system_clock)
    try:
        there, here = store_client.current(), snapshot_store.current(settings.snapshots_folder)
    except (StoreError, SnapshotError) as error:
        return fail_as("redis", error)
    finally:
        store_client.close()
    if store.has_snapshots_on_disk:
        return ok("redis", "answers; snapshots are on this machine's disk")
    if there is None:
        return fail("redis", f"{store.prefix}current is empty", "push a snapshot with 'recsys snapshots push'")
    if here not in (None, there):
        return warn(
            "redis",
            f"serves {there}, but the current snapshot on this machine is {here}",
            "push it with 'recsys snapshots push'",
        )
    return ok("redis", f"serves {there}")


def mlflow(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Check that MLflow's server accepts connections; the nightly run needs it, the service does not."""
    address = urlsplit(settings.mlflow.tracking_uri or "")
    if address.scheme not in ("http", "https") or not address.hostname:
        return ok("mlflow", "no server configured")
    try:
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname, port), timeout=_TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        return warn("mlflow", f"{address.hostname} is unreachable ({error})", "start it before the next training")
    return ok("mlflow", f"{address.hostname} accepts connections")
