"""Move finished log files of the service to the shop's folder in an object store, or to a volume, until SIGTERM.

python deploy/ship_segments.py /var/lib/recsys s3://bucket/shop

Finished log files never change. If this program is killed between copying and deleting, the file is shipped again
under the same name; `recsys exposures` removes duplicate records in any case.
"""

import argparse
import hashlib
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

from recsys.logs import log_files
from recsys.logs.records import EXPOSURES, RECORDED_EVENTS
from recsys.storage.local import put_in_place, scratch_folder
from recsys.storage.places import Place, create, place

_INTERVAL_SECONDS = 10.0


def ship(folder: Path, target: Place, host: str) -> int:
    """Move the finished log files and return their number.

    Args:
        folder: The folder on this machine's disk, in which the service writes.
        target: The shop's folder in an object store, or a volume; it gets one folder per log, of the same name.
        host: Prefix of file names, since services on different machines may use the same names.
    """
    count = 0
    for log in (EXPOSURES, RECORDED_EVENTS):
        if (folder / log).is_dir():
            log_files.recover(folder / log)
            for file in log_files.finished(folder / log):
                _move(file, target / log, f"{host}-{file.name}")
                count += 1
    return count


def _move(file: Path, log: Place, name: str) -> None:
    """Copy a file, whole or not at all, then delete it, when the copy is there to stay."""
    if isinstance(log, Path):
        with scratch_folder(log) as scratch:
            put_in_place(shutil.copyfile(file, scratch / name), log / name)
    else:
        _put(log, name, file.read_bytes())
    file.unlink()


def _put(log: Place, name: str, content: bytes) -> None:
    try:
        create(log / name, content)
    except FileExistsError:  # shipped before a user was erased from it: both copies have the other records
        digest = hashlib.sha256(content).hexdigest()[:8]
        create(log / f"{name.removesuffix('.jsonl')}-{digest}.jsonl", content)


def main() -> None:
    """Ship every 10 seconds and once at the end; retry after errors of the disk or the store."""
    parser = argparse.ArgumentParser(description="Move finished log files to an object store or a volume.")
    parser.add_argument("folder", type=Path, help="The folder that the service writes in.")
    parser.add_argument("target", help="The shop's folder by its URL, or a volume; it gets one folder per log.")
    arguments = parser.parse_args()
    stopped, host, target = threading.Event(), socket.gethostname(), place(arguments.target)
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while True:
        is_last = stopped.wait(_INTERVAL_SECONDS)
        try:
            ship(arguments.folder, target, host)
        except Exception as error:  # of whichever library the store has
            print(f"cannot ship to {target} ({error}): retrying in {_INTERVAL_SECONDS:g} s", file=sys.stderr)
        if is_last:
            return


if __name__ == "__main__":
    main()
