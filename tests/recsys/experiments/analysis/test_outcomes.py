"""Sums over users by day: small cases by hand, random ones against loops that look at each day from scratch."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.experiments.analysis.outcomes import (
    COLUMNS,
    Quantities,
    caps,
    covariate,
    credit,
    daily_sums,
    segment_column,
    winsorized,
)
from recsys.experiments.evidence import ALL, EVERYBODY, TRIGGERED, Evidence, Group, Health, Sums
from recsys.experiments.settings import Experiment

DAYS = [date(2026, 3, 1) + timedelta(day) for day in range(4)]
REVENUE = winsorized("revenue", 0.75)
QUANTITIES = Quantities(
    ("pre_visits", "purchases", "revenue", REVENUE, "visited", "visits"),
    (("pre_visits", "visits"), ("purchases", "visits"), ("revenue", "revenue"), (REVENUE, REVENUE)),
    ("country",),
)
Row = dict[str, Any]


def row(user: str, day: int, variant: str = "control", country: str = "DE", **growth: float) -> Row:
    known = {"user_id": user, "day": DAYS[day], "variant": variant, "triggered": False}
    return {**known, segment_column("country"): f"country={country}", **dict.fromkeys(COLUMNS, 0.0), **growth}


def table(rows: Iterable[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def sums(rows: Iterable[Row], quantities: Quantities = QUANTITIES, **limits: float) -> dict[Group, Sums]:
    return daily_sums(table(rows), quantities, limits or {REVENUE: 100.0})


def test_a_day_says_by_how_much_the_state_of_a_user_differs_from_the_day_before():
    found = sums([row("ann", 0, visits=2), row("ann", 2, visits=1, purchases=1), row("bob", 1, visits=5)])
    of_day = {day: found[Group(ALL, EVERYBODY, DAYS[day], "control")] for day in range(3)}
    assert [each.n for each in of_day.values()] == [1, 1, 0]
    assert [each.sums["visits"] for each in of_day.values()] == [2, 5, 1]
    assert [each.sums["visited"] for each in of_day.values()] == [1, 1, 0]
    assert [each.product("purchases", "visits") for each in of_day.values()] == [0, 0, (2 + 1) * 1]


def test_days_up_to_one_add_up_to_the_squares_of_what_users_did_until_then():
    found = sums([row("ann", 0, revenue=3), row("ann", 1, revenue=4), row("bob", 0, revenue=5)])
    evidence = Evidence(found, Health({}, {}, {}, 0, {}, {}))
    assert evidence.up_to(DAYS[0], "control").product("revenue", "revenue") == 3**2 + 5**2
    assert evidence.up_to(DAYS[1], "control").product("revenue", "revenue") == (3 + 4) ** 2 + 5**2


def test_a_day_on_which_a_state_falls_takes_away():
    found = sums([row("ann", 0, revenue=9), row("ann", 1, revenue=-4)])
    assert found[Group(ALL, EVERYBODY, DAYS[1], "control")].product("revenue", "revenue") == 5**2 - 9**2


def test_a_capped_column_grows_up_to_the_cap():
    found = sums([row("ann", 0, revenue=6), row("ann", 1, revenue=6), row("ann", 2, revenue=6)], **{REVENUE: 10.0})
    grown = [found[Group(ALL, EVERYBODY, day, "control")].sums[REVENUE] for day in DAYS[:3]]
    assert grown == [6, 4, 0]


def test_a_user_is_in_the_triggered_population_from_his_first_differing_page_on_with_all_that_he_did():
    rows = [row("ann", 0, visits=2), row("ann", 1, visits=3, triggered=True), row("ann", 3, visits=1)]
    found = sums([*rows, row("bob", 1, visits=7), row("cyd", 2, "themes", visits=4, triggered=True)])
    triggered = {group[2:]: (each.n, each.sums["visits"]) for group, each in found.items() if group[0] == TRIGGERED}
    assert triggered == {
        (DAYS[1], "control"): (1, 2 + 3),
        (DAYS[3], "control"): (0, 1),
        (DAYS[2], "themes"): (1, 4),
    }


def test_segments_split_the_users_of_a_variant():
    found = sums([row("ann", 0, visits=2), row("bob", 0, country="FR", visits=3), row("cyd", 0, "themes", visits=4)])
    visits = {(group.segment, group.variant): each.sums["visits"] for group, each in found.items()}
    assert visits == {
        (EVERYBODY, "control"): 5,
        (EVERYBODY, "themes"): 4,
        ("country=DE", "control"): 2,
        ("country=DE", "themes"): 4,
        ("country=FR", "control"): 3,
    }


def test_no_row_is_no_group():
    assert daily_sums(table([row("ann", 0)])[:0], QUANTITIES, {REVENUE: 1.0}) == {}


def test_the_cap_is_the_quantile_of_last_values_of_all_variants():
    rows = [row("ann", 0, revenue=1), row("ann", 1, revenue=9), row("bob", 0, "themes", revenue=30), row("cyd", 0)]
    assert caps(table(rows), QUANTITIES) == {REVENUE: pytest.approx((10 + 30) / 2)}  # 0.75 between 0, 10 and 30


def experiment(**analysis: Any) -> Experiment:
    mean = {"name": "bought", "type": "mean", "column": "purchases"}
    variants = [{"key": key, "weight": 0.5, "policy": "meta"} for key in ("control", "themes")]
    return Experiment.model_validate(
        {
            "key": "image-themes",
            "type": analysis.pop("type", "ab"),
            "status": "running",
            "start": "2026-03-01T00:00:00Z",
            "end": "2026-03-15T00:00:00Z",
            "variants": variants,
            "analysis": {"primary": [mean], **analysis},
        },
        strict=False,
    )


def test_a_mean_needs_its_square_and_with_cuped_its_past():
    assert Quantities.of(experiment()) == Quantities(("purchases",), (("purchases", "purchases"),))
    squares = (("pre_purchases", "pre_purchases"), ("pre_purchases", "purchases"), ("purchases", "purchases"))
    assert Quantities.of(experiment(cuped={})) == Quantities(("pre_purchases", "purchases"), squares)


def test_a_ratio_needs_the_past_of_both_columns_or_of_none():
    ratios = [
        {"name": "rate", "type": "ratio", "numerator": "visits", "denominator": "exposures"},
        {"name": "bought", "type": "ratio", "numerator": "purchases", "denominator": "visits"},
    ]
    one, both = (Quantities.of(experiment(cuped={}, primary=[ratio])) for ratio in ratios)
    assert one.columns == ("exposures", "visits")
    assert len(both.products) == 4 * 5 / 2


def test_winsorising_is_named_by_its_quantile_also_in_the_past():
    mean = {"name": "revenue", "type": "mean", "column": "revenue", "winsorize": 0.999}
    quantities = Quantities.of(experiment(cuped={}, primary=[mean], segments=["country"]))
    assert quantities.columns == quantities.capped == ("pre_revenue^0.999", "revenue^0.999")
    assert quantities.counted == ("pre_revenue", "revenue")
    assert quantities.segments == ("country",)


def test_interleaving_needs_the_product_of_both_credits():
    products = Quantities.of(experiment(type="interleave")).products
    assert (credit("control"), credit("themes")) in products


@pytest.mark.parametrize("column", ["visits", "purchases", "revenue", "visited", "purchased", "revenue^0.99"])
def test_what_users_do_anyway_has_a_past(column):
    assert covariate(column) == f"pre_{column}"


@pytest.mark.parametrize("column", ["exposures", "fallbacks", "attributed_visits"])
def test_what_an_experiment_brings_has_none(column):
    assert covariate(column) is None


days_of_user = st.dictionaries(
    st.sampled_from(range(4)),
    st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 2), st.integers(-20, 90), st.integers(0, 3)),
    min_size=1,
)
users_drawn = st.lists(
    st.tuples(st.sampled_from(["control", "themes", "third"]), st.sampled_from(["DE", "FR"]), days_of_user), max_size=7
)


def rows_of(users: Iterable[tuple[str, str, Mapping[int, tuple]]]) -> list[Row]:
    names = ("triggered", "visits", "purchases", "revenue", "pre_visits")
    return [
        row(f"u{number}", day, variant, country, **dict(zip(names, days[day], strict=True)))
        for number, (variant, country, days) in enumerate(users)
        for day in sorted(days)
    ]


def states_at_end_of(rows: list[Row], day: date) -> dict[str, dict[str, float]]:
    """What each user has done until then, added up row by row."""
    states: dict[str, dict[str, float]] = {}
    for each in rows:
        if each["day"] <= day:
            state = states.setdefault(each["user_id"], dict.fromkeys([*COLUMNS, "triggered"], 0.0))
            for name in state:
                state[name] += each[name]
    for state in states.values():
        state["visited"] = float(state["visits"] > 0)
        state[REVENUE] = min(state["revenue"], 50.0)
    return states


def oracle(rows: list[Row], day: date, population: str, segment: str, variant: str) -> tuple[int, list[float]]:
    """Users, sums and products at the end of a day, from scratch."""
    known = {each["user_id"]: each for each in rows}
    states = [
        state
        for user, state in states_at_end_of(rows, day).items()
        if known[user]["variant"] == variant
        and segment in (EVERYBODY, known[user][segment_column("country")])
        and (population == ALL or state["triggered"])
    ]
    sums = [sum(state[name] for state in states) for name in QUANTITIES.columns]
    products = [sum(state[a] * state[b] for state in states) for a, b in QUANTITIES.products]
    return len(states), [*sums, *products]


def flat(sums: Sums) -> tuple[int, list[float]]:
    columns = [sums.sums.get(name, 0.0) for name in QUANTITIES.columns]
    return sums.n, [*columns, *[sums.products.get(pair, 0.0) for pair in QUANTITIES.products]]


@given(users_drawn)
def test_days_up_to_any_one_give_what_loops_over_users_give(users):
    rows = rows_of(users)
    evidence = Evidence(sums(rows, **{REVENUE: 50.0}) if rows else {}, Health({}, {}, {}, 0, {}, {}))
    for day in DAYS:
        for variant in ("control", "themes", "third"):
            for population, segment in ((ALL, EVERYBODY), (ALL, "country=FR"), (TRIGGERED, EVERYBODY)):
                n, values = flat(evidence.up_to(day, variant, population, segment))
                expected_n, expected = oracle(rows, day, population, segment, variant)
                assert n == expected_n
                assert values == pytest.approx(expected, abs=1e-9)


@given(users_drawn, st.integers(0, 7))
def test_sums_of_two_sets_of_users_add_up(users, split):
    rows = rows_of(users)
    first = [each for each in rows if int(each["user_id"][1:]) < split]
    parts = [sums(part, **{REVENUE: 50.0}) for part in (first, rows[len(first) :]) if part]
    whole = sums(rows, **{REVENUE: 50.0}) if rows else {}
    assert {group for part in parts for group in part} == whole.keys()
    for group, each in whole.items():
        n, values = flat(Sums.total(part[group] for part in parts if group in part))
        assert (n, values) == (each.n, pytest.approx(flat(each)[1], abs=1e-9))


@given(users_drawn.filter(bool))
def test_the_cap_is_numpys_quantile_of_each_users_total(users):
    rows = rows_of(users)
    totals = [state["revenue"] for state in states_at_end_of(rows, DAYS[-1]).values()]
    assert caps(table(rows), QUANTITIES)[REVENUE] == pytest.approx(np.quantile(totals, 0.75))
