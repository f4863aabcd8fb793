"""Compaction of the service's logs: each record once, with any deliveries and wherever the job was killed."""

import itertools
import json
import random
import shutil
import threading
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as f

from jobs.night.compact_exposures import Compacted, compact, compact_exposures, read_exposures
from recsys.config.pipeline import SourceSettings
from recsys.errors import BusyError
from recsys.instants import DAY, HOUR, from_micros
from recsys.logs.log_files import LogFile, finished
from recsys.logs.records import Assignment
from recsys.pipeline import sources
from recsys.storage.local import held
from recsys.tables.logs import COMPACTED_EVENTS, COMPACTED_EXPOSURES, EXPOSURES, RECORDED_EVENTS
from recsys.tables.night import EVENTS
from serving.telemetry.record_log import RecordLog
from tests.helpers.logged_lines import MARCH_1, exposure, visit
from tests.helpers.small_shop import SmallShop, event, sale
from tests.helpers.waiting import wait_until

Days = dict[date, Counter]


def deliver(folder: Path, name: str, *lines: bytes, log: str = "exposures") -> Path:
    """Write a finished log file."""
    path = folder / log / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


def compacted(folder: Path) -> Days:
    """Return the number of records of each request on each day."""
    days: Days = {}
    for row in pq.read_table(folder / COMPACTED_EXPOSURES.name, columns=["day", "request_id"]).to_pylist():
        days.setdefault(date.fromisoformat(row["day"]), Counter())[row["request_id"]] += 1
    return days


def rejected(folder: Path) -> list[tuple[str, str, str]]:
    rows = pq.read_table(folder / EXPOSURES.rejected.name).sort_by([("file", "ascending"), ("line", "ascending")])
    return [(row["file"], row["reason"], row["line"]) for row in rows.to_pylist()]


def march(day: int) -> date:
    return date(2026, 3, day)


def test_records_come_to_the_folder_of_their_day_and_log_files_go(spark, tmp_path):
    deliver(tmp_path, "a", exposure("r1", 23.999), exposure("r2", 24.0))
    deliver(tmp_path, "b", exposure("r3", 0.0))
    done = compact(spark, tmp_path, EXPOSURES)
    assert done == Compacted(records=3, duplicates=0, rejected=0, files=2, days=(march(1), march(2)))
    assert compacted(tmp_path) == {march(1): {"r1": 1, "r3": 1}, march(2): {"r2": 1}}
    assert {path.name for path in (tmp_path / "exposures_compacted").iterdir()} == {"day=2026-03-01", "day=2026-03-02"}
    assert finished(tmp_path / "exposures") == []
    assert not list(tmp_path.glob(".tmp-*"))
    assert str(done) == "3 records of 2 files for 2026-03-01, 2026-03-02; 0 duplicates, 0 lines set aside"


def test_every_value_arrives(spark, tmp_path):
    assignment = Assignment("image-themes", 2, "themes", 4711, "assigned", "ab12")
    others = {"attributes": {"country": "DE"}, "session_sale_ids": ["x", "y"], "rules": ["one a brand"]}
    others["teams"] = ["control", "themes", ""]
    deliver(
        tmp_path,
        "a",
        exposure("r1", 1.5, "zoé\n", assignment=assignment, propensities=[0.1], overlap_at_10=0.7, **others),
    )
    compact(spark, tmp_path, EXPOSURES)
    row = COMPACTED_EXPOSURES.read(spark, tmp_path).withColumn("exposed_at", f.unix_micros("exposed_at")).first()
    assert row.asDict() == {
        **assignment._asdict(),
        **others,
        "event_id": json.loads(exposure("r1", user="zoé\n", assignment=assignment))["event_id"],
        "exposed_at": MARCH_1 + 3 * HOUR // 2,
        "request_id": "r1",
        "user_id": "zoé\n",
        "surface": "home",
        "policy": "meta",
        "model_version": "3",
        "snapshot": "20260301T000000Z-1a",
        "fallback_level": "NONE",
        "n": 10,
        "sale_ids": ["c", "a", "b"],
        "scores": [0.5, 0.25, None],
        "propensities": [0.1],
        "overlap_at_10": 0.7,
        "day": march(1),
    }


def test_a_record_delivered_several_times_is_stored_once(spark, tmp_path):
    lines = [exposure("r1"), exposure("r2", 30)]
    for name in ("a", "b"):
        deliver(tmp_path, name, *lines, lines[0])
    assert compact(spark, tmp_path, EXPOSURES)[:3] == (2, 4, 0)
    deliver(tmp_path, "a", *lines, exposure("r3", 30))
    assert compact(spark, tmp_path, EXPOSURES) == (1, 2, 0, 1, (march(2),))
    assert compacted(tmp_path) == {march(1): {"r1": 1}, march(2): {"r2": 1, "r3": 1}}


def test_first_of_differing_copies_is_stored_even_across_midnight(spark, tmp_path):
    first, again = exposure("r1", 23.99), exposure("r1", 24.01)
    deliver(tmp_path, "a", again, first)
    deliver(tmp_path, "b", exposure("r2", 24.02))
    assert compact(spark, tmp_path, EXPOSURES)[:2] == (2, 1)
    for late in (again, exposure("r2", 23.98)):
        deliver(tmp_path, "c", late)
        assert compact(spark, tmp_path, EXPOSURES)[:2] == (0, 1)
    assert compacted(tmp_path) == {march(1): {"r1": 1}, march(2): {"r2": 1}}


def test_a_late_record_of_a_compacted_day_is_added_to_it(spark, tmp_path):
    deliver(tmp_path, "a", exposure("r1"), exposure("r2", 30))
    compact(spark, tmp_path, EXPOSURES)
    before = {path: path.read_bytes() for path in (tmp_path / "exposures_compacted").rglob("*.parquet")}
    deliver(tmp_path, "b", exposure("late", 1))
    assert compact(spark, tmp_path, EXPOSURES).days == (march(1),)
    assert compacted(tmp_path) == {march(1): {"r1": 1, "late": 1}, march(2): {"r2": 1}}
    assert {path: path.read_bytes() for path in before} == before


def test_damaged_lines_are_set_aside_once_with_file_and_reason(spark, tmp_path):
    torn = exposure("r2")[:100]
    lost_id = b'{"exposed_at":1772323200000000}\n'
    beyond = exposure("r3").replace(str(MARCH_1).encode(), b"1772323200000000000")
    text = exposure("r4").replace(b'"n":10', b'"n":"ten"')
    for _ in range(2):
        deliver(tmp_path, "a", exposure("r1"), lost_id, beyond, text, torn)
        deliver(tmp_path, "b", torn)
        done = compact(spark, tmp_path, EXPOSURES)
        assert done.rejected == 5
        assert done.files == 2
    assert compacted(tmp_path) == {march(1): {"r1": 1}}
    whole = "not a complete JSON record with values of the columns' types"
    assert sorted(rejected(tmp_path)) == sorted(
        [
            ("a.jsonl", "event_id is missing", lost_id.decode().strip()),
            ("a.jsonl", "exposed_at is not an instant from 1970 to 2099", beyond.decode().strip()),
            ("a.jsonl", whole, text.decode().strip()),
            ("a.jsonl", whole, torn.decode()),
            ("b.jsonl", whole, torn.decode()),
        ]
    )


@pytest.mark.parametrize(
    "line", [b"", b"null", b"[]", b"7", b'"x"', b"\0" * 50, b"\xff\xfe{}", b"{}", b'{"event_id":""}']
)
def test_no_line_stops_the_job(spark, tmp_path, line):
    deliver(tmp_path, "a", line + b"\n", exposure("r1"))
    assert compact(spark, tmp_path, EXPOSURES)[:3] == (1, 0, 1)


@pytest.mark.parametrize("instant", [-1, 2**62, -(2**62), 4_102_444_800_000_000])
def test_a_record_with_an_impossible_instant_is_set_aside(spark, tmp_path, instant):
    deliver(tmp_path, "a", exposure("r1").replace(str(MARCH_1).encode(), str(instant).encode()), exposure("r2"))
    assert compact(spark, tmp_path, EXPOSURES)[:3] == (1, 0, 1)


def test_compaction_without_logs_does_nothing(spark, tmp_path):
    nothing = Compacted(records=0, duplicates=0, rejected=0, files=0, days=())
    assert compact(spark, tmp_path / "new", EXPOSURES) == nothing
    (tmp_path / "exposures").mkdir()
    assert compact(spark, tmp_path, EXPOSURES) == nothing
    assert not (tmp_path / "exposures_compacted").exists()


def test_what_a_dead_writer_left_is_compacted_and_what_is_written_now_is_not(spark, tmp_path):
    left = deliver(tmp_path, "dead", exposure("r1"), exposure("r2")[:-20])
    left.rename(left.with_suffix(".jsonl.open"))
    living = LogFile(tmp_path / "exposures", "living")
    living.write(exposure("r3"))
    assert compact(spark, tmp_path, EXPOSURES)[:4] == (1, 0, 1, 1)
    living.write(exposure("r4"))
    living.finish()
    assert compact(spark, tmp_path, EXPOSURES)[:4] == (2, 0, 0, 1)
    assert compacted(tmp_path) == {march(1): {"r1": 1, "r3": 1, "r4": 1}}


def test_records_logged_during_compaction_are_there_once_in_the_end(spark, tmp_path):
    log = RecordLog(tmp_path / "exposures", "exposures", bytes, flush_seconds=0.01, file_seconds=0.05)
    log.start()
    stopped, n = threading.Event(), itertools.count()

    def serve() -> None:
        while not stopped.wait(0.001):
            log.append(exposure(f"r{next(n)}"))

    service = threading.Thread(target=serve)
    service.start()
    try:
        during = []
        for _ in range(3):
            wait_until(lambda: finished(tmp_path / "exposures"))
            during.append(compact(spark, tmp_path, EXPOSURES))
    finally:
        stopped.set()
        service.join()
        log.close()
    last, total = compact(spark, tmp_path, EXPOSURES), next(n)
    assert sum(done.records for done in [*during, last]) == total
    assert compacted(tmp_path) == {march(1): Counter({f"r{number}": 1 for number in range(total)})}
    assert all(done[1:3] == (0, 0) for done in [*during, last])
    assert [done.records > 0 for done in during] == [True] * 3


def test_only_the_requested_days_are_read(spark, tmp_path):
    deliver(tmp_path, "a", exposure("r1"), exposure("r2", 24), exposure("r3", 48))
    compact(spark, tmp_path, EXPOSURES)
    for file in (tmp_path / "exposures_compacted/day=2026-03-02").glob("*.parquet"):
        file.write_bytes(b"no Parquet file")
    found = read_exposures(spark, tmp_path, [march(1), march(3), march(4)]).select("day", "request_id").collect()
    assert sorted(map(tuple, found)) == [(march(1), "r1"), (march(3), "r3")]
    assert read_exposures(spark, tmp_path, []).collect() == []


def test_two_jobs_do_not_compact_the_same_log(spark, tmp_path):
    with held(tmp_path / "exposures"), pytest.raises(BusyError):
        compact(spark, tmp_path, EXPOSURES)


class Killed(BaseException):
    """An error that no code of the job catches by mistake."""


def killed_at(monkeypatch, step: int) -> None:
    """Make the job die just before its n-th change of a file, counted from 0."""
    left = step

    def dying(change: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return change(*arguments, **options)

        return run

    for name in ("rename", "unlink"):
        monkeypatch.setattr(Path, name, dying(getattr(Path, name)))


def test_a_job_killed_before_any_change_loses_and_doubles_nothing(spark, tmp_path):
    start = tmp_path / "start"
    start.mkdir()
    deliver(start, "a", exposure("r0"))
    compact(spark, start, EXPOSURES)
    deliver(start, "a", exposure("r0"), exposure("r1"), exposure("r2", 24), b"torn")
    deliver(start, "b", exposure("r2", 24), exposure("r3", 2))
    expected = {march(1): {"r0": 1, "r1": 1, "r3": 1}, march(2): {"r2": 1}}
    for step in range(100):
        folder = tmp_path / str(step)
        shutil.copytree(start, folder)
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, step)
            try:
                compact(spark, folder, EXPOSURES)
                survived = True
            except Killed:
                survived = False
        compact(spark, folder, EXPOSURES)
        assert compacted(folder) == expected, step
        assert len(rejected(folder)) == 1
        assert finished(folder / "exposures") == []
        if survived:
            break
    # A file for each of two days, one of rejected lines, a scratch folder's lock, two log files, and the lists of parts
    # of two tables, each put in place from a scratch folder with a lock.
    assert step == 10


def test_random_deliveries_give_each_record_once(spark, tmp_path):
    rng = random.Random(5)
    records = {f"r{number}": exposure(f"r{number}", rng.uniform(0, 72), f"u{number % 7}") for number in range(60)}
    seen: set[str] = set()
    for run in range(4):
        wanted = []
        for file in range(rng.randrange(1, 4)):
            some = rng.choices(sorted(records), k=rng.randrange(30))
            broken = [records[name][: rng.randrange(1, 90)] + b"\n" for name in some if rng.random() < 0.1]
            deliver(tmp_path, f"{run}-{file}", *(records[name] for name in some), *broken)
            wanted += [*some, *[None] * len(broken)]
        done = compact(spark, tmp_path, EXPOSURES)
        names = [name for name in wanted if name]
        new = set(names) - seen
        assert done[:3] == (len(new), len(names) - len(new), wanted.count(None))
        seen |= new
    days: Days = {}
    for name in seen:
        instant = json.loads(records[name])["exposed_at"]
        days.setdefault(from_micros(instant // DAY * DAY).date(), Counter())[name] += 1
    assert compacted(tmp_path) == days


def test_recorded_events_are_a_raw_table_for_a_source(spark, tmp_path):
    deliver(
        tmp_path,
        "a",
        visit("ann", 1, 2),
        visit("ann", 1, 1.5),
        visit("bob", 30, 31, revenue=9.5),
        log="recorded_events",
    )
    assert compact(spark, tmp_path, RECORDED_EVENTS) == (2, 1, 0, 1, (march(1), march(2)))
    sql = tmp_path / "sql"
    sql.mkdir()
    names = "user_id, sale_id, kind, occurred_at, recorded_at, revenue"
    (sql / "events.sql").write_text(f"select {names} from {{recorded_events}}")
    raw = {"recorded_events": {"path": str(tmp_path / COMPACTED_EVENTS.name)}}
    settings = SourceSettings.model_validate({"sql": str(sql), "raw": raw})
    events = sources.select_table(spark, EVENTS, settings, sources.read_raw_tables(spark, settings, Path("absent")))
    found = events.selectExpr("user_id", "unix_micros(recorded_at) as recorded_at", "revenue").orderBy("user_id")
    assert [tuple(row) for row in found.collect()] == [
        ("ann", MARCH_1 + 3 * HOUR // 2, None),
        ("bob", MARCH_1 + 31 * HOUR, 9.5),
    ]


def test_a_shop_compacts_both_of_its_logs(spark, tmp_path):
    shop = SmallShop(tmp_path).write([sale("s1")], [event("u1", "s1", -1)])
    folder = Path(shop.settings().folder)
    deliver(folder, "a", exposure("r1"))
    deliver(folder, "a", visit("ann", 1, 2), visit("ann", 1, 2), log="recorded_events")
    done = compact_exposures(shop.settings())
    assert {name: (each.records, each.duplicates) for name, each in done.items()} == {
        "exposures": (1, 0),
        "recorded_events": (1, 1),
    }
