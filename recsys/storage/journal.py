"""A folder's journal: what became true in it, in order, as numbered files that are created once and never changed.

    <folder>/journal/00000001.json      {"lease": {"host": …, "pid": …}, "steps": {…}}   who alone writes from here on,
                                                                                       and what is true until now
                     00000002.json      {"step": …, "data": …}      what is true of a step from here on
                     00000003.json      {"released": 1}             the one who wrote does so no longer
                     beat-00000001      written again and again by the one who holds the lease of that number

To be the first to create a file is all that this asks of a store, so that one way serves a local disk and any object
store. Whoever writes creates the number after the last one that they know. If another process has taken the lease
over meanwhile, that number exists, and what the slower one made does not become true. So a clock that is wrong, or a
process that sleeps for an hour, costs work and never a wrong entry.
"""

import json
import logging
import os
import platform
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys.errors import BusyError, LeaseLostError
from recsys.storage.places import Place, contents, create, files_in, modified, remove

BEAT_S = 10.0
"""Seconds between two signs of life of the holder of a lease."""
EXPIRES_S = 60.0
"""Seconds without one, by the store's clock, after which a lease may be taken over."""

_JOURNAL = "journal"
_READ_AT_ONCE = 32
_ENTRY = re.compile(r"(\d{8})\.json")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_log = logging.getLogger(__name__)


def steps_of(folder: Place) -> dict[str, dict[str, Any]]:
    """Return the newest entry of each step in a folder's journal, by its name; empty if there is none."""
    return _steps_in(_tail(folder))


@dataclass
class Lease:
    """The right to add entries to a folder's journal, from `leased`."""

    folder: Place
    number: int
    """Number of the entry that began it."""
    steps: dict[str, dict[str, Any]]
    """The newest entry of each step, by its name; nobody else can add one."""
    _last: int = field(init=False)

    def __post_init__(self) -> None:
        """Begin after the entry of the lease."""
        self._last = self.number

    def add(self, entry: dict[str, Any]) -> None:
        """Add the entry of a step; it is true, and on disk, on return.

        Raises:
            LeaseLostError: If another process has taken the lease over.
        """
        self._add(entry)
        self.steps[entry["step"]] = entry

    def discard(self) -> None:
        """Make the entries of all steps void."""
        self._add({"discarded": True})
        self.steps.clear()

    def release(self) -> None:
        """End the lease, unless another process has taken it over."""
        try:
            self._add({"released": self.number})
            remove(_beat_file(self.folder, self.number))
        except LeaseLostError:
            pass
        except Exception as error:  # of whichever library the store has
            _log.warning(f"the lease of {self.folder} could not be ended ({error}): it expires after {EXPIRES_S:g} s")

    def _add(self, entry: dict[str, Any]) -> None:
        try:
            _create_entry(self.folder, self._last + 1, entry)
        except FileExistsError:
            other = json.loads(_entry_file(self.folder, self._last + 1).read_bytes()).get("lease", {})
            raise LeaseLostError(
                f"{_named(other)} took over in {self.folder} since this process gave no sign of life for more than "
                f"{EXPIRES_S:g} s: what it was making is left out. Look at the other one's log, or run again"
            ) from None
        self._last += 1


@contextmanager
def leased(folder: Place) -> Iterator[Lease]:
    """Be the only one who adds entries to a folder's journal; readers need no lease.

    A lease ends with this context. That of a process of this machine that has ended is taken over at once, any other
    one when its holder has given no sign of life for EXPIRES_S; the log says so.

    Raises:
        BusyError: If another process or thread has the lease; it names which.
    """
    lease = _take(folder)
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(_beat_file(folder, lease.number), ended), daemon=True)
    beats.start()
    try:
        yield lease
    finally:
        ended.set()
        beats.join()
        lease.release()


def holder(folder: Place) -> str | None:
    """Return the name of the process that has the lease of a folder now, for messages; None if nobody has."""
    number, process = _newest_lease(_tail(folder))
    return _named(process) if process is not None and _why_expired(folder, number, process) is None else None


def discard(folder: Place) -> None:
    """Remove a folder with its journal; killed at any moment, it can be called again.

    Raises:
        BusyError: If another process has its lease.
    """
    lease = _take(folder)
    try:
        lease.discard()  # from here on no step counts as done, also if this process is killed
        for path in folder.iterdir():
            if path.name != _JOURNAL:
                remove(path)
    except BaseException:
        lease.release()
        raise
    remove(folder)


def _take(folder: Place) -> Lease:
    tail = _tail(folder)
    number, process = _newest_lease(tail)
    if process is not None:
        why = _why_expired(folder, number, process)
        if why is None:
            raise BusyError(
                f"another run works in {folder} ({_named(process)}): wait for it to end, or give another 'folder'"
            )
        _log.warning(f"{_named(process)} left {folder} unfinished ({why}): its work goes on here")
    lease = Lease(folder, max(tail, default=0) + 1, _steps_in(tail))
    try:
        _create_entry(folder, lease.number, {"lease": _this_process(), "steps": lease.steps})
    except FileExistsError:
        raise BusyError(
            f"another run began in {folder} just now: wait for it to end, or give another 'folder'"
        ) from None
    return lease


def _tail(folder: Place) -> dict[int, dict[str, Any]]:
    """Return the entries by number from the newest lease on, oldest first, which say all that is true; empty if none.

    So a journal of thousands of entries takes one list of names, and about as many reads as a run has steps.
    """
    files = [file for file in files_in(folder / _JOURNAL, ".json") if _ENTRY.fullmatch(file.name)]
    found: dict[int, dict[str, Any]] = {}
    while files and not any("lease" in entry for entry in found.values()):
        newest, files = files[-_READ_AT_ONCE:], files[:-_READ_AT_ONCE]
        entries = map(json.loads, contents(newest))
        found = {int(file.stem): entry for file, entry in zip(newest, entries, strict=True)} | found
    first = max((number for number, entry in found.items() if "lease" in entry), default=0)
    return {number: entry for number, entry in found.items() if number >= first}


def _steps_in(tail: dict[int, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    steps: dict[str, dict[str, Any]] = {}
    for entry in tail.values():
        steps = {} if "discarded" in entry else steps | entry.get("steps", {})
        if "step" in entry:
            steps[entry["step"]] = entry
    return steps


def _newest_lease(tail: dict[int, dict[str, Any]]) -> tuple[int, dict[str, Any] | None]:
    """Return number and holder of the newest lease; no holder if it was released, or there was none."""
    number = min(tail, default=0)
    is_released = any("released" in entry for entry in tail.values())
    return number, None if is_released or not number else tail[number]["lease"]


def _why_expired(folder: Place, number: int, holder: dict[str, Any]) -> str | None:
    """Return why the holder of a lease holds it no longer; None if they do."""
    here = _this_process()
    if {**holder, "pid": 0, "started": 0} == {**here, "pid": 0, "started": 0}:
        return None if _started(holder["pid"]) == holder["started"] else "that process has ended"
    silence = _now(folder) - _last_sign(folder, number)
    return f"no sign of life for {silence:.0f} s" if silence > EXPIRES_S else None


def _last_sign(folder: Place, number: int) -> float:
    signs = [modified(_entry_file(folder, number))]
    with suppress(FileNotFoundError):
        signs.append(modified(_beat_file(folder, number)))
    return max(signs)


def _now(folder: Place) -> float:
    """Return the present by the store's own clock, which is that of a lease's signs of life: of a file written now."""
    clock = folder / _JOURNAL / f"clock-{secrets.token_hex(8)}"
    try:
        clock.write_bytes(b"")
        return modified(clock)
    finally:
        remove(clock)


def _beat(file: Place, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        try:
            file.write_bytes(b"")
        except Exception as error:  # of whichever library the store has
            _log.warning(f"no sign of life could be written to {file} ({error}): trying again")


def _create_entry(folder: Place, number: int, entry: dict[str, Any]) -> None:
    token = {"token": secrets.token_hex(8)}  # makes it differ from anybody else's entry of this number
    create(_entry_file(folder, number), json.dumps(entry | token, indent=1).encode())


def _entry_file(folder: Place, number: int) -> Place:
    return folder / _JOURNAL / f"{number:08}.json"


def _beat_file(folder: Place, number: int) -> Place:
    return folder / _JOURNAL / f"beat-{number:08}"


def _this_process() -> dict[str, Any]:
    """Return what tells this process from all others: machine, container, process id, and when that began."""
    pid = os.getpid()
    return {
        "host": platform.node(),
        "boot": _text_of("/proc/sys/kernel/random/boot_id"),
        "container": str(_PID_NAMESPACE.readlink()) if _PID_NAMESPACE.is_symlink() else "",
        "pid": pid,
        "started": _started(pid),
    }


def _started(pid: int) -> str | None:
    """Return when a process of this machine began; None if there is none, or it has ended and was not waited for."""
    if not Path("/proc/self/stat").exists():  # no Linux
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return ""
    fields = _text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else None


def _text_of(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError:
        return ""


def _named(process: dict[str, Any]) -> str:
    return f"process {process.get('pid', '?')} of {process.get('host', 'an unknown machine')}"
