"""exposures_compacted, the last night's users → the attributes of users, as their requests have them.

Both tables are read a batch at a time, so that memory grows with the users that are asked for and not with the shop.
"""

from collections.abc import Collection, Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from recsys.config.settings import Settings
from recsys.storage.outputs import newest_runs
from recsys.tables.logs import COMPACTED_EXPOSURES
from recsys.tables.night import USERS
from recsys.tables.parts import has_begun, read_batches


def user_attributes(settings: Settings, users: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the attributes of some users: those of their latest logged page, else those of the last night's `users`.

    Users without attributes are left out.
    """
    wanted = pa.array(users, pa.string())
    found: dict[str, dict[str, str]] = {}
    for batch in _batches_of_night(settings, ["user_id", "attributes"], wanted):
        found.update((row["user_id"], dict(row["attributes"])) for row in batch.to_pylist() if row["attributes"])
    latest: dict[str, datetime] = {}
    for batch in _batches_of_log(settings, ["user_id", "attributes", "exposed_at"], wanted):
        for row in batch.to_pylist():
            user, shown_at = row["user_id"], row["exposed_at"]
            if row["attributes"] and (user not in latest or shown_at >= latest[user]):
                found[user], latest[user] = dict(row["attributes"]), shown_at
    return found


def attribute_names(settings: Settings) -> set[str]:
    """Return the names of the attributes that any user has on a logged page or in the last night's table `users`."""
    names: set[str] = set()
    for batches in (_batches_of_night, _batches_of_log):
        for batch in batches(settings, ["attributes"]):
            names.update(pc.unique(batch["attributes"].keys).to_pylist())
    return names


def _batches_of_night(
    settings: Settings, columns: list[str], users: pa.Array | None = None
) -> Iterator[pa.RecordBatch]:
    tables = (outputs / USERS.name for outputs in newest_runs(settings.place))
    table = next((each for each in tables if each.exists()), None)
    for batch in read_batches(table) if table is not None else ():
        wanted = batch if users is None else batch.filter(pc.is_in(batch["user_id"], users))
        yield wanted.select(columns)


def _batches_of_log(settings: Settings, columns: list[str], users: pa.Array | None = None) -> Iterator[pa.RecordBatch]:
    if has_begun(settings.place / COMPACTED_EXPOSURES.name):
        wanted = None if users is None else pc.is_in(pc.field("user_id"), users)
        yield from COMPACTED_EXPOSURES.dataset(settings.place).to_batches(columns=columns, filter=wanted)
