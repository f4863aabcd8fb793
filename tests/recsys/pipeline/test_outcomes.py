"""From logged pages and events to sums: small cases by hand, random ones against loops over pages and events."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import StructField, StructType

from recsys.experiments.analysis.outcomes import COLUMNS, Quantities, credit, nonzero, winsorized
from recsys.experiments.phase_summary import ALL, ALL_USERS, TRIGGERED, PhaseSummary
from recsys.experiments.settings import Experiment
from recsys.instants import DAY, HOUR, SECOND, from_micros, parse_instant
from recsys.pipeline import outcomes
from recsys.pipeline.experiment_health import health
from recsys.pipeline.outcome_sums import caps, experiment_sums, sums_of, whole_users
from recsys.tables.experiments import EXPERIMENT_SUMS, EXPERIMENT_USERS
from recsys.tables.logs import COMPACTED_EVENTS, COMPACTED_EXPOSURES
from recsys.tables.night import EVENTS, Table

START = parse_instant("2026-03-02")
AS_OF = START + 12 * DAY
ATTRIBUTION = 3 * DAY
LOOKBACK = 2 * DAY
REVENUE = winsorized("revenue", 0.9)


@dataclass(frozen=True)
class Page:
    """A page as it was logged; `at` in hours after START."""

    user: str
    at: float
    variant: str | None = "control"
    reason: str = "assigned"
    request: str = ""
    level: str = "none"
    overlap: float | None = 1.0
    country: str | None = "DE"
    sales: Sequence[str] = ()
    teams: Sequence[str] | None = None
    model: str = "3"
    experiment: str = "image-themes"
    phase: int = 2

    @property
    def shown_at(self) -> int:
        return START + int(self.at * HOUR)

    @property
    def id(self) -> str:
        return self.request or f"{self.user}@{self.at}"


@dataclass(frozen=True)
class Event:
    """An event; `at` and `recorded` are its times in hours after START, the latter by default the former."""

    user: str
    at: float
    kind: str = "visit"
    sale: str = "s1"
    revenue: float | None = None
    recorded: float | None = None
    token: str = ""

    @property
    def occurred_at(self) -> int:
        return START + round(self.at * HOUR)

    @property
    def recorded_at(self) -> int:
        return START + round((self.at if self.recorded is None else self.recorded) * HOUR)


def experiment(kind: str = "ab", **analysis: Any) -> Experiment:
    metrics = [
        {"name": "bought", "type": "mean", "column": "purchases"},
        {"name": "looked", "type": "mean", "column": "visited"},
        {"name": "spent", "type": "mean", "column": "revenue", "winsorize": 0.9},
        {"name": "rate", "type": "ratio", "numerator": "attributed_visits", "denominator": "exposures"},
        {"name": "fell", "type": "ratio", "numerator": "fallbacks", "denominator": "exposures"},
    ]
    return Experiment.model_validate(
        {
            "key": "image-themes",
            "type": kind,
            "status": "running",
            "phase": 2,
            "start": from_micros(START),
            "end": from_micros(AS_OF),
            "variants": [{"key": key, "weight": 0.5, "policy": "meta"} for key in ("control", "themes")],
            "analysis": {
                "attribution_days": 3,
                "cuped": {"lookback_days": 2},
                "segments": ["country"],
                "primary": metrics,
                **analysis,
            },
        }
    )


def frame(spark: SparkSession, table: Table, rows: Iterable[dict[str, Any]]) -> Any:
    schema = StructType([StructField(name, kind) for name, kind in table.columns.items()])
    return spark.createDataFrame([tuple(row.get(name) for name in table.columns) for row in rows], schema)


def exposure_row(page: Page) -> dict[str, Any]:
    return {
        "event_id": f"{page.user}|{page.id}",
        "exposed_at": from_micros(page.shown_at),
        "request_id": page.id,
        "user_id": page.user,
        "fallback_level": page.level,
        "sale_ids": list(page.sales),
        "attributes": {} if page.country is None else {"country": page.country},
        "experiment": page.experiment,
        "phase": page.phase,
        "variant": page.variant,
        "reason": page.reason,
        "configuration_sha": "ab12",
        "model_version": page.model,
        "overlap_at_10": page.overlap,
        "teams": None if page.teams is None else list(page.teams),
        "day": from_micros(page.shown_at).date(),
    }


def event_row(event: Event) -> dict[str, Any]:
    return {
        "event_id": str(event),
        "user_id": event.user,
        "sale_id": event.sale,
        "kind": event.kind,
        "occurred_at": from_micros(event.occurred_at),
        "recorded_at": from_micros(event.recorded_at),
        "revenue": event.revenue,
        "attribution_token": event.token,
        "day": from_micros(event.occurred_at).date(),
    }


@dataclass
class Gathered:
    """The users and the summary computed from some pages and events."""

    users: dict[str, dict[str, Any]]
    summary: PhaseSummary


def gather(
    spark: SparkSession,
    pages: Iterable[Page],
    events: Iterable[Event] = (),
    recorded: Iterable[Event] | None = None,
    settings: Experiment | None = None,
    as_of: int = AS_OF,
) -> Gathered:
    """Compute them with Spark; by default, the service recorded the events with a token."""
    settings, events = settings or experiment(), list(events)
    recorded = [event for event in events if event.token] if recorded is None else recorded
    shown = outcomes.pages(
        frame(spark, COMPACTED_EXPOSURES, map(exposure_row, pages)), settings, as_of
    ).localCheckpoint()
    happened = outcomes.events(
        frame(spark, EVENTS, map(event_row, events)),
        frame(spark, COMPACTED_EVENTS, map(event_row, recorded)),
        settings,
        as_of,
    )
    quantities = Quantities.of(settings)
    users = outcomes.with_segments(outcomes.first_pages(shown), quantities.segments).localCheckpoint()
    days = outcomes.user_days(shown, users, happened, settings).localCheckpoint()
    table = EXPERIMENT_USERS.check(outcomes.experiment_users(days, users, settings)).localCheckpoint()
    sums = EXPERIMENT_SUMS.check(experiment_sums(days, quantities, caps(table, quantities)))
    found = health(shown, users, lambda ids: np.full(len(ids), "control"))
    rows = {row["user_id"]: row.asDict() for row in table.collect()}
    return Gathered(rows, PhaseSummary(sums_of(sums.toArrow()), found))


def outcome(gathered: Gathered, user: str, *columns: str) -> tuple[float, ...]:
    return tuple(gathered.users[user][column] for column in columns)


COUNTS = ("visits", "purchases", "revenue")
ATTRIBUTED = ("attributed_visits", "attributed_purchases", "attributed_revenue")
PAST = ("pre_visits", "pre_purchases", "pre_revenue")


A_SECOND = SECOND / HOUR
SHOP = [Event("kim", 6, "purchase", revenue=9.0), Event("kim", 7, "purchase", revenue=1.0)]
PAGES = [
    *(Page("ann", 5, "themes"), Page("ann", 3), Page("bob", 1, "themes", model="4"), Page("bob", 2, "themes")),
    *(Page("other", 1 + shift, "themes", reason) for shift, reason in enumerate(("override", "kill", "holdout"))),
    *(Page("other", 9, None, "fallback"), Page("", 3)),
    *(Page("cyd", 1, "themes", "fallback"), Page("cyd", 2, "themes", level="popular"), Page("cyd", 3, "themes")),
    *(Page("dan", 1), Page("dan", 1), Page("dan", 30, request="dan@1"), Page("dan", 2)),
    *(Page("not1", 1, phase=1), Page("not2", 1, experiment="else"), Page("not3", -1), Page("not4", 12 * 24)),
    *(Page("eve", 0), Page("eve", 71.9), Page("eve", 72, overlap=0.2)),
    *(Page("fay", 5), Page("gus", 5), Page("hal", 5), Page("kim", 5, request="k1"), Page("lea", 5, request="l1")),
    *(Page("ned", 5), Page("visitor", 5, request="v1"), Page("zoe", 6, "themes", request="z1"), Page("una", 5)),
]
SHOP_EVENTS = [
    *(Event("fay", 4.999), Event("fay", 5), Event("fay", 5 + 71.999), Event("fay", 5 + 72), Event("not5", 6)),
    *(Event("gus", -43.01), Event("gus", -43), Event("gus", 4.9), Event("gus", 0, "purchase", revenue=7.5)),
    Event("gus", 6, "purchase", revenue=2.0),
    *(Event("hal", 6, revenue=100.0), Event("hal", 7, "purchase"), Event("hal", 8, "purchase", revenue=3.5)),
    *SHOP,
    *(Event("ned", 6), Event("ned", 6 + 1.001 * A_SECOND), Event("ned", 6, sale="s2"), Event("ned", 6, "purchase")),
    *(Event("zoe", 7, "purchase", revenue=4.0), Event("zoe", 8)),
    *(Event("una", 6, "purchase", recorded=50), Event("una", 7, "purchase")),
]
WEBSITE = [
    replace(SHOP[0], at=6 - 0.5 * A_SECOND, revenue=None, token="k1"),
    replace(SHOP[1], at=7 + A_SECOND, token="k1"),
    Event("lea", 6, "purchase", revenue=9.0, token="l1"),
    *(Event("zoe", 7, "purchase", token="v1"), Event("zoe", 8, token="unknown")),
]


@pytest.fixture(scope="module")
def gathered(spark) -> Gathered:
    """Return the small cases, computed all at once: a run of Spark takes seconds."""
    return gather(spark, PAGES, SHOP_EVENTS, WEBSITE)


def test_user_belongs_to_the_variant_of_their_first_page(gathered):
    assert [gathered.users[user]["variant"] for user in ("ann", "bob")] == ["control", "themes"]
    assert [gathered.users[user]["jumped"] for user in ("ann", "bob")] == [True, False]
    assert gathered.summary.health.jumpers == 1


def test_pages_of_other_reasons_phases_experiments_and_times_include_no_user(gathered):
    expected = {"ann", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "kim", "lea", "ned", "visitor", "zoe", "una"}
    assert gathered.users.keys() == expected


def test_fallback_page_includes_its_user_too(gathered):
    assert outcome(gathered, "cyd", "variant", "exposures", "fallbacks") == ("themes", 3, 2)


def test_page_delivered_twice_counts_once(gathered):
    assert outcome(gathered, "dan", "exposures") == (2,)


def test_pages_count_within_the_attribution_window(gathered):
    assert outcome(gathered, "eve", "exposures", "triggered") == (2, False)


def test_events_count_within_the_attribution_window(gathered):
    assert outcome(gathered, "fay", *COUNTS) == (2, 0, 0)


def test_covariates_are_the_outcomes_in_the_lookback_before_the_first_page(gathered):
    assert outcome(gathered, "gus", *PAST) == (2, 1, 7.5)
    assert outcome(gathered, "gus", *COUNTS) == (0, 1, 2.0)


def test_revenue_is_that_of_purchases(gathered):
    assert outcome(gathered, "hal", *COUNTS) == (1, 2, 3.5)


def test_event_recorded_by_shop_and_website_counts_once_with_its_token(gathered):
    assert outcome(gathered, "kim", *COUNTS, *ATTRIBUTED) == (0, 2, 10.0, 0, 2, 10.0)


def test_event_that_only_the_website_recorded_does_not_count(gathered):
    assert outcome(gathered, "lea", *COUNTS) == (0, 0, 0)


def test_events_more_than_a_second_apart_or_of_other_sales_are_different(gathered):
    assert outcome(gathered, "ned", *COUNTS) == (3, 1, 0)


def test_event_with_a_token_belongs_to_the_user_of_the_page(gathered):
    assert outcome(gathered, "visitor", *COUNTS, *ATTRIBUTED) == (0, 1, 4.0, 0, 1, 4.0)
    assert outcome(gathered, "zoe", *COUNTS, *ATTRIBUTED) == (1, 0, 0, 0, 0, 0)


LATE = [Event("una", 6, "purchase", recorded=50), Event("una", 7, "purchase")]


@pytest.fixture(scope="module")
def of_many_countries(spark) -> Gathered:
    """Users of 21 countries, two of most; one of them buys."""
    pages = [Page(f"u{number:02}", 1, country=f"C{number // 2:02}") for number in range(42)]
    pages += [Page("x", 1, country="C20"), Page("y", 2, country=None), Page("y", 3, country="C00")]
    return gather(spark, [*pages, Page("una", 5, country="C01")], LATE)


def test_event_recorded_late_counts_from_the_day_of_its_recording(spark, of_many_countries):
    assert outcome(gather(spark, [Page("una", 5)], LATE, as_of=START + 50 * HOUR), "una", "purchases") == (1,)
    sums = of_many_countries.summary.sums
    grown = {group.day: each.sums["purchases"] for group, each in sums.items() if group[:2] == (ALL, ALL_USERS)}
    grown = {day: purchases for day, purchases in grown.items() if purchases}
    assert grown == {date(2026, 3, 2): 1, date(2026, 3, 4): 1}


def test_health_counts_each_page_once(gathered):
    found = gathered.summary.health
    assert found.pages == {
        ("themes", "override"): 1,
        ("themes", "kill"): 1,
        ("themes", "holdout"): 1,
        ("", "fallback"): 1,
        ("control", "assigned"): 15,
        ("themes", "assigned"): 6,
        ("themes", "fallback"): 1,
    }
    assert found.fallbacks == {"themes": 2}
    assert found.configuration_shas == {"ab12": 26}
    assert found.model_versions[("themes", "4")] == 1
    assert sum(found.model_versions.values()) == 26


def test_health_counts_users_served_another_variant_than_configured(gathered):
    found = gathered.summary.health  # the configuration gives every user control
    assert found.users == {"control": 11, "themes": 3}
    assert (found.recomputed, found.mismatches) == (14, 3)


def test_less_frequent_values_share_a_segment_and_missing_ones_another(of_many_countries):
    users = {group.segment: each.n for group, each in of_many_countries.summary.sums.items() if each.n}
    assert users.pop(ALL_USERS) == 45
    assert (users.pop("country=C20"), users["country=C01"]) == (3, 3)
    users["country=C01"] -= 1
    assert users == {**{f"country=C{number:02}": 2 for number in range(19)}, "country=other": 3}


def interleaved(user: str, at: float, sales: str, teams: Sequence[str], request: str = "") -> Page:
    return Page(user, at, "interleaved", request=request, sales=list(sales), teams=teams)


@pytest.fixture(scope="module")
def credited(spark) -> Gathered:
    pages = [
        interleaved("ann", 1, "abc", ["control", "themes", "control"]),
        interleaved("ann", 2, "ba", ["control", "themes"]),
        interleaved("ann", 9, "a", ["control"]),
        interleaved("bob", 3, "ab", ["control", ""]),
        interleaved("cyd", 1, "ab", ["themes", "control"], "r1"),
        interleaved("cyd", 2, "ab", ["control", ""]),
    ]
    bought = [("ann", 5, "a"), ("ann", 6, "c"), ("ann", 0.5, "b"), ("bob", 4, "b"), ("bob", 5, "z")]
    events = [Event(user, at, "purchase", sale) for user, at, sale in bought]
    events += [Event("ann", 7, "visit", "b"), Event("cyd", 5, "purchase", "a", token="r1")]
    return gather(spark, pages, events, settings=experiment("interleave"))


def test_purchase_is_credited_to_the_latest_page_before_that_showed_the_sale(credited):
    assert outcome(credited, "ann", credit("control"), credit("themes")) == (1, 1)
    assert outcome(credited, "bob", credit("control"), credit("themes")) == (0, 0)


def test_purchase_with_a_token_is_credited_to_the_team_on_that_page(credited):
    assert outcome(credited, "cyd", credit("control"), credit("themes")) == (0, 1)


def test_products_of_credits_are_summed_over_users(credited):
    total = credited.summary.up_to(date(2026, 3, 20), "interleaved")
    assert total.product(credit("control"), credit("themes")) == 1 * 1
    assert total.product(credit("themes"), credit("themes")) == 1 + 1


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_rows_of_a_user_stay_in_one_chunk(rows):
    users = "aabbbbbcdde"
    table = pa.table({"user_id": list(users), "row": range(len(users))})
    chunks = list(whole_users(table.to_batches(max_chunksize=2), rows))
    assert pa.concat_tables(chunks) == table.combine_chunks()
    owners = [set(chunk["user_id"].to_pylist()) for chunk in chunks]
    assert sum(map(len, owners)) == len(set(users))
    assert len(chunks) >= 3 or rows > 2


Log = tuple[list[Page], list[Event], list[Event]]


def random_log(seed: int) -> Log:
    """Return pages, events and recorded events of a few users: some late, repeated, with tokens of other users."""
    rng = random.Random(seed)
    users = [f"u{number}" for number in range(9)]
    pages = [
        Page(
            user := rng.choice(users),
            round(rng.uniform(0, 200), 2),
            rng.choices([("control", "themes")[int(user[1]) % 2], "themes"], [9, 1])[0],
            rng.choice(["assigned", "assigned", "fallback", "override"]),
            f"r{number}",
            rng.choice(["none", "none", "popular"]),
            rng.choice([1.0, 1.0, 0.6, None]),
            rng.choice(["DE", "FR", None]),
        )
        for number in range(40)
    ]
    events = []
    for number in range(200):
        at = round(rng.uniform(-70, 280), 2) + number / 100_000  # all times differ
        kind = rng.choice(["visit", "visit", "purchase"])
        shown = [page.request for page in pages if page.at < at]
        token = rng.choice([*shown, "nowhere"]) if rng.random() < 0.4 else ""
        revenue = round(rng.uniform(1, 90), 2) if kind == "purchase" else None
        late = at + rng.choice([0, 0, 0.1, 30])
        events.append(Event(rng.choice(users), at, kind, rng.choice("ab"), revenue, late, token))
    recorded = [replace(each, at=each.at + rng.choice([0, 0.0001])) for each in events if each.token]
    return [*pages, *rng.choices(pages, k=9)], [replace(each, token="") for each in events], recorded


def user_states(pages: list[Page], events: list[Event], recorded: list[Event], as_of: int) -> dict[str, dict[str, Any]]:
    """Return the columns of each user as known at an instant, computed by loops."""
    tokens = {(each.user, each.sale, each.kind, each.revenue, round(each.at, 2)): each.token for each in recorded}
    analysed = sorted(
        {page for page in pages if page.reason != "override" and page.shown_at < as_of}, key=lambda page: page.shown_at
    )
    owners = {page.request: page.user for page in analysed}
    states: dict[str, dict[str, Any]] = {}
    for page in analysed:
        first = {**dict.fromkeys([*COLUMNS, "visited", "pre_visited"], 0.0), "triggered": False}
        known = {"variant": page.variant, "country": page.country or "(none)", "first": page.shown_at}
        state = states.setdefault(page.user, {**first, **known})
        if page.shown_at < state["first"] + ATTRIBUTION:
            state["exposures"] += 1
            state["fallbacks"] += page.reason == "fallback" or page.level != "none"
            state["triggered"] |= page.overlap is not None and page.overlap < 1
    for each in events:
        if each.recorded_at >= as_of or each.occurred_at >= as_of:
            continue
        token = tokens.get((each.user, each.sale, each.kind, each.revenue, round(each.at, 2)), "")
        state = states.get(owners.get(token, each.user))
        if state is None:
            continue
        since = each.occurred_at - state["first"]
        prefixes = ["pre_"] if -LOOKBACK <= since < 0 else ["", "attributed_"] if 0 <= since < ATTRIBUTION else []
        for prefix in prefixes[: 2 if token in owners else 1]:
            state[f"{prefix}{each.kind}s"] += 1
            state[f"{prefix}revenue"] += each.revenue or 0
    for state in states.values():
        state["visited"], state["pre_visited"] = float(state["visits"] > 0), float(state["pre_visits"] > 0)
    return states


@pytest.fixture(scope="module", params=range(2))
def random_case(spark, request) -> tuple[Log, Gathered]:
    log = random_log(request.param)
    return log, gather(spark, *log)


def test_outcomes_of_random_logs_agree_with_loops(random_case):
    log, gathered = random_case
    expected = user_states(*log, AS_OF)
    assert gathered.users.keys() == expected.keys()
    for user, state in expected.items():
        columns = [*COLUMNS, "variant", "triggered"]
        found = {name: gathered.users[user][name] for name in columns}
        assert found == pytest.approx({name: state[name] for name in columns}), user


def test_sums_up_to_a_day_agree_with_loops_over_what_was_known(random_case):
    log, gathered = random_case
    summary = gathered.summary
    final = user_states(*log, AS_OF)
    limits = {name: np.quantile([each[name] for each in final.values()], 0.9) for name in ("revenue", "pre_revenue")}
    for day in range(-1, 12):
        states = user_states(*log, START + (day + 1) * DAY)
        for state in states.values():
            counted = {nonzero(name): float(value != 0) for name, value in state.items() if not isinstance(value, str)}
            state |= counted | {winsorized(name, 0.9): min(state[name], limit) for name, limit in limits.items()}
        for variant in ("control", "themes"):
            for population, segment in ((ALL, ALL_USERS), (ALL, "country=FR"), (TRIGGERED, ALL_USERS)):
                expected = [
                    state
                    for state in states.values()
                    if state["variant"] == variant
                    and segment in (ALL_USERS, f"country={state['country']}")
                    and (population == ALL or state["triggered"])
                ]
                found = summary.up_to(from_micros(START + day * DAY).date(), variant, population, segment)
                assert found.n == len(expected)
                for name, value in found.sums.items():
                    assert value == pytest.approx(sum(each[name] for each in expected), abs=1e-6), name
                for names, value in found.products.items():
                    products = [math.prod(each[name] for name in names) for each in expected]
                    assert value == pytest.approx(sum(products), abs=1e-6), names
