"""The files with the numbers of rows that break each rule, in the folder of a night."""

import json
from pathlib import Path

RULE_COUNTS = "rule_counts.json"
REFUSED_RULE_COUNTS = "refused_rule_counts.json"
"""Counts of a refused source; those of the tables in use are in RULE_COUNTS beside it."""


def why_nothing_is_recent(folder: Path) -> str | None:
    """Return what the latest night found of a source without an open sale or recent events; None if it has them.

    Args:
        folder: The shop's folder.
    """
    files = [file for name in (RULE_COUNTS, REFUSED_RULE_COUNTS) for file in folder.glob(f"nights/*/{name}")]
    if not files:
        return None
    counts = json.loads(max(files, key=lambda file: file.stat().st_mtime).read_text())
    found = {count["rule"]["name"]: count["examples"] for count in counts if count["broken"]}
    return next((found[name][0] for name in ("sale_open", "events_recent") if name in found), None)
