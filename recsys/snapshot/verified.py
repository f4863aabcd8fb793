"""Marks beside snapshots whose files were compared with their checksums, so that this is done once per machine.

    <root>/.verified-<name>    size, time of change and inode of each file when it had the checksum of the manifest

A file that was changed, repaired or copied since has another time or inode: then all are compared again.
"""

import json
from pathlib import Path

from recsys.snapshot.format import read_manifest

_MARK = ".verified-"


def mark_verified(snapshot: Path) -> None:
    """Note that the files of a snapshot have the checksums of its manifest, which the caller has just compared."""
    _mark_of(snapshot).write_text(json.dumps(_states(snapshot)))


def is_verified(snapshot: Path) -> bool:
    """Return whether all files of a snapshot are as they were when they had the checksums of its manifest.

    Raises:
        SnapshotError: If the manifest is missing or damaged, or a file has another size.
    """
    try:
        return bool(_states(snapshot) == json.loads(_mark_of(snapshot).read_bytes()))
    except (OSError, ValueError):
        return False


def remove_marks(root: Path) -> None:
    """Remove the marks of snapshots that are there no more."""
    for mark in root.glob(f"{_MARK}*"):
        if not (root / mark.name.removeprefix(_MARK)).exists():
            mark.unlink(missing_ok=True)


def _mark_of(snapshot: Path) -> Path:
    return snapshot.with_name(_MARK + snapshot.name)


def _states(snapshot: Path) -> dict[str, list[int]]:
    stats = {file: (snapshot / file).stat() for file in read_manifest(snapshot).files}
    return {file: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for file, stat in stats.items()}
