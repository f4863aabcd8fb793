"""exposures_compacted, the last night's users → the attributes of users, as their requests have them."""

from recsys.config.settings import Settings
from recsys.storage.outputs import newest_runs
from recsys.tables.logs import COMPACTED_EXPOSURES
from recsys.tables.night import USERS
from recsys.tables.parts import has_begun, read_arrow


def user_attributes(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the attributes of users: those of their latest logged page, else those of the last night's table `users`.

    Users without attributes are left out.
    """
    folder = settings.place
    found: dict[str, dict[str, str]] = {}
    tables = (outputs / USERS.name for outputs in newest_runs(folder))
    users = next((table for table in tables if table.exists()), None)
    if users is not None:
        rows = read_arrow(users, columns=["user_id", "attributes"]).to_pylist()
        found = {row["user_id"]: dict(row["attributes"]) for row in rows if row["attributes"]}
    if has_begun(settings.place / COMPACTED_EXPOSURES.name):
        logged = COMPACTED_EXPOSURES.dataset(settings.place).to_table(["user_id", "attributes", "exposed_at"])
        for row in logged.sort_by("exposed_at").to_pylist():
            if row["attributes"]:
                found[row["user_id"]] = dict(row["attributes"])
    return found
