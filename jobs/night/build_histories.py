"""sales, events → user_histories: from those of an earlier night and the days of events that differ, or anew."""

import json
import logging
from typing import Any

from jobs.engine.code_version import code_version, library_versions
from jobs.engine.nights import main
from jobs.engine.run import Run, Step, earlier_outputs
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.pipeline.event_days import NO_DAY, day_number
from recsys.pipeline.history_parts import EarlierHistories, write_histories
from recsys.settings import digest
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place
from recsys.tables.event_parts import day_of_part
from recsys.tables.night import EVENTS, SALES, USER_HISTORIES
from recsys.tables.parts import parts_of, read_arrow
from recsys.wording import plural

HISTORY_DAYS = "history_days.json"
"""What the histories were made of: the digests of the parts of each day of events, and of the sales."""
_ANEW_FROM = 0.5
"""Share of the days of events from which on all are read."""
_log = logging.getLogger(__name__)


def build_histories(run: Run, out: Place) -> str:
    """Write one row per user with the user's events."""
    partitions = int(run.spark.conf.get("spark.sql.shuffle.partitions") or 1)
    made_of = _made_of(run.outputs, partitions)
    earlier = _earlier(run, made_of)
    only = None
    if earlier is not None:
        days = set(earlier.days)
        names = [part.name for part in parts_of(run.outputs / EVENTS.name)]
        only = [name for name in names if _day_of(name) in days]
    events = EVENTS.read(run.spark, run.outputs, only)
    write_histories(events, run.shop.catalogue, out / USER_HISTORIES.name, partitions, earlier)
    (out / HISTORY_DAYS).write_text(json.dumps(made_of))
    return plural(USER_HISTORIES.rows(out), "user")


def _made_of(outputs: Outputs, partitions: int) -> dict[str, Any]:
    """Return what the histories of a night are made of."""
    days: dict[str, list[str]] = {}
    for part in parts_of(outputs / EVENTS.name):
        days.setdefault(day_of_part(part.name), []).append(part.sha256)
    key = digest([partitions, code_version(build_histories), library_versions()])
    return {"key": key, "days": days, "sales": [part.sha256 for part in parts_of(outputs / SALES.name)]}


def _earlier(run: Run, made_of: dict[str, Any]) -> EarlierHistories | None:
    """Return the newest histories that most of the events are in already; None if there are none."""
    for name, outputs in earlier_outputs(run):
        if not (outputs / HISTORY_DAYS).exists() or not (outputs / USER_HISTORIES.name).exists():
            continue
        before = json.loads((outputs / HISTORY_DAYS).read_text())
        sales = [part.sha256 for part in parts_of(outputs / SALES.name)]
        if before["key"] != made_of["key"] or before["sales"] != sales:
            continue
        both = before["days"].keys() | made_of["days"].keys()
        differ = {day for day in both - {NO_DAY} if before["days"].get(day) != made_of["days"].get(day)}
        if len(differ) > _ANEW_FROM * len(both):
            return None
        _log.info(f"    user_histories: {len(differ)} of {len(both)} days of events differ from those of {name}")
        position = run.shop.catalogue.position
        sale_ids = sorted(read_arrow(outputs / SALES.name, columns=["sale_id"])["sale_id"].to_pylist())
        return EarlierHistories(
            outputs / USER_HISTORIES.name,
            tuple(part.name for part in parts_of(outputs / USER_HISTORIES.name)),
            tuple(sorted(day_number(day) for day in differ)),
            tuple(position.get(sale_id, -1) for sale_id in sale_ids),
        )
    return None


def _day_of(name: str) -> int:
    """Return the number of the day of a part of the events; -1 of one without a day."""
    day = day_of_part(name)
    return -1 if day == NO_DAY else day_number(day)


BUILD_HISTORIES = Step("build_histories", build_histories, ("user_histories", HISTORY_DAYS), inputs=(VALIDATE_TABLES,))

if __name__ == "__main__":
    main(BUILD_HISTORIES)
