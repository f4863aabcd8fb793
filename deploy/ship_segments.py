"""Move finished log files of the service to a volume that outlives the machine, until SIGTERM.

python deploy/ship_segments.py /var/lib/recsys /logs

Finished log files never change. If this program is killed between copying and deleting, the file is shipped again
under the same name; `recsys exposures` removes duplicate records in any case.
"""

import argparse
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

from recsys.logs import log_files
from recsys.logs.records import EXPOSURES, RECORDED_EVENTS
from recsys.storage.local import put_in_place, scratch_folder

_INTERVAL_SECONDS = 10.0


def ship(folder: Path, volume: Path, host: str) -> int:
    """Move the finished log files and return their number.

    Args:
        folder: The shop's folder, in which the service writes.
        volume: The target, with one folder per log, of the same name.
        host: Prefix of file names, since services on different machines may use the same names.
    """
    count = 0
    for log in (EXPOSURES, RECORDED_EVENTS):
        if (folder / log).is_dir():
            log_files.recover(folder / log)
            for file in log_files.finished(folder / log):
                _move(file, volume / log / f"{host}-{file.name}")
                count += 1
    return count


def _move(file: Path, target: Path) -> None:
    """Move atomically: copy to a scratch folder, rename, then delete the original, when the copy is on disk."""
    with scratch_folder(target.parent) as scratch:
        put_in_place(shutil.copyfile(file, scratch / target.name), target)
    file.unlink()


def main() -> None:
    """Ship every 10 seconds and once at the end; retry after errors of the file system."""
    parser = argparse.ArgumentParser(description="Move finished log files to a volume.")
    parser.add_argument("folder", type=Path, help="The shop's folder.")
    parser.add_argument("volume", type=Path, help="Target volume; it gets one folder per log.")
    arguments = parser.parse_args()
    stopped, host = threading.Event(), socket.gethostname()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while True:
        is_last = stopped.wait(_INTERVAL_SECONDS)
        try:
            ship(arguments.folder, arguments.volume, host)
        except OSError as error:
            print(f"cannot ship to {arguments.volume} ({error}): retrying in {_INTERVAL_SECONDS:g} s", file=sys.stderr)
        if is_last:
            return


if __name__ == "__main__":
    main()
