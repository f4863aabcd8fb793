"""Days carried on from the night before: the same as all of them validated anew."""

import json
import logging
import os
import shutil
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.engine.nights import night
from jobs.engine.run import Run
from jobs.night import validate_events
from jobs.night.validate_events import EVENT_DAYS
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.data_profile.rule_counts import RULE_COUNTS
from recsys.erasure.logs_and_tables import add_to_erased, erase_from_tables
from recsys.instants import DAY, to_micros
from recsys.storage.journal import discard
from recsys.tables.event_parts import day_of_part
from recsys.tables.parts import parts_of, read_arrow
from tests.helpers.shop_by_days import ShopByDays, random_day, random_sales
from tests.helpers.small_shop import AS_OF, RAW_TYPES, Row, event, sale

MIDNIGHT = to_micros(AS_OF)


def validated(by_days: ShopByDays, day: int, folder: str = "var", **changes: object) -> Run:
    run = night(by_days.settings(folder), MIDNIGHT + day * DAY, **changes)
    run.do((VALIDATE_TABLES,))
    return run


def written(run: Run) -> dict[str, object]:
    """Return what the night wrote: digests of parts, counts, and what is known of each day."""
    by_day = defaultdict(list)
    for part in parts_of(run.outputs / "events"):
        by_day[day_of_part(part.name)].append((part.rows, part.sha256))
    state = json.loads((run.outputs / EVENT_DAYS).read_text())
    del state["present"], state["stamps"]  # of the clock, and of files of another shop's folder
    return {
        "events": dict(by_day),
        "rejected": [part.sha256 for part in parts_of(run.outputs / "rejected_rows")],
        "counts": json.loads((run.outputs / RULE_COUNTS).read_text()),
        "state": state,
    }


def carried(run: Run, caplog) -> str:
    """Return the line of the log that says which days were carried on."""
    return next(line for line in reversed(caplog.messages) if line.startswith("    events: "))


@pytest.fixture
def by_days(spark, tmp_path) -> ShopByDays:
    """Three days of events."""
    shop = ShopByDays(tmp_path)
    shop.write_sales([sale("s1", -400, 400), sale("s2", -400, 400)])
    for day in (-3, -2, -1):
        shop.write_day(day, [event("ann", "s1", 24 * day + 1), event("bob", "s2", 24 * day + 2)])
    return shop


@pytest.fixture(autouse=True)
def _logs(caplog):
    caplog.set_level(logging.INFO, logger="jobs")


@pytest.mark.parametrize("seed", range(2))
def test_random_nights_that_carry_days_on_write_what_nights_write_that_read_everything(spark, tmp_path, seed, caplog):
    rng = np.random.default_rng(seed)
    shop = ShopByDays(tmp_path)
    shop.write_sales(random_sales(rng))
    for day in range(-9, 0):
        shop.write_day(day, random_day(rng, day, shop.days.get(day - 1, [])))
    for day in range(4):
        if day:
            changes = rng.permutation(["late", "correct", "remove", "sale", "erase"])[: rng.integers(0, 3)]
            _change(shop, rng, day, changes)
            shop.write_day(
                day - 1, random_day(rng, day - 1, [*shop.days.get(day - 2, []), *shop.days.get(day - 3, [])])
            )
        by_days, anew = validated(shop, day), validated(shop, day, f"anew{day}", rebuilds=True)
        assert written(by_days) == written(anew)
    assert "carried on from" in caplog.text


def _change(shop: ShopByDays, rng: np.random.Generator, night_: int, changes: list[str]) -> None:
    """Change raw tables of earlier days."""
    some_day = int(rng.choice(sorted(shop.days)))
    if "late" in changes:
        shop.write_day(some_day, [*shop.days[some_day], *random_day(rng, some_day, [], 3)])
    if "correct" in changes:
        shop.write_day(some_day, shop.days[some_day][1:])
    if "remove" in changes:
        shop.remove_day(min(shop.days))
    if "sale" in changes:
        shop.write_sales([*shop.sales[1:], sale("s8", -100, 100 + night_)])
    if "erase" in changes:
        for folder in ("var", *(f"anew{number}" for number in range(4))):
            add_to_erased(shop.shop.folder / folder, "bob")


def test_only_new_days_are_read(by_days, caplog):
    validated(by_days, 0)
    by_days.write_day(0, [event("ann", "s2", 3)])
    shutil.move(by_days.shop.folder / "raw/events", by_days.shop.folder / "raw/elsewhere")
    for day in (-3, -2, -1):  # whoever read their rows would fail: only sizes, times and footers are those of before
        _damage_rows(by_days.shop.folder / "raw/elsewhere", day)
    shutil.move(by_days.shop.folder / "raw/elsewhere", by_days.shop.folder / "raw/events")
    run = validated(by_days, 1)
    assert "1 of 4 days of raw files are new or changed" in carried(run, caplog)
    assert "3 days of events are carried on from 20260301T000000Z, 1 made anew" in carried(run, caplog)
    assert read_arrow(run.outputs / "events").num_rows == 7


def _damage_rows(folder: Path, day: int) -> None:
    """Overwrite the rows of a file, and leave its size, time and footer."""
    file = folder / f"received={AS_OF + timedelta(days=day):%Y-%m-%d}/part-0.parquet"
    status = file.stat()
    content = bytearray(file.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-footer] = bytes(len(content) - 4 - footer)
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_parts_of_carried_days_are_the_same_files(by_days):
    before = validated(by_days, 0)
    by_days.write_day(0, [event("ann", "s2", 3)])
    after = validated(by_days, 1)
    names = [{part.name for part in parts_of(run.outputs / "events")} for run in (before, after)]
    assert len(names[0]) == 3
    assert names[0] < names[1]
    for name in names[0]:
        assert (before.outputs / "events" / name).samefile(after.outputs / "events" / name)


def test_late_event_makes_the_day_anew_on_which_it_occurred(by_days, caplog):
    validated(by_days, 0)
    by_days.write_day(0, [event("ann", "s2", 3), event("ann", "s1", -40), event("ann", "s1", -47)])  # one is a copy
    run = validated(by_days, 1)
    assert "2 days of events are carried on from 20260301T000000Z, 2 made anew" in carried(run, caplog)
    events = read_arrow(run.outputs / "events").to_pylist()
    assert sum(each["occurred_at"] == at_hour(-40) for each in events) == 1
    assert len(events) == 8


def at_hour(hours: float) -> datetime:
    return AS_OF + timedelta(hours=hours)


def test_night_in_the_past_uses_no_later_night(by_days, caplog):
    validated(by_days, 2)
    run = validated(by_days, 0)
    assert "no earlier night" in carried(run, caplog)


def test_events_that_were_not_known_yet_are_read_again_when_they_are(by_days):
    by_days.write_day(1, [event("cid", "s1", 30)])
    assert read_arrow(validated(by_days, 0).outputs / "events").num_rows == 6
    assert read_arrow(validated(by_days, 1).outputs / "events").num_rows == 6
    assert read_arrow(validated(by_days, 2).outputs / "events").num_rows == 7


def test_discarded_night_is_not_used(by_days, caplog):
    discard(validated(by_days, 0).folder)
    assert "no earlier night" in carried(validated(by_days, 1), caplog)


def test_other_sql_or_settings_read_everything(by_days, caplog):
    validated(by_days, 0)
    by_days.shop.write_sql("events", "select * except (received) from {raw_events} where user_id <> 'bob'")
    run = validated(by_days, 1)
    assert "no earlier night has events of the same source" in carried(run, caplog)
    assert set(read_arrow(run.outputs / "events")["user_id"].to_pylist()) == {"ann"}


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("select distinct user_id, sale_id, kind, occurred_at from {raw_events}", "needs all rows at once"),
        (
            "select user_id, sale_id, kind, occurred_at from {raw_events} "
            "where user_id in (select user_id from {raw_events} where kind = 'visit')",
            "depends on more than the row itself",
        ),
        (
            "select user_id, sale_id, kind, least(occurred_at, current_timestamp()) as occurred_at from {raw_events}",
            "depends on more than the row itself (current_timestamp)",
        ),
    ],
)
def test_sql_over_more_than_a_row_reads_everything(by_days, caplog, sql, why):
    by_days.shop.write_sql("events", sql)
    assert why in carried(validated(by_days, 0), caplog)


def test_recorded_events_are_carried_on_too(by_days, caplog, monkeypatch):
    columns = ", ".join(RAW_TYPES["events"].names)
    sql = f"select {columns} from {{raw_events}} union all select {columns} from {{recorded_events}}"
    by_days.shop.write_sql("events", sql)

    def record(day: int, rows: list[Row]) -> None:
        recorded = pa.Table.from_pylist(rows, RAW_TYPES["events"])
        for name in ("event_id", "attribution_token"):
            recorded = recorded.append_column(name, pa.array([""] * len(rows)))
        for folder in ("var", "anew"):
            of_day = by_days.shop.folder / f"{folder}/recorded_events_compacted/day=2026-03-{day:02}"
            of_day.mkdir(parents=True, exist_ok=True)
            pq.write_table(recorded, of_day / "part.parquet")

    record(1, [event("bot", "nothing", 2, recorded_at=at_hour(3)), event("cid", "s1", 2, recorded_at=at_hour(3))])
    record(2, [event("cid", "s1", 26, recorded_at=at_hour(27))])
    validated(by_days, 2)
    record(3, [event("bot", "nothing", 50, recorded_at=at_hour(51)), event("dan", "s2", 50, recorded_at=at_hour(51))])
    monkeypatch.setattr(validate_events._Work, "events_of_shop", None)
    run = validated(by_days, 3)
    assert "1 of 6 days of raw files are new or changed" in carried(run, caplog)
    found = written(run)
    broken = {(each["table"], each["rule"]["name"]): each["broken"] for each in found["counts"] if each["broken"]}
    assert broken == {("recorded_events", "sale_known"): 2}
    assert found == written(validated(by_days, 3, "anew", rebuilds=True))


def test_erased_user_is_in_no_day_that_is_carried_on(by_days):
    first = validated(by_days, 0)
    folder = Path(first.settings.folder)
    add_to_erased(folder, "bob")
    erased = erase_from_tables(folder, "bob")
    assert sum(erased.values()) == 3
    run = validated(by_days, 1)
    for each in (first, run):
        assert set(read_arrow(each.outputs / "events")["user_id"].to_pylist()) == {"ann"}
    add_to_erased(Path(run.settings.folder).with_name("anew"), "bob")
    assert written(run) == written(validated(by_days, 1, "anew", rebuilds=True))
