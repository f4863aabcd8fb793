"""Results of experiments for tests of reports; all numbers are distinct, so that a mix-up is detected."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from recsys.experiments.analysis.results import (
    AlwaysValid,
    Comparison,
    Conventions,
    CupedDifference,
    Detectable,
    Difference,
    Guard,
    HealthResult,
    Interleaving,
    Interval,
    Lift,
    Look,
    Result,
    SegmentResult,
    Triggered,
    VariantSummary,
    Verdict,
    Window,
)

ATTACK = "<script>alert('|')</script>"

PURCHASES = Comparison(
    metric="purchases_per_user",
    role="primary",
    direction="higher",
    variant="themes",
    control_users=5013,
    variant_users=4987,
    control_value=0.4123,
    variant_value=0.4457,
    plain=Difference(0.0334, Interval(0.0031, 0.0637), 0.0311),
    lift=Lift(0.0742, Interval(0.0181, 0.1332)),
    cuped=CupedDifference(0.0306, Interval(0.0076, 0.0536), 0.00912, 0.287),
    always_valid=AlwaysValid(Interval(-0.0099, 0.0711), 0.213, 0.426),
    detectable=Detectable(0.0329, 0.0798),
    adjusted_p=0.0182,
)
REVENUE = replace(
    PURCHASES,
    metric="revenue_per_user",
    control_value=1234.4,
    plain=Difference(-2.5, Interval(-9.25, 4.125), 0.46),
    lift=None,
    cuped=None,
    adjusted_p=0.47,
)
UNKNOWN = Comparison("visit_rate", "secondary", "higher", "themes", 3, 1, None, 0.25, None, None, None, None, None)
FALLBACKS = Comparison(
    metric="fallback_rate",
    role="guardrail",
    direction="lower",
    variant="themes",
    control_users=5013,
    variant_users=4987,
    control_value=0.0021,
    variant_value=0.0089,
    plain=Difference(0.0068, Interval(0.0061, 0.0075), 1e-9),
    lift=None,
    cuped=None,
    always_valid=None,
    detectable=None,
    guard=Guard(0.005, 0.0075, "violated"),
)
PREFERENCE = Difference(0.0044, Interval(0.0005, 0.0083), 0.028)
LOOKS = tuple(
    Look(
        day=date(2026, 11, day),
        metric="purchases_per_user",
        variant="themes",
        control_users=1000 * day,
        variant_users=999 * day,
        difference=0.5 / day,
        interval=Interval(0.4 / day, 0.6 / day),
        always_valid=Interval(-0.3 / day, 1.3 / day),
    )
    for day in (24, 25, 26)
)
HEALTH = HealthResult(
    users={"control": 5013, "themes": 4987},
    sample_ratio_p=0.793,
    jumpers=7,
    jumper_share=0.0007,
    pages={"control": {"assigned": 18021, "override": 3}, "themes": {"assigned": 17992, "fallback": 441}},
    fallback_share={"control": 0.0, "themes": 0.0239},
    configuration_shas={"ab12cd34ef56": 36453},
    model_versions={"themes": {"9": 17992, "": 441}},
    recomputed=9990,
    mismatches=2,
    warnings=("More than one variant was assigned to 7 users; the first one is analysed.",),
)


def result(**changes: Any) -> Result:
    complete = Result(
        experiment="image-themes",
        phase=2,
        type="ab",
        variants=(VariantSummary("control", 0.5, "meta, model champion"), VariantSummary("themes", 0.5, "popularity")),
        window=Window(
            datetime(2026, 11, 24, tzinfo=UTC),
            datetime(2026, 12, 8, tzinfo=UTC),
            datetime(2026, 12, 16, 3, tzinfo=UTC),
            date(2026, 12, 14),
            ended=True,
        ),
        conventions=Conventions(0.05, 0.8, 7.0, 28, "holm", 0.001, 20_000),
        health=HEALTH,
        verdict=Verdict("ship", ("purchases_per_user of themes is better.",), "themes"),
        comparisons=(PURCHASES, REVENUE, UNKNOWN, FALLBACKS),
        segments=(
            SegmentResult("country=DE", {"control": 811, "themes": 797}, (replace(PURCHASES, control_users=811),)),
        ),
        daily=LOOKS,
        triggered=Triggered(0.617, {"control": 3101, "themes": 3089}, (replace(PURCHASES, control_value=0.777),)),
    )
    return replace(complete, **changes)


def invalid() -> Result:
    return result(verdict=Verdict("invalid", ("Users do not split by the weights.",)))


def interleaved(difference: Difference | None = PREFERENCE) -> Result:
    found = Interleaving("themes", 9871, {"control": 812.0, "themes": 901.0}, difference, None)
    health = replace(HEALTH, users={"interleaved": 9871}, sample_ratio_p=None)
    bare = result(type="interleave", comparisons=(), segments=(), daily=(), triggered=None)
    return replace(bare, interleaving=found, health=health)


def untold() -> Result:
    """Return the result of an experiment without users, in which nothing can be estimated."""
    no_users = HealthResult({"control": 0, "themes": 0}, None, 0, 0.0, {}, {}, {}, {}, 0, 0)
    window = replace(result().window, last_day=None, ended=False)
    unknown = replace(UNKNOWN, variant_value=None, control_users=0, variant_users=0, role="primary")
    return result(
        health=no_users,
        window=window,
        verdict=Verdict("running", ("0 users so far.",)),
        comparisons=(unknown,),
        segments=(SegmentResult("country=DE", {}, (unknown,)),),
        daily=(),
        triggered=None,
    )
