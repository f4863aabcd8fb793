"""Marks in snapshots whose files were compared with their checksums, so that this is done once per machine.

    <name>/.verified    size, time of change and inode of each file when it had the checksum of the manifest

A file that was changed, repaired or copied since has another time or inode: then all are compared again.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from recsys.snapshot.format import read_manifest

_MARK = ".verified"


def mark_verified(snapshot: Path, files: Iterable[str]) -> None:
    """Note that the files of a snapshot have the checksums of its manifest, which the caller has just compared."""
    (snapshot / _MARK).write_text(json.dumps(_states(snapshot, files)))


def is_verified(snapshot: Path) -> bool:
    """Return whether all files of a snapshot are as they were when they had the checksums of its manifest.

    Raises:
        SnapshotError: If the manifest is missing or damaged, or a file has another size.
    """
    files = read_manifest(snapshot).files
    try:
        return json.loads((snapshot / _MARK).read_bytes()) == _states(snapshot, files)
    except (OSError, ValueError):
        return False


def _states(snapshot: Path, files: Iterable[str]) -> dict[str, list[int]]:
    stats = {file: (snapshot / file).stat() for file in files}
    return {file: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for file, stat in stats.items()}
