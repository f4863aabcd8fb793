"""Daily sums over users: small cases by hand, random ones against loops that compute each day from all rows."""

import math
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
from recsys.experiments.phase_summary import ALL, ALL_USERS, TRIGGERED, Group, Health, PhaseSummary, Sums
from recsys.experiments.settings import Experiment

DAYS = [date(2026, 3, 1) + timedelta(day) for day in range(4)]
REVENUE = winsorized("revenue", 0.75)
QUANTITIES = Quantities(
    ("pre_visits", "purchases", "purchases != 0", "revenue", REVENUE, "visited", "visits"),
    (
        ("pre_visits", "visits"),
        ("purchases", "visits"),
        ("purchases", "visits", "visits"),
        ("revenue", "revenue"),
        (REVENUE, REVENUE),
    ),
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


def test_sums_of_a_day_are_the_growth_since_the_day_before():
    found = sums([row("ann", 0, visits=2), row("ann", 2, visits=1, purchases=1), row("bob", 1, visits=5)])
    of_day = {day: found[Group(ALL, ALL_USERS, DAYS[day], "control")] for day in range(3)}
    assert [each.n for each in of_day.values()] == [1, 1, 0]
    assert [each.sums["visits"] for each in of_day.values()] == [2, 5, 1]
    assert [each.sums["visited"] for each in of_day.values()] == [1, 1, 0]
    assert [each.product("purchases", "visits") for each in of_day.values()] == [0, 0, (2 + 1) * 1]


def test_daily_growth_of_squares_adds_up_to_the_squares_of_totals():
    found = sums([row("ann", 0, revenue=3), row("ann", 1, revenue=4), row("bob", 0, revenue=5)])
    summary = PhaseSummary(found, Health({}, {}, {}, 0, {}, {}))
    assert summary.up_to(DAYS[0], "control").product("revenue", "revenue") == 3**2 + 5**2
    assert summary.up_to(DAYS[1], "control").product("revenue", "revenue") == (3 + 4) ** 2 + 5**2


def test_growth_is_negative_on_a_day_on_which_a_state_falls():
    found = sums([row("ann", 0, revenue=9), row("ann", 1, revenue=-4)])
    assert found[Group(ALL, ALL_USERS, DAYS[1], "control")].product("revenue", "revenue") == 5**2 - 9**2


def test_a_capped_column_grows_up_to_the_cap():
    found = sums([row("ann", 0, revenue=6), row("ann", 1, revenue=6), row("ann", 2, revenue=6)], **{REVENUE: 10.0})
    grown = [found[Group(ALL, ALL_USERS, day, "control")].sums[REVENUE] for day in DAYS[:3]]
    assert grown == [6, 4, 0]


def test_user_is_triggered_from_their_first_differing_page_on_with_all_earlier_outcomes():
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
        (ALL_USERS, "control"): 5,
        (ALL_USERS, "themes"): 4,
        ("country=DE", "control"): 2,
        ("country=DE", "themes"): 4,
        ("country=FR", "control"): 3,
    }


def test_empty_table_has_no_groups():
    assert daily_sums(table([row("ann", 0)])[:0], QUANTITIES, {REVENUE: 1.0}) == {}


@pytest.mark.parametrize("forged", [1e16, 1e90])
def test_one_users_forged_revenue_leaves_the_sums_of_other_users(forged: float):
    # the forged user is first: a running sum over all rows would round the 7 of the user behind it to 0
    found = sums([row("ann", 0, revenue=forged), row("bob", 0, revenue=3), row("bob", 1, revenue=4)])
    assert found[Group(ALL, ALL_USERS, DAYS[1], "control")].sums["revenue"] == 4
    assert found[Group(ALL, ALL_USERS, DAYS[0], "control")].sums[REVENUE] == 100 + 3


def test_cap_is_the_quantile_of_final_values_over_all_variants():
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


def test_mean_needs_its_powers_and_its_buyers_and_with_cuped_its_covariate():
    powers = (("purchases",) * 2, ("purchases",) * 3)
    assert Quantities.of(experiment()) == Quantities(("purchases", "purchases != 0"), powers)
    with_covariate = Quantities.of(experiment(cuped={}))
    assert with_covariate.columns == ("pre_purchases", "purchases", "purchases != 0")
    assert len(with_covariate.products) == 3 + 4
    assert ("pre_purchases", "purchases", "purchases") in with_covariate.products


def test_ratio_needs_the_covariates_of_both_columns_or_of_neither():
    ratios = [
        {"name": "rate", "type": "ratio", "numerator": "visits", "denominator": "exposures"},
        {"name": "bought", "type": "ratio", "numerator": "purchases", "denominator": "visits"},
    ]
    one, both = (Quantities.of(experiment(cuped={}, primary=[ratio])) for ratio in ratios)
    assert one.columns == ("exposures", "visits", "visits != 0")
    assert len(both.products) == 4 * 5 / 2 + 4 * 5 * 6 / 6


def test_winsorised_columns_and_their_covariates_are_named_by_the_quantile():
    mean = {"name": "revenue", "type": "mean", "column": "revenue", "winsorize": 0.999}
    quantities = Quantities.of(experiment(cuped={}, primary=[mean], segments=["country"]))
    assert quantities.columns == ("pre_revenue^0.999", "revenue != 0", "revenue^0.999")
    assert quantities.capped == ("pre_revenue^0.999", "revenue^0.999")
    assert quantities.counted == ("pre_revenue", "revenue")
    assert quantities.segments == ("country",)


def test_interleaving_needs_the_product_of_both_credits():
    products = Quantities.of(experiment(type="interleave")).products
    assert (credit("control"), credit("themes")) in products


@pytest.mark.parametrize("column", ["visits", "purchases", "revenue", "visited", "purchased", "revenue^0.99"])
def test_outcomes_that_exist_without_an_experiment_have_a_covariate(column):
    assert covariate(column) == f"pre_{column}"


@pytest.mark.parametrize("column", ["exposures", "fallbacks", "attributed_visits"])
def test_outcomes_of_the_experiment_itself_have_no_covariate(column):
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
    """Return the state of each user at the end of a day, added up row by row."""
    states: dict[str, dict[str, float]] = {}
    for each in rows:
        if each["day"] <= day:
            state = states.setdefault(each["user_id"], dict.fromkeys([*COLUMNS, "triggered"], 0.0))
            for name in state:
                state[name] += each[name]
    for state in states.values():
        state["visited"] = float(state["visits"] > 0)
        state[REVENUE] = min(state["revenue"], 50.0)
        state["purchases != 0"] = float(state["purchases"] != 0)
    return states


def oracle(rows: list[Row], day: date, population: str, segment: str, variant: str) -> tuple[int, list[float]]:
    """Return users, sums and products at the end of a day, computed from all rows."""
    known = {each["user_id"]: each for each in rows}
    states = [
        state
        for user, state in states_at_end_of(rows, day).items()
        if known[user]["variant"] == variant
        and segment in (ALL_USERS, known[user][segment_column("country")])
        and (population == ALL or state["triggered"])
    ]
    sums = [sum(state[name] for state in states) for name in QUANTITIES.columns]
    products = [sum(math.prod(state[name] for name in names) for state in states) for names in QUANTITIES.products]
    return len(states), [*sums, *products]


def flat(sums: Sums) -> tuple[int, list[float]]:
    columns = [sums.sums.get(name, 0.0) for name in QUANTITIES.columns]
    return sums.n, [*columns, *[sums.products.get(names, 0.0) for names in QUANTITIES.products]]


@given(users_drawn)
def test_sums_up_to_any_day_agree_with_loops_over_users(users):
    rows = rows_of(users)
    summary = PhaseSummary(sums(rows, **{REVENUE: 50.0}) if rows else {}, Health({}, {}, {}, 0, {}, {}))
    for day in DAYS:
        for variant in ("control", "themes", "third"):
            for population, segment in ((ALL, ALL_USERS), (ALL, "country=FR"), (TRIGGERED, ALL_USERS)):
                n, values = flat(summary.up_to(day, variant, population, segment))
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
def test_cap_agrees_with_the_quantile_of_users_totals(users):
    rows = rows_of(users)
    totals = [state["revenue"] for state in states_at_end_of(rows, DAYS[-1]).values()]
    assert caps(table(rows), QUANTITIES)[REVENUE] == pytest.approx(np.quantile(totals, 0.75))
