"""The files with the numbers of rows that break each rule, in the folder of a night."""

import json

from recsys.storage.outputs import newest_runs
from recsys.storage.places import Place, modified, place

RULE_COUNTS = "rule_counts.json"
REFUSED_RULE_COUNTS = "refused_rule_counts.json"
"""Counts of a refused source; those of the tables in use are in RULE_COUNTS beside it."""


def why_nothing_is_recent(folder: Place) -> str | None:
    """Return what the latest night found of a source without an open sale or recent events; None if it has them.

    Args:
        folder: The shop's folder.
    """
    for outputs in newest_runs(folder):
        files = (outputs / RULE_COUNTS, place(outputs.folder) / REFUSED_RULE_COUNTS)
        if found := [file for file in files if file.exists()]:
            return _said_by(max(found, key=modified))
    return None


def _said_by(file: Place) -> str | None:
    counts = json.loads(file.read_text())
    found = {count["rule"]["name"]: count["examples"] for count in counts if count["broken"]}
    return next((found[name][0] for name in ("sale_open", "events_recent") if name in found), None)
