from io import StringIO
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import t as student_t

from cli.tables.photos import print_attractiveness
from recsys.console import TextConsole
from recsys.errors import ConfigurationError, EmptyInputError, InputError
from recsys.images.attractiveness import (
    ALL,
    COLUMNS,
    DIMENSIONS,
    AttractivenessSettings,
    attractiveness,
    percent,
    strongest_and_weakest,
    total,
)

FEW = AttractivenessSettings(min_sales=2)


def frame(*rows: tuple) -> pd.DataFrame:
    """Return rows of sale_id, month, country, category, visits, sale_days."""
    return pd.DataFrame(rows, columns=["sale_id", *DIMENSIONS, "visits", "sale_days"])


def tags(*pairs: str) -> pd.DataFrame:
    """Return rows of family 'tag' from texts 'sale tag'."""
    return pd.DataFrame([(*pair.split()[:1], "tag", pair.split()[1]) for pair in pairs], columns=FEATURES)


FEATURES = ["sale_id", "family", "feature"]

SALES = frame(
    ("a", "2026-01", "Italy", "sea", 30, 2),
    ("a", "2026-02", "Italy", "sea", 10, 1),
    ("b", "2026-01", "Italy", "snow", 20, 3),
    ("c", "2026-01", "Spain", "sea", 40, 5),
    ("d", "2026-02", "Spain", "(none)", 100, 9),
)
BEACH = tags("a beach", "b beach", "d pool", "c pool", "a all", "b all", "c all", "d all")


def rows_of(table: pd.DataFrame, feature: str, *group: str) -> pd.Series:
    (row,) = [row for _, row in table.iterrows() if (row.feature, *row[DIMENSIONS]) == (feature, *group)]
    return row


def test_attractiveness_is_the_share_of_visits_over_the_share_of_sale_days_minus_1():
    table = attractiveness(SALES, BEACH, FEW)
    overall = rows_of(table, "beach", ALL, ALL, ALL)
    # a and b: 60 of 200 visits, 6 of 20 sale-days.
    assert overall.attractiveness == pytest.approx((60 / 200) / (6 / 20) - 1)
    january = rows_of(table, "beach", "2026-01", ALL, ALL)
    assert january.attractiveness == pytest.approx((50 / 90) / (5 / 10) - 1)
    assert tuple(january[["visits", "visits_with", "sale_days", "sale_days_with", "sales_with"]]) == (90, 50, 10, 5, 2)
    assert list(table.columns) == COLUMNS


def test_interval_is_the_jackknife_over_sales_by_hand():
    sales = frame(
        *[(str(n), "2026-01", "x", "y", *counts) for n, counts in enumerate([(4, 1), (6, 2), (10, 3), (5, 4)])]
    )
    row = rows_of(attractiveness(sales, tags("0 t", "1 t"), FEW), "t", ALL, ALL, ALL)
    theta = np.log((10 / 25) / (3 / 10))
    left_out = np.log([(6 / 21) / (2 / 9), (4 / 19) / (1 / 8), (10 / 15) / (3 / 7), (10 / 20) / (3 / 6)])
    squares = (left_out - theta) ** 2
    spread_with, spread_without = squares[:2].sum(), squares[2:].sum()
    freedom = (spread_with + spread_without) ** 2 / (spread_with**2 / 1 + spread_without**2 / 1)
    width = student_t.ppf(0.975, freedom) * np.sqrt(3 / 4 * squares.sum())
    assert_allclose([row.low, row.high], [np.exp(theta - width) - 1, np.exp(theta + width) - 1])


def by_loops(sales: pd.DataFrame, features: pd.DataFrame, min_sales: int) -> dict[tuple, tuple]:
    """Compute the definition for one feature and group at a time, and each interval by leaving out each sale."""
    found = {}
    values = [[ALL, *sorted(sales[name].unique())] for name in DIMENSIONS]
    have = {key: set(rows["sale_id"]) for key, rows in features.groupby(["family", "feature"])}
    for group, ((family, feature), owners) in product(product(*values), have.items()):
        inside = sales
        for name, value in zip(DIMENSIONS, group, strict=True):
            inside = inside if value == ALL else inside[inside[name] == value]
        counts = [
            (sale in owners, part["visits"].sum(), part["sale_days"].sum()) for sale, part in inside.groupby("sale_id")
        ]
        n_with = sum(has for has, _, _ in counts)
        if n_with:
            visits, days = (sum(row[n] for row in counts) for n in (1, 2))
            visits_with, days_with = (sum(row[n] for row in counts if row[0]) for n in (1, 2))
            is_defined = n_with >= min_sales and visits > 0 and days_with > 0
            measured = jackknife(counts, n_with) if is_defined else (np.nan,) * 3
            found[(family, feature, *group)] = (*measured, visits, visits_with, days, days_with, n_with)
    return found


def jackknife(counts: list[tuple[bool, int, int]], n_with: int) -> tuple[float, float, float]:
    theta, n = log_ratio(counts), len(counts)
    value = np.exp(theta) - 1
    if n_with == n:
        return 0.0, 0.0, 0.0
    with np.errstate(invalid="ignore"):  # log(0) - log(0)
        squares = [(log_ratio(counts[:i] + counts[i + 1 :]) - theta) ** 2 for i in range(n)]
    if not np.isfinite(squares).all():
        return value, -1.0, np.inf
    spreads = [sum(s for s, row in zip(squares, counts, strict=True) if row[0] == has) for has in (True, False)]
    if sum(spreads) < 1e-20:
        return value, value, value
    freedom = sum(spreads) ** 2 / (spreads[0] ** 2 / max(n_with - 1, 1) + spreads[1] ** 2 / max(n - n_with - 1, 1))
    width = student_t.ppf(0.975, freedom) * np.sqrt((n - 1) / n * sum(spreads))
    return value, np.exp(theta - width) - 1, np.exp(theta + width) - 1


def log_ratio(counts: list[tuple[bool, int, int]]) -> float:
    visits, days = (np.float64(sum(row[n] for row in counts)) for n in (1, 2))
    visits_with, days_with = (np.float64(sum(row[n] for row in counts if row[0])) for n in (1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(visits_with / visits) - np.log(days_with / days)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_table_is_that_of_loops_over_features_groups_and_sales(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 14))
    places = rng.choice(["Italy", "Spain", "(none)"], (n, 2))
    sales = frame(
        *[
            (f"s{i}", month, places[i, 0], places[i, 1], int(rng.integers(0, 9) ** 2), int(rng.integers(0, 5)))
            for i in rng.permutation(n)
            for month in ("2026-01", "2026-02", "2026-03")
            if rng.random() < 0.6
        ],
        ("s0", "2026-03", *places[0], 3, 1),
    ).drop_duplicates(["sale_id", "month"])
    pairs = [
        (f"s{i}", family, feature)
        for i, family, feature in product(range(n + 1), ["tag", "theme"], ["x", "y"])
        if rng.random() < 0.6
    ]
    features = pd.DataFrame([*pairs, *pairs[:3], ("s0", "tag", "x")], columns=FEATURES)
    table = attractiveness(sales, features, AttractivenessSettings(min_sales=3))
    expected = by_loops(sales, features, 3)
    keys = ["family", "feature", *DIMENSIONS]
    assert list(table[keys].itertuples(index=False, name=None)) == sorted(expected)
    numbers = np.array([expected[key] for key in sorted(expected)], float)
    # If the spread is only rounding error, the width is 0; other widths agree to 10 digits.
    assert_allclose(table[COLUMNS[5:]].to_numpy(float), numbers, rtol=1e-6, atol=1e-6)


def test_feature_that_all_sales_of_a_group_have_is_at_zero_without_width():
    rows = attractiveness(SALES, BEACH, FEW).query("feature == 'all' and sales_with >= 2")
    assert len(rows) > 5
    assert (rows[["attractiveness", "low", "high"]] == 0).all(axis=None)


def test_feature_at_zero_that_some_sales_have_has_an_interval_around_zero():
    row = rows_of(attractiveness(SALES, BEACH, FEW), "beach", ALL, ALL, ALL)
    assert row.attractiveness == pytest.approx(0)
    assert row.low < 0 < row.high


def test_features_of_too_few_sales_have_counts_but_no_attractiveness():
    table = attractiveness(SALES, BEACH, AttractivenessSettings(min_sales=3))
    row = rows_of(table, "beach", ALL, ALL, ALL)
    assert row[["attractiveness", "low", "high"]].isna().all()
    assert (row.visits_with, row.sales_with) == (60, 2)
    assert rows_of(table, "all", ALL, ALL, ALL).attractiveness == 0


def test_group_without_visits_and_feature_without_sale_days_have_no_attractiveness():
    sales = frame(
        ("a", "2026-01", "Italy", "sea", 0, 2),
        ("b", "2026-01", "Italy", "sea", 0, 3),
        ("plain", "2026-01", "Italy", "sea", 0, 3),
        ("c", "2026-01", "Spain", "sea", 4, 0),  # opened on the last day
        ("d", "2026-01", "Spain", "sea", 5, 0),
    )
    table = attractiveness(sales, tags("a t", "b t", "c new", "d new"), FEW)
    assert rows_of(table, "t", ALL, "Italy", ALL)[["attractiveness", "low", "high"]].isna().all()
    assert rows_of(table, "new", ALL, ALL, ALL)[["attractiveness", "low", "high"]].isna().all()
    # No visits of t: 0 of 9 visits is -100 %, with an unlimited interval.
    assert tuple(rows_of(table, "t", ALL, ALL, ALL)[["attractiveness", "low", "high"]]) == (-1, -1, np.inf)


def test_interval_is_unlimited_if_one_sale_has_all_visits_of_a_feature():
    sales = frame(
        *[(name, "2026-01", "x", "y", visits, 2) for name, visits in (("a", 9), ("b", 0), ("c", 5), ("d", 6))]
    )
    row = rows_of(attractiveness(sales, tags("a t", "b t"), FEW), "t", ALL, ALL, ALL)
    assert (row.attractiveness, row.low, row.high) == (pytest.approx((9 / 20) / (4 / 8) - 1), -1, np.inf)


def test_sale_is_one_unit_of_the_jackknife_over_all_months():
    split = frame(*[(s, month, "x", "y", v, d) for s, v, d in COUNTS for month in ("2026-01", "2026-02")])
    whole = frame(*[(s, "2026-01", "x", "y", 2 * v, 2 * d) for s, v, d in COUNTS])
    features = tags("0 t", "1 t", "2 t")
    columns = ["attractiveness", "low", "high", "sales_with"]
    row, expected = (rows_of(attractiveness(sales, features, FEW), "t", ALL, ALL, ALL) for sales in (split, whole))
    assert_allclose(row[columns].astype(float), expected[columns].astype(float))


COUNTS = [("0", 7, 2), ("1", 20, 3), ("2", 4, 1), ("3", 9, 5), ("4", 30, 4)]


def test_order_of_rows_and_duplicates_change_nothing():
    shuffled = attractiveness(
        SALES.sample(frac=1, random_state=1), BEACH.sample(frac=2, replace=True, random_state=1), FEW
    )
    repeated = BEACH.sample(frac=2, replace=True, random_state=1)
    pd.testing.assert_frame_equal(shuffled, attractiveness(SALES, repeated, FEW))


@pytest.mark.parametrize(
    ("sales", "features", "message"),
    [
        (SALES[:0], BEACH, "0 visits of sales with tagged photos, needs at least 1: choose other days"),
        (SALES.assign(sale_days=0), BEACH, "0 days of sales on offer, needs at least 1"),
        (
            SALES,
            BEACH[:0],
            "sale_features has 0 rows, none of a sale that was visited or open, needs at least 1: tag",
        ),
        (SALES, tags("gone beach"), "sale_features has 1 row, none of a sale"),
    ],
)
def test_nothing_to_measure_is_an_error_that_says_what_to_do(sales, features, message):
    with pytest.raises(EmptyInputError, match=message):
        attractiveness(sales, features, FEW)


def test_country_called_all_is_refused():
    with pytest.raises(InputError, match="country == 'all' of a sale, must be another value"):
        attractiveness(SALES.assign(country=ALL), BEACH, FEW)


def random_shop(rng: np.random.Generator, n_sales: int, share: float, effect: float) -> tuple:
    """Draw sales of lognormal visits per day, sigma 1 as in the demo shop; return shows, visits, days."""
    days = rng.integers(1, 8, n_sales)
    shows = rng.random(n_sales) < share
    visits = rng.poisson(rng.lognormal(3, 1, n_sales) * days * np.where(shows, effect, 1))
    return shows, visits, days


def coverage(n_sales: int, share: float, rounds: int = 800, effect: float = 1.5) -> tuple[float, float]:
    """Return the share of intervals that cover the true value, and the bias of the log of the estimates."""
    rng = np.random.default_rng(0)
    shops = [random_shop(rng, n_sales, share, effect) for _ in range(rounds)]
    # Each shop is one country, so that one call measures all shops.
    sales = pd.concat(
        pd.DataFrame(
            {"sale_id": k * n_sales + np.arange(n_sales), "month": "2026-01", "country": f"c{k}", "category": "y"}
        ).assign(visits=visits, sale_days=days)
        for k, (_, visits, days) in enumerate(shops)
    )
    shown = sales["sale_id"][np.concatenate([shows for shows, _, _ in shops])]
    features = pd.DataFrame({"sale_id": shown, "family": "tag", "feature": "t"})
    table = total(attractiveness(sales, features, AttractivenessSettings()), "country").dropna()
    assert len(table) > rounds / 2
    truth = effect / (share * effect + 1 - share) - 1
    covered = (table["low"] <= truth) & (truth <= table["high"])
    return covered.mean(), float((np.log1p(table["attractiveness"]) - np.log1p(truth)).mean())


@pytest.mark.parametrize(
    ("n_sales", "share", "min_coverage"), [(200, 0.3, 0.93), (200, 0.6, 0.93), (200, 0.1, 0.90), (30, 0.3, 0.90)]
)
def test_intervals_have_about_their_nominal_coverage(n_sales, share, min_coverage):
    covered, _ = coverage(n_sales, share)
    assert min_coverage <= covered <= 0.97


def test_random_tags_are_at_zero_if_visits_are_uniform_over_open_sales():
    """Sales open at random instants for 1 to 7 days; 50 days in the middle of the shop's life are counted."""
    rng = np.random.default_rng(2)
    n_sales, n_tags, days = 1500, 60, 50
    opens = rng.uniform(-20, days + 5, n_sales)
    closes = opens + rng.integers(1, 8, n_sales)
    visits = np.zeros(n_sales, int)
    for instant in rng.uniform(0, days, 40_000):
        visits[rng.choice(np.flatnonzero((opens <= instant) & (closes > instant)))] += 1
    first, last = np.maximum(np.floor(opens) + 1, 0), np.minimum(np.ceil(closes), days - 1)
    sale_days = np.maximum(last - first + 1, 0).astype(int)
    ids = np.array([f"s{i}" for i in range(n_sales)])
    sales = frame(*zip(ids, *(["x"] * n_sales,) * 3, visits, sale_days, strict=True))
    shows, tag = np.nonzero(rng.random((n_sales, n_tags)) < 0.2)
    features = pd.DataFrame({"sale_id": ids[shows], "family": "tag", "feature": tag.astype(str)})
    table = total(attractiveness(sales, features, AttractivenessSettings()))
    values = table["attractiveness"]
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(n_tags)
    assert ((table["low"] < 0) & (table["high"] > 0)).mean() > 0.85


def table_of(*rows: tuple, family: str = "tag", **group: str) -> pd.DataFrame:
    """Return rows of feature, attractiveness, low, high of one group."""
    table = pd.DataFrame(rows, columns=["feature", "attractiveness", "low", "high"])
    counts = {"visits": 2_000, "visits_with": 500, "sale_days": 300, "sale_days_with": 60, "sales_with": 12}
    return table.assign(family=family, **{**dict.fromkeys(DIMENSIONS, ALL), **group}, **counts)[COLUMNS]


def test_strongest_are_chosen_by_their_intervals_and_sorted_by_value():
    rows = table_of(
        ("lucky", 3.0, -0.9, 15.0), ("sure", 0.2, 0.1, 0.3), ("surer", 0.3, 0.15, 0.4), ("bad", -0.3, -0.4, -0.2)
    )
    strongest, weakest = strongest_and_weakest(rows, 2)
    assert list(strongest["feature"]) == ["surer", "sure"]
    assert list(weakest["feature"]) == ["lucky", "bad"]


def test_no_feature_is_both_strongest_and_weakest_and_ties_are_broken_by_name():
    rows = table_of(*[(name, 0.0, -0.1, 0.1) for name in "cab"], ("none", np.nan, np.nan, np.nan))
    strongest, weakest = strongest_and_weakest(rows, 5)
    assert (list(strongest["feature"]), list(weakest["feature"])) == (["a", "b"], ["c"])


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.123, "+12 %"), (-0.5, "-50 %"), (0.001, "0 %"), (-0.001, "0 %"), (np.inf, "∞")]
)
def test_changes_are_written_as_percent(ratio, text):
    assert percent(ratio) == text


def printed(table: pd.DataFrame, **arguments) -> str:
    console = TextConsole(file=StringIO(), width=120)
    print_attractiveness(table, console, **arguments)
    return console.file.getvalue()


def lines_with(text: str, word: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if word in line]


def test_totals_are_printed_with_interval_shares_and_counts():
    table = pd.concat(
        [
            table_of(
                ("[bold]pool", 0.25, 0.1, 0.4), ("b", 0.0, -0.1, 0.1), ("c", -0.5, -0.6, -0.4), ("d", *[np.nan] * 3)
            ),
            table_of(("castle", -0.2, -0.3, -0.1), family="theme"),
            table_of(("pool", 0.9, 0.8, 1.0), month="2026-01"),
            table_of(("pool", 0.9, 0.8, 1.0), month="2026-03"),
        ]
    )
    text = printed(table, top=1)
    assert "Attractiveness of tags, 2026-01 to 2026-03" in text
    assert lines_with(text, "[bold]pool") == ["[bold]pool +25 % +10 % … +40 % 25.0 % 20.0 % 500 12"]
    assert lines_with(text, "more between") == ["… 1 more between"]
    assert not lines_with(text, "b ")
    assert "2 of 3 intervals exclude 0, 0 expected by chance; 1 feature not measured: too few sales show them" in text
    assert text.index("Attractiveness of themes") < text.index("castle")
    assert "+90 %" not in text


def test_groups_are_printed_with_their_strongest_and_weakest():
    table = pd.concat(
        [
            table_of(("pool", 0.25, 0.1, 0.4), ("bar", -0.5, -0.6, -0.4), country="Italy").assign(visits=10),
            table_of(("castle", 0.5, 0.2, 0.8), country="Spain"),
            table_of(("castle", *[np.nan] * 3), country="Malta").assign(visits=5),
            table_of(("overall", 0.5, 0.2, 0.8)),
            table_of(("monthly", 0.5, 0.2, 0.8), month="2026-01"),
        ]
    )
    text = printed(table, top=3, by="country")
    assert "Attractiveness of tags by country, 2026-01 to 2026-01" in text
    assert lines_with(text, "Italy") == ["Italy 10 pool +25 % (+10 % … +40 %) bar -50 % (-60 % … -40 %)"]
    assert lines_with(text, "Malta") == ["Malta 5 – –"]
    assert text.index("Spain") < text.index("Italy") < text.index("Malta")  # by descending visits
    assert "overall" not in text
    assert "monthly" not in text


def test_unknown_dimension_is_refused():
    with pytest.raises(ConfigurationError, match="by == 'price', must be one of month, country, category"):
        total(table_of(("pool", 0.25, 0.1, 0.4)), "price")
