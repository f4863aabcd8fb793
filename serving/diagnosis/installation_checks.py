"""What can be checked without asking the service: its configuration, its files, and what it depends on.

Each check takes the settings and the present, microseconds since 1970 UTC, and returns one finding.
"""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from recsys.config.settings import Settings
from recsys.errors import ConfigurationError, SnapshotError, StoreError
from recsys.experiments.accepted import IN_FORCE, AcceptedFiles
from recsys.instants import DAY, HOUR, SECOND, from_micros, to_micros
from recsys.logs.log_files import finished
from recsys.logs.records import EXPOSURES, RECORDED_EVENTS
from recsys.rules import load_rules
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot, read_manifest
from serving.answers.running_experiments import check_served
from serving.answers.session import SessionRanker
from serving.api.certificates import read_certificate
from serving.clocks import system_clock
from serving.diagnosis.findings import Finding, fail, fail_as, ok, warn
from serving.stores.redis import RedisStore

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EXPOSURE_BYTES = 840
"""A page of ten sales of the demo shop in the log: 107,489 lines have 839 bytes on average."""
_LITTLE_BYTES = 1 << 30
_LATE_HOURS = 6
"""With a horizon of 36 hours, a night that is so near its end is six hours late."""
_WAITING = 26 * HOUR
"""A day and the time that the night may take."""
_EXPIRES_SOON = 14 * DAY
_TIMEOUT_SECONDS = 1.0


def configuration(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Say what is served from where; a file that breaks a rule was refused before."""
    serving = settings.serving
    found = f"{serving.workers} workers, store {serving.store.kind}, policy {serving.default_policy}"
    if serving.clock == "replay":
        advice = "set 'serving.clock: system', unless the data lies in the past"
        return warn("configuration", f"{found}; the clock replays the hours after a snapshot", advice)
    return ok("configuration", found)


def doors(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Tell whether whoever reaches the machine may do everything, or read along."""
    serving = settings.serving
    if serving.host in LOOPBACK:
        return ok("doors", f"listens on {serving.host} only")
    missing = [key for key, is_set in (("access.callers", serving.access.callers), ("tls", serving.tls)) if not is_set]
    if missing:
        keys = " and ".join(f"'serving.{key}'" for key in missing)
        return warn("doors", f"listens on {serving.host} without {keys}", f"set {keys}, or listen on 127.0.0.1")
    return ok("doors", f"listens on {serving.host}, encrypted, for {len(serving.access.callers)} callers")


def certificate(settings: Settings, now: int) -> Finding:
    """Tell until when the certificate holds, and that the key is its own."""
    tls = settings.serving.tls
    if tls is None:
        return ok("certificate", "none: answers without encryption")
    try:
        left = read_certificate(tls).expires_at - now
    except ConfigurationError as error:
        return fail_as("certificate", error)
    found = f"{tls.certificate} expires in {left / DAY:.0f} days"
    if left <= _EXPIRES_SOON:
        return warn("certificate", found, "put a new one in its place, and start the service again")
    return ok("certificate", found)


def folder(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Tell whether the shop's folder can be written."""
    path = Path(settings.folder)
    if not path.is_dir():
        return fail("folder", f"{path} is no folder", "correct 'folder' in the configuration, or make it")
    try:
        with tempfile.TemporaryFile(dir=path):
            return ok("folder", f"{path} can be written")
    except OSError as error:
        return fail("folder", f"{path}: {error.strerror}", f"give user {os.getuid()} the right to write there")


def disk(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Tell whether there is room for another snapshot, and for an hour of exposures at the highest rate allowed."""
    path = Path(settings.folder)
    if not path.is_dir():
        return fail("disk", f"{path} is no folder", "correct 'folder' in the configuration, or make it")
    free, needed = shutil.disk_usage(path).free, _LITTLE_BYTES + _snapshot_bytes(settings) + _exposure_bytes(settings)
    found = f"{free / 1e9:,.1f} GB free, should be {needed / 1e9:,.1f}"
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
    """Check the current snapshot as the service does, checksums included, and against the present."""
    try:
        current = _current(settings, verify=True)
    except SnapshotError as error:
        return fail_as("snapshot", error)
    if current is None:
        return _no_snapshot(settings)
    default = settings.serving.default_policy
    if default not in current.all_policies:
        has = f"{current.name} has {', '.join(current.all_policies)}, not {default}"
        return fail("snapshot", has, "choose another 'serving.default_policy', or 'rankings.policies' for the night")
    if settings.serving.clock == "replay":
        return ok("snapshot", f"{current.name}, whole")
    return _dated(current, now)


def _dated(current: Snapshot, now: int) -> Finding:
    age, left = now - to_micros(current.as_of), to_micros(current.horizon_end) - now
    found = f"{current.name}, whole; {age / HOUR:.0f} h old, serves {left / HOUR:.0f} h more"
    if left <= 0:
        return fail("snapshot", found, "run 'recsys nightly': sales that opened since are on no page")
    if left <= _LATE_HOURS * HOUR:
        return warn("snapshot", found, "the night is late: see its log, and run 'recsys nightly'")
    return ok("snapshot", found)


def _no_snapshot(settings: Settings) -> Finding:
    if settings.serving.store.kind == "redis":
        return ok("snapshot", "none on this machine: the service takes it from Redis")
    return fail("snapshot", f"{settings.snapshots_folder} has no current one", "publish one with 'recsys nightly'")


def ranker(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Tell whether running sessions can re-rank pages."""
    try:
        current = _current(settings, verify=False)
        if current is None:
            return ok("ranker", "no snapshot here to look into")
        SessionRanker(current)
    except SnapshotError as error:
        return warn("ranker", str(error).rpartition(": ")[0], "run 'recsys nightly': until then no session re-ranks")
    return ok("ranker", "sessions re-rank pages")


def _current(settings: Settings, verify: bool) -> Snapshot | None:
    name = snapshot_store.current(settings.snapshots_folder)
    return Snapshot.open(settings.snapshots_folder / name, verify) if name else None


def rules(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Tell whether the file of rules would be taken up."""
    path = settings.serving.rules
    if path is None:
        return ok("rules", "none")
    try:
        found = load_rules(Path(path))
    except (ConfigurationError, OSError) as error:
        return fail("rules", str(error), f"correct {path}: 'recsys rules validate' lists what is wrong")
    return ok("rules", f"{len(found.rules)} in {path}, fingerprint {found.fingerprint}")


def experiments(settings: Settings, now: int) -> Finding:
    """Tell whether the experiment files are good, in force, and can be served."""
    if settings.serving.experiments is None:
        return ok("experiments", "none")
    files = AcceptedFiles(Path(settings.serving.experiments), Path(settings.folder) / IN_FORCE)
    written, broken = files.as_written()
    if broken:
        return fail("experiments", "; ".join(broken), "correct it: 'recsys experiment validate' lists what is wrong")
    if current := _current(settings, verify=False):
        try:
            for surface, file in written.items():
                check_served(surface, file, current, from_micros(now))
        except ConfigurationError as error:
            return warn("experiments", str(error), "run 'recsys nightly'")
    if waiting := files.waiting():
        found = f"{', '.join(map(str, waiting))} is not in force"
        return warn("experiments", found, "start the service, or see in its log and status why it refuses the file")
    running = [each.key for file in written.values() for each in file.experiments if each.status == "running"]
    return ok("experiments", f"{len(written)} files in force; running: {', '.join(running) or 'none'}")


def logs(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Tell whether finished files of the two logs wait to be gathered."""
    folders = [Path(settings.folder) / name for name in (EXPOSURES, RECORDED_EVENTS)]
    waiting = [path for each in folders for path in finished(each)]
    if not waiting:
        return ok("logs", "no log file waits")
    # The system's time, as files have it: the service may replay another.
    oldest = system_clock() - int(min(path.stat().st_mtime for path in waiting) * SECOND)
    count = "1 log file waits" if len(waiting) == 1 else f"{len(waiting)} log files wait"
    found = f"{count}, the oldest for {oldest / HOUR:.0f} h"
    if oldest > _WAITING:
        return warn("logs", found, "run 'recsys exposures', each night before 'recsys nightly'")
    return ok("logs", found)


def redis(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Tell whether Redis answers, and serves the snapshot that was published here."""
    store = settings.serving.store
    if store.kind != "redis":
        return ok("redis", "not configured")
    patient = RedisStore(store.model_copy(update={"timeout_seconds": _TIMEOUT_SECONDS}), Path(), system_clock)
    try:
        there, here = patient.current(), snapshot_store.current(settings.snapshots_folder)
    except (StoreError, SnapshotError) as error:
        return fail_as("redis", error)
    finally:
        patient.close()
    if there is None:
        return fail("redis", f"{store.prefix}current is empty", "push a snapshot with 'recsys snapshots push'")
    if here not in (None, there):
        return warn("redis", f"serves {there}, here is {here}", "push it with 'recsys snapshots push'")
    return ok("redis", f"serves {there}")


def mlflow(settings: Settings, now: int) -> Finding:  # noqa: ARG001
    """Tell whether MLflow's server accepts connections; the night needs it, the service does not."""
    address = urlsplit(settings.mlflow.tracking_uri or "")
    if address.scheme not in ("http", "https") or not address.hostname:
        return ok("mlflow", "no server configured")
    try:
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname, port), timeout=_TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        return warn("mlflow", f"{address.hostname} is out of reach ({error})", "start it before the night trains")
    return ok("mlflow", f"{address.hostname} accepts connections")
