from pathlib import Path

import pytest

from recsys.config.pipeline import SourceSettings
from recsys.pipeline.raw_days import date_in, raw_days

SQL = "select user_id from {clicks}"


@pytest.mark.parametrize(
    ("file", "day"),
    [
        ("/data/events/day=2026-03-01/part-0.parquet", "20260301"),
        ("/data/events/year=2026/month=3/day=01/hour=07/part-0.parquet", "20260301"),
        ("/data/2026-01-01/export/2026/03/01.csv", "20260301"),  # the last date counts
        ("/data/events_20260301.csv", "20260301"),
        ("/data/events_2026_03_01-0001.csv", "20260301"),
        ("/data/part-00000-20260399-4f2b.parquet", "undated"),
        ("/data/events.parquet", "undated"),
        ("/data/part-1202603011.parquet", "undated"),
    ],
)
def test_date_of_a_file_is_the_last_one_in_its_path(file, day):
    assert date_in(Path(file)) == day


@pytest.fixture
def days_of(spark, tmp_path):
    """Return the raw days of a CSV table by an SQL."""
    (tmp_path / "sql").mkdir()

    def found(sql: str = SQL, names: tuple[str, ...] = ("a_2026-03-01.csv", "a_2026-03-02.csv"), **raw: object):
        (tmp_path / "sql/events.sql").write_text(sql)
        for name in [name for name in names if not (tmp_path / name).exists()]:
            (tmp_path / name).write_text("user_id,n\nu1,2\n")
        table = {"pattern": str(tmp_path / "*.csv"), "format": "csv", **raw}
        settings = SourceSettings.model_validate({"sql": str(tmp_path / "sql"), "raw": {"clicks": table}})
        clicks = spark.read.csv(str(tmp_path / names[0]), header=True)
        return raw_days(settings, tmp_path, spark.sql(sql, None, clicks=clicks))

    return found


def test_days_can_be_read_by_themselves_if_sql_takes_row_by_row(days_of):
    found = days_of(
        "with good as (select * from {clicks} where n > 0) select user_id from good union all "
        "select explode(array('x', 'two\n   lines')) from {clicks}"
    )
    assert found.why_whole == ""
    assert {day: [file.name for file in files] for day, files in found.files.items()} == {
        "20260301": ["a_2026-03-01.csv"],
        "20260302": ["a_2026-03-02.csv"],
    }


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("select distinct user_id from {clicks}", "Distinct"),
        ("select user_id from {clicks} group by all", "Aggregate"),
        ("select user_id, row_number() over (order by n) from {clicks}", "Window"),
        ("select a.user_id from {clicks} a join {clicks} b using (user_id)", "Join"),
        ("select user_id from {clicks} union select n from {clicks}", "Distinct"),
        ("select user_id from {clicks} limit 1", "GlobalLimit"),
        ("select user_id from {clicks} where exists (select 1 from {clicks} where n > 3)", "exists"),
        ("select user_id from {clicks} where n = (select max(n) from {clicks})", "Aggregate"),
        ("select user_id from {clicks} where rand() < 0.5", "rand"),
    ],
)
def test_sql_that_needs_other_rows_reads_all_days(days_of, sql, why):
    assert why in days_of(sql).why_whole


def test_files_without_dates_and_formats_that_need_all_files_are_read_whole(days_of):
    assert "no dates" in days_of(names=("a.csv",)).why_whole
    assert "inferSchema" in days_of(options={"inferSchema": "true"}).why_whole
    assert "is json" in days_of(format="json").why_whole


def test_stamps_of_a_day_change_with_its_files_alone(days_of, tmp_path):
    before = days_of().stamps()
    (tmp_path / "b_2026-03-02.csv").write_text("user_id,n\nu2,2\n")
    after = days_of().stamps()
    assert before["20260301"] == after["20260301"]
    assert before["20260302"] != after["20260302"]
