"""exposures_compacted, the last night's users → the attributes of users, as their requests have them."""

from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys.config.settings import Settings
from recsys.tables.logs import COMPACTED_EXPOSURES


def user_attributes(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the attributes of users: those of their latest logged page, else those of the last night's table `users`.

    Users without attributes are left out.
    """
    folder = Path(settings.folder)
    found: dict[str, dict[str, str]] = {}
    nights = sorted((folder / "nights").glob("*/users"))
    if nights:
        rows = pq.read_table(nights[-1], columns=["user_id", "attributes"]).to_pylist()
        found = {row["user_id"]: dict(row["attributes"]) for row in rows if row["attributes"]}
    pages = folder / COMPACTED_EXPOSURES.name
    if pages.exists():
        logged = ds.dataset(pages, format="parquet", partitioning="hive").to_table(
            ["user_id", "attributes", "exposed_at"]
        )
        for row in logged.sort_by("exposed_at").to_pylist():
            if row["attributes"]:
                found[row["user_id"]] = dict(row["attributes"])
    return found
