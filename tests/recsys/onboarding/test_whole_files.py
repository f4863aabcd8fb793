import pytest

from recsys.instants import DAY, parse_instant
from recsys.onboarding.columns import Column
from recsys.onboarding.guesses import guess_columns
from recsys.onboarding.plan import Plan
from recsys.onboarding.whole_files import count_events, margin_days

LAST = parse_instant("2025-03-28")


@pytest.fixture(scope="module")
def dates_alone(spark):
    """Two files of events that tell days only: one sale a day, the last on LAST, and a plan of them."""
    days = "from (select explode(sequence(0, 19)) as n)"
    dated = "cast(date_sub(date '2025-03-28', n) as string) as bought"
    raw = {
        "raw_events": spark.sql(f"select 'u1' as user, concat('s', n) as sale, {dated} {days}"),
        "raw_events_2": spark.sql(f"select 'u2' as user, concat('s', n) as sale, {dated}, n % 2 as qty {days}"),
    }
    samples = {
        table: [Column(name, name if name != "user" else "`user`", list(values)) for name, values in columns.items()]
        for table, columns in {
            name.removeprefix("raw_"): frame.toPandas().to_dict("list") for name, frame in raw.items()
        }.items()
    }
    samples["sales"] = samples["events"]
    files = {"sales": "raw_events", "events": "raw_events", "events_2": "raw_events_2"}
    return raw, Plan("a", "var/a", {}, files, guess_columns(samples, {}), {}, {}, every_kind={"events": "visit"})


def test_sale_of_the_last_day_is_open_on_the_morning_after(spark, dates_alone):
    # A day after its date each sale is closed at that midnight; within 7 days those of six are open, within 30 all.
    raw, plan = dates_alone
    assert margin_days(spark, raw, plan, LAST) == 30
    assert margin_days(spark, raw, plan, LAST - 4 * DAY) == 7  # with the four days after it ten, half of them


def test_events_of_all_files_are_counted(spark, dates_alone):
    raw, plan = dates_alone
    counts = count_events(spark, raw, plan, LAST + DAY)
    assert (counts.rows, counts.returns, counts.last, counts.last_user) == (40, 10, LAST, "u2")
