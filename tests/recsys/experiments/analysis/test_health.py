import math

import numpy as np
import pytest
from scipy.special import betaln
from scipy.stats import binomtest
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import SampleRatio

from recsys.experiments.analysis.health import (
    health_result,
    invalidations,
    sample_ratio_p,
    sequential_sample_ratio_p,
)
from recsys.experiments.analysis.results import HealthResult
from tests.helpers.judged_experiments import CONTROL, THEMES, experiment, summary_of_users

HALVES = {"control": 0.5, "themes": 0.5}


def result(users: dict[str, int], **changes: object) -> HealthResult:
    return health_result(experiment(), summary_of_users(users, **changes))


def test_sample_ratio_test_agrees_with_a_published_example() -> None:
    found = sample_ratio_p({"control": 821_588, "themes": 815_482}, HALVES)
    assert found == pytest.approx(1.82e-6, rel=2e-3)


def test_sample_ratio_test_of_two_variants_agrees_with_tea_tasting() -> None:
    arms = {"control": Aggregates(2_310), "themes": Aggregates(7_210)}
    theirs = SampleRatio(3, method="norm", correction=False).analyze(arms, "control", "themes")
    assert sample_ratio_p({"control": 2_310, "themes": 7_210}, {"control": 0.25, "themes": 0.75}) == pytest.approx(
        theirs.pvalue
    )
    assert theirs.pvalue == pytest.approx(binomtest(2_310, 9_520, 0.25).pvalue, abs=0.005)


def test_sample_ratio_test_includes_variants_without_users() -> None:
    weights = {"control": 0.5, "a": 0.3, "b": 0.2}
    assert sample_ratio_p({"control": 500, "a": 300, "b": 200}, weights) == 1.0
    assert (sample_ratio_p({"control": 500, "a": 300}, weights) or 0) < 1e-40
    assert sample_ratio_p({}, weights) is None


def test_sequential_sample_ratio_test_is_the_largest_bayes_factor_so_far() -> None:
    # Beta(500, 500) against 0.5: B(500 + 2, 500 + 1) / B(500, 500) * 2^3 = (500 * 501 * 500) / (1000 * 1001 * 1002) * 8
    first = 500 * 501 * 500 / (1000 * 1001 * 1002) * 8
    assert first < 1
    assert sequential_sample_ratio_p([{"control": 2, "themes": 1}], HALVES) == 1.0
    mismatch, balanced = {"control": 700, "themes": 300}, {"control": 4_800, "themes": 5_200}
    p = sequential_sample_ratio_p([mismatch], HALVES)
    log_factor = betaln(500 + 700, 500 + 300) - betaln(500, 500) + 1_000 * math.log(2)
    assert p == pytest.approx(math.exp(-log_factor))
    assert sequential_sample_ratio_p([mismatch, balanced], HALVES) == p  # evidence of an earlier day stays
    assert sequential_sample_ratio_p([], HALVES) is None


def test_sequential_sample_ratio_test_finds_the_published_example_and_a_variant_without_users() -> None:
    published = sequential_sample_ratio_p([{"control": 821_588, "themes": 815_482}], HALVES)
    assert published is not None
    assert 1e-4 < published < 0.001
    lost = sequential_sample_ratio_p([{"control": 500, "a": 300}], {"control": 0.5, "a": 0.3, "b": 0.2})
    assert lost is not None
    assert lost < 1e-9


def test_daily_looks_find_no_mismatch_in_sound_tests_more_often_than_alpha() -> None:
    # at alpha 0.05: the chi-squared test, looked at on each of 14 days, finds one in 20 to 25 %
    random = np.random.default_rng(5)
    weights = {"control": 0.9, "themes": 0.1}
    sequential, daily = 0, 0
    for _ in range(250):
        counts = random.multinomial(1_000, [0.9, 0.1], 14)
        days = [dict(zip(weights, map(int, day), strict=True)) for day in counts]
        sequential += (sequential_sample_ratio_p(days, weights) or 1.0) < 0.05
        totals = (dict(zip(weights, map(int, total), strict=True)) for total in counts.cumsum(axis=0))
        daily += any((sample_ratio_p(total, weights) or 1.0) < 0.05 for total in totals)
    assert sequential <= 0.05 * 250
    assert daily > 0.15 * 250


def test_sound_experiment_has_no_invalidations_and_no_warnings() -> None:
    found = result({"control": 10_020, "themes": 9_980}, recomputed=20_000)
    assert list(invalidations(found, 0.001)) == []
    assert found.warnings == ()
    assert found.pages == {"control": {"assigned": 30_060}, "themes": {"assigned": 29_940}}


def test_sample_ratio_mismatch_invalidates() -> None:
    [reason] = invalidations(result({"control": 10_500, "themes": 9_500}), 0.001)
    assert reason.startswith(
        "Sample ratio mismatch: users do not split by the weights: 10,500 of control, 9,500 of themes; p "
    )


@pytest.mark.parametrize(("jumpers", "reasons"), [(20, 0), (21, 1)])  # 0.1 % of 20,000
def test_too_many_jumpers_invalidate(jumpers: int, reasons: int) -> None:
    found = result({"control": 10_000, "themes": 10_000}, jumpers=jumpers)
    assert found.jumper_share == jumpers / 20_000
    assert len(list(invalidations(found, 0.001))) == reasons
    assert found.warnings == (f"More than one variant was assigned to {jumpers} users; the first one is analysed.",)


@pytest.mark.parametrize(("mismatches", "reasons"), [(5, 0), (6, 1)])  # 0.1 % of 5,000
def test_too_many_users_with_another_variant_than_configured_invalidate(mismatches: int, reasons: int) -> None:
    found = result({"control": 10_000, "themes": 10_000}, recomputed=5_000, mismatches=mismatches)
    assert len(list(invalidations(found, 0.001))) == reasons
    assert len(found.warnings) == 1


def test_fallback_share_is_that_of_each_variants_assigned_pages() -> None:
    pages = {
        ("control", "assigned"): 90,
        ("control", "fallback"): 10,
        ("themes", "assigned"): 200,
        ("themes", "override"): 7,
        ("", "kill"): 3,
    }
    found = result({"control": 50, "themes": 60}, pages=pages, fallbacks={"control": 12})
    assert found.fallback_share == {"control": 0.12, "themes": 0.0}
    assert found.pages["themes"] == {"assigned": 200, "override": 7}
    assert found.warnings == (
        "Shares of pages with a fallback differ: 12.0% of control, 0.0% of themes."
        " The variants differ by more than their policies.",
    )


def test_variant_served_by_two_versions_of_a_pinned_model_is_named() -> None:
    versions = {("control", "3"): 70, ("themes", "7"): 50, ("themes", "8"): 20, ("themes", ""): 1}
    found = result({"control": 50, "themes": 50}, model_versions=versions)
    assert found.model_versions == {"control": {"3": 70}, "themes": {"": 1, "7": 50, "8": 20}}
    assert found.warnings == ("themes was served by model versions 7, 8: its results mix them.",)


def test_variant_without_a_pinned_model_may_change_its_version() -> None:
    tonight = {key: value for key, value in THEMES.items() if key != "model"}
    versions = {("themes", "7"): 50, ("themes", "8"): 20}
    found = health_result(
        experiment(variants=[CONTROL, tonight]), summary_of_users({"themes": 1}, model_versions=versions)
    )
    assert found.warnings == ()


def test_several_configurations_are_counted() -> None:
    assert result({}, configuration_shas={"a1": 5, "b2": 6}).warnings == ("Pages were served under 2 configurations.",)


def test_interleaving_has_no_sample_ratio_test() -> None:
    interleaved = experiment(type="interleave")
    found = health_result(interleaved, summary_of_users({"interleaved": 40}, jumpers=0))
    assert found.sample_ratio_p is None
    assert list(invalidations(found, 0.001)) == []
