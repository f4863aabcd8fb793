"""Compaction of logs in an object store: each record once as on a disk, whatever fails and whoever else runs."""

import json
import random
import secrets
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from deploy.ship_segments import ship
from jobs.experiments import user_attributes as of_users
from jobs.experiments.user_attributes import attribute_names, user_attributes
from jobs.night import compact_exposures as job
from jobs.night.compact_exposures import NOTHING_TO_COMPACT, Compacted, compact, read_exposures
from recsys.config.settings import Settings
from recsys.errors import BusyError, InputError
from recsys.logs.log_files import LogFile
from recsys.logs.records import EXPOSURES as LOG
from recsys.pipeline import sources
from recsys.storage.places import Place, sizes_below
from recsys.tables.logs import COMPACTED_EVENTS, COMPACTED_EXPOSURES, EXPOSURES, RECORDED_EVENTS
from recsys.tables.night import USERS
from recsys.tables.parts import last_list, remove_unlisted, replace_part, write_file
from tests.helpers.logged_lines import exposure, visit
from tests.helpers.object_store import CUT, LOST, REFUSED


@pytest.fixture
def folder(object_store) -> Place:
    yield object_store(secrets.token_hex(4))
    object_store.fault = lambda method, path: None


ATTRIBUTES = pa.map_(pa.string(), pa.string())


def deliver(folder: Place, name: str, *lines: bytes, log: str = LOG) -> None:
    if isinstance(folder, Path):
        (folder / log).mkdir(exist_ok=True)
    (folder / log / f"{name}.jsonl").write_bytes(b"".join(lines))


def requests_of(spark, folder: Place) -> dict[date, Counter]:
    """Return the number of records of each request on each day."""
    found: dict[date, Counter] = {}
    for row in COMPACTED_EXPOSURES.read(spark, folder).select("day", "request_id").collect():
        found.setdefault(row["day"], Counter())[row["request_id"]] += 1
    return found


def march(day: int) -> date:
    return date(2026, 3, day)


def test_random_deliveries_give_the_records_that_they_give_on_a_disk(spark, folder, tmp_path):
    rng = random.Random(7)
    records = {f"r{n}": exposure(f"r{n}", rng.uniform(0, 72), f"ü{n % 7}\n", propensities=[0.5]) for n in range(40)}
    for run in range(2):
        for file in range(2):
            some = [records[name] for name in rng.choices(sorted(records), k=15)]
            broken = [line[: rng.randrange(1, 90)] + b"\n" for line in some if rng.random() < 0.1]
            for place in (folder, tmp_path):
                deliver(place, f"{run}-{file}", *some, *broken, b"\xff\n", b"\n", b"torn")
        done = [compact(spark, place, EXPOSURES) for place in (folder, tmp_path)]
        assert done[0] == done[1]
    tables = [EXPOSURES.compacted, EXPOSURES.rejected]
    for table in tables:
        rows = [sorted(map(str, table.read(spark, place).collect())) for place in (folder, tmp_path)]
        assert rows[0] == rows[1], table.name
    wanted = ds.field("day") == march(2)
    columns = ["event_id", "exposed_at", "user_id", "scores", "day"]
    read = [COMPACTED_EXPOSURES.dataset(each).to_table(columns, wanted) for each in (folder, tmp_path)]
    assert read[0].sort_by("event_id").equals(read[1].sort_by("event_id"))
    assert list(sizes_below(folder / LOG)) == []


def test_without_logs_nothing_is_done_and_nothing_is_there(spark, folder):
    assert compact(spark, folder, EXPOSURES) == NOTHING_TO_COMPACT
    with pytest.raises(InputError, match="exposures_compacted does not exist: no page was logged"):
        read_exposures(spark, folder, [march(1)])
    assert not sources.has_recorded_events(folder)
    deliver(folder, "a", b"no record\n")
    assert compact(spark, folder, EXPOSURES) == Compacted(0, 0, 1, 1, ())
    assert sizes_below(folder / COMPACTED_EXPOSURES.name) == {}


@pytest.mark.parametrize(
    ("kind", "method", "ending"),
    [
        (REFUSED, "PUT", "/_parts-00000002.json"),
        (CUT, "PUT", "/_parts-00000002.json"),
        (LOST, "PUT", "/_parts-00000002.json"),
        (REFUSED, "DELETE", "/b.jsonl"),
        (LOST, "DELETE", "/b.jsonl"),
        (LOST, "PUT", ".parquet"),
        (CUT, "GET", "/a.jsonl"),
    ],
)
def test_a_request_that_fails_loses_and_doubles_nothing(spark, folder, object_store, kind, method, ending):
    deliver(folder, "a", exposure("r0"))
    compact(spark, folder, EXPOSURES)
    deliver(folder, "a", exposure("r0"), exposure("r1"), b"torn")
    deliver(folder, "b", exposure("r1"), exposure("r2", 24))
    object_store.fail_once(kind, method, ending)
    compact(spark, folder, EXPOSURES)
    compact(spark, folder, EXPOSURES)
    assert requests_of(spark, folder) == {march(1): {"r0": 1, "r1": 1}, march(2): {"r2": 1}}
    assert EXPOSURES.rejected.read(spark, folder).count() == 1
    assert list(sizes_below(folder / LOG)) == []


@pytest.mark.parametrize("step", ["new_parts", "add_to_list", "remove"])
def test_a_job_killed_before_any_step_is_run_again(spark, folder, monkeypatch, step):
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    deliver(folder, "a", exposure("r1"), exposure("r2", 24))
    with monkeypatch.context() as patch:
        patch.setattr(job, step, die)
        with pytest.raises(Killed):
            compact(spark, folder, EXPOSURES)
    deliver(folder, "b", exposure("r2", 24), exposure("r3", 24))
    compact(spark, folder, EXPOSURES)
    assert requests_of(spark, folder) == {march(1): {"r1": 1}, march(2): {"r2": 1, "r3": 1}}


def test_of_two_jobs_at_once_one_adds_nothing(spark, folder, monkeypatch):
    deliver(folder, "a", exposure("r1"))
    write = job.new_parts

    def overtaken(*arguments: object) -> object:
        monkeypatch.undo()
        written = write(*arguments)
        compact(spark, folder, EXPOSURES)  # between the other's look at the table and its addition
        return written

    monkeypatch.setattr(job, "new_parts", overtaken)
    with pytest.raises(
        BusyError, match=r"another process added rows to s3://.*exposures_compacted meanwhile: run again"
    ):
        compact(spark, folder, EXPOSURES)
    assert compact(spark, folder, EXPOSURES) == NOTHING_TO_COMPACT
    assert requests_of(spark, folder) == {march(1): {"r1": 1}}
    table = folder / COMPACTED_EXPOSURES.name
    assert len([name for name in sizes_below(table) if name.endswith(".parquet")]) == 2
    remove_unlisted(table, datetime.now(UTC))
    assert len([name for name in sizes_below(table) if name.endswith(".parquet")]) == 2
    remove_unlisted(table, datetime.now(UTC) + timedelta(days=2))
    assert [name for name in sizes_below(table) if name.endswith(".parquet")] == [last_list(table)[1][0].name]


def test_log_files_that_another_job_has_taken_have_no_lines(spark, folder):
    deliver(folder, "a", b"1\n2\n")
    assert job.read_lines(spark, folder / LOG, ["a.jsonl", "gone.jsonl"]).collect() == [
        ("a.jsonl", "1"),
        ("a.jsonl", "2"),
    ]


def test_only_the_requested_days_are_read(spark, folder):
    deliver(folder, "a", exposure("r1"), exposure("r2", 24), exposure("r3", 48))
    compact(spark, folder, EXPOSURES)
    table = folder / COMPACTED_EXPOSURES.name
    for part in last_list(table)[1]:
        if part.name.startswith("day=2026-03-02"):
            (table / part.name).write_bytes(b"no Parquet file")
    found = read_exposures(spark, folder, [march(1), march(3), march(4)]).select("day", "request_id").collect()
    assert sorted(map(tuple, found)) == [(march(1), "r1"), (march(3), "r3")]
    assert read_exposures(spark, folder, []).collect() == []
    with pytest.raises(InputError, match="has 15 bytes, must have"):
        read_exposures(spark, folder, [march(2)])


def test_recorded_events_are_a_table_of_the_source_and_change_its_fingerprint(spark, folder, tmp_path):
    (tmp_path / "events.sql").write_text("select * from {recorded_events}")
    source = {"sql": str(tmp_path), "raw": {"lines": {"path": "lines.parquet"}}}
    settings = Settings.model_validate({"folder": str(folder), "source": source})
    before = sources.fingerprint(settings.source, folder)
    deliver(folder, "a", visit("ann", 1, 2), visit("ann", 1, 2), visit("bob", 30, 31), log="recorded_events")
    assert compact(spark, folder, RECORDED_EVENTS)[:2] == (2, 1)
    assert sources.has_recorded_events(folder)
    assert sources.fingerprint(settings.source, folder) != before
    assert {row["user_id"] for row in COMPACTED_EVENTS.read(spark, folder).collect()} == {"ann", "bob"}


def test_a_user_can_be_taken_out_of_a_part(spark, folder):
    deliver(folder, "a", exposure("r1", user="ann"), exposure("r2", user="bob"))
    compact(spark, folder, EXPOSURES)
    table = folder / COMPACTED_EXPOSURES.name
    (part,) = last_list(table)[1]
    rows = COMPACTED_EXPOSURES.dataset(folder).to_table()
    replace_part(table, part.name, rows.filter(ds.field("user_id") != "ann").drop(["day"]))
    assert requests_of(spark, folder) == {march(1): {"r2": 1}}
    assert part.name not in sizes_below(table)


def test_attributes_of_users_are_those_of_their_latest_page_or_of_the_night(spark, folder, monkeypatch):
    pages = [exposure("r1", 2, attributes={"market": "FR"}), exposure("r2", 1, attributes={"market": "DE", "age": "9"})]
    deliver(folder, "a", *pages, exposure("r3", 3, user="bob", attributes={"market": "IT"}))
    compact(spark, folder, EXPOSURES)
    outputs = folder / "nights" / "20260301T000000Z" / "data" / "validate_tables-1"
    of_night = {"ann": {"market": "ES"}, "cid": {"channel": "web"}, "dan": {}, "eve": {"channel": "app"}}
    rows = [(user, list(attributes.items())) for user, attributes in of_night.items()]
    USERS.write_rows(pd.DataFrame(rows, columns=["user_id", "attributes"]), outputs)
    unlisted = pa.table({"user_id": ["cid"], "attributes": pa.array([[("of", "a killed task")]], ATTRIBUTES)})
    write_file(outputs / USERS.name, "part-00001.parquet", [unlisted])
    source = {"sql": "sql", "raw": {"lines": {"path": "lines.parquet"}}}
    settings = Settings.model_validate({"folder": str(folder), "source": source})
    monkeypatch.setattr(of_users, "newest_runs", lambda _: [outputs])
    found = user_attributes(settings, ["ann", "cid", "dan", "fay"])
    assert found == {"ann": {"market": "FR"}, "cid": {"channel": "web"}}
    assert attribute_names(settings) == {"age", "channel", "market"}


def test_finished_log_files_are_put_into_the_store_once(spark, folder, tmp_path, object_store):
    (tmp_path / LOG).mkdir()
    writing, done = (LogFile(tmp_path / LOG, name) for name in ("writing", "done"))
    for log_file, request in ((writing, "r1"), (done, "r2")):
        log_file.write(exposure(request))
    done.finish()
    object_store.fail_once(LOST, "PUT", "done.jsonl")
    assert ship(tmp_path, folder, "pod-1") == 1
    assert ship(tmp_path, folder, "pod-1") == 0
    assert list(sizes_below(folder / LOG)) == ["pod-1-done.jsonl"]
    assert [path.name for path in (tmp_path / LOG).iterdir()] == ["writing.jsonl.open"]
    deliver(tmp_path, "done", exposure("r3"))  # the name of one that was shipped, with other records
    assert ship(tmp_path, folder, "pod-1") == 1
    names = list(sizes_below(folder / LOG))
    assert len(names) == 2
    written = {json.loads((folder / LOG / name).read_bytes())["request_id"] for name in names}
    assert written == {"r2", "r3"}
    writing.finish()
    ship(tmp_path, folder, "pod-1")
    assert compact(spark, folder, EXPOSURES).records == 3
