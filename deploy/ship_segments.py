"""Move finished segments of the service's logs to a volume that outlives its machine, until SIGTERM.

python deploy/ship_segments.py /var/lib/recsys /logs

A segment never changes once it is finished. One that is shipped twice, since this was killed in between, is the same
file; `recsys exposures` keeps each record once in any case.
"""

import argparse
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

from recsys.logs import segments as log_segments
from recsys.logs.records import EXPOSURES, RECORDED_EVENTS
from recsys.storage.local import put_in_place, scratch_folder

_SECONDS = 10.0


def ship(folder: Path, volume: Path, host: str) -> int:
    """Move what is finished, and return how many segments that were.

    Args:
        folder: The shop's, where the service writes.
        volume: Where each log has a folder of the same name.
        host: Goes before each name: services on other machines give the same ones.
    """
    count = 0
    for log in (EXPOSURES, RECORDED_EVENTS):
        if (folder / log).is_dir():
            log_segments.recover(folder / log)
            for file in log_segments.finished(folder / log):
                _move(file, volume / log / f"{host}-{file.name}")
                count += 1
    return count


def _move(file: Path, target: Path) -> None:
    """Copy first, aside: readers never see half a segment, and it goes only when its copy is on the volume's disk."""
    with scratch_folder(target.parent) as scratch:
        put_in_place(shutil.copyfile(file, scratch / target.name), target)
    file.unlink()


def main() -> None:
    """Ship every ten seconds, and once more at the end; a disk that refuses is tried again."""
    parser = argparse.ArgumentParser(description="Move finished segments to a volume.")
    parser.add_argument("folder", type=Path, help="The shop's folder.")
    parser.add_argument("volume", type=Path, help="Where each log has a folder.")
    asked = parser.parse_args()
    stopped, host = threading.Event(), socket.gethostname()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while True:
        is_last = stopped.wait(_SECONDS)
        try:
            ship(asked.folder, asked.volume, host)
        except OSError as error:
            print(f"cannot ship to {asked.volume} ({error}): trying again", file=sys.stderr)
        if is_last:
            return


if __name__ == "__main__":
    main()
