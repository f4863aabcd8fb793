import subprocess
import sys
from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

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

AT = datetime(2026, 12, 3, 4, 5, 6, 789, tzinfo=UTC)
SEQUENTIAL = AlwaysValid(Interval(-0.3, 0.8), 0.4, 0.6)
BARE = Comparison("revenue", "secondary", "lower", "themes", 3, 1, None, 2.5, None, None, None, None, None)
FULL = Comparison(
    metric="purchases",
    role="guardrail",
    direction="higher",
    variant="themes",
    control_users=1200,
    variant_users=1100,
    control_value=1 / 3,
    variant_value=0.4,
    plain=Difference(1 / 15, Interval(-0.1, 0.2), 0.031),
    lift=Lift(0.2, Interval(-0.1, 0.5)),
    cuped=CupedDifference(0.07, Interval(0.01, 0.13), 0.02, 0.25),
    always_valid=SEQUENTIAL,
    detectable=Detectable(0.05, None),
    adjusted_p=0.04,
    guard=Guard(0.01, 0.01, "holds"),
)
RESULT = Result(
    experiment="image-themes",
    phase=2,
    type="ab",
    variants=(VariantSummary("control", 0.4, "meta"), VariantSummary("themes", 0.6, "popularity")),
    window=Window(AT, AT, AT, date(2026, 12, 2), ended=True),
    conventions=Conventions(0.05, 0.8, 7.0, None, "holm", 0.001, 20_000),
    health=HealthResult(
        {"control": 1200}, 0.3, 1, 1 / 2300, {"control": {"assigned": 5}}, {}, {"ab": 5}, {}, 7, 0, ("Look.",)
    ),
    verdict=Verdict("ship", ("Better.",), "themes"),
    comparisons=(FULL, BARE),
    segments=(SegmentResult("country=DE", {"control": 3}, (BARE,)),),
    daily=(Look(date(2026, 12, 1), "purchases", "themes", 5, 6, 0.1, Interval(0.0, 0.2), Interval(-1.0, 1.2)),),
    triggered=Triggered(0.7, {"control": 3}, (FULL,)),
    interleaving=Interleaving("themes", 9, {"control": 3.0}, None, SEQUENTIAL),
)


def test_result_survives_a_round_trip_through_json() -> None:
    assert Result.from_json(RESULT.to_json()) == RESULT


def test_file_of_another_format_version_is_refused() -> None:
    with pytest.raises(ValidationError, match="format"):
        Result.from_json(RESULT.to_json().replace('"format": 1', '"format": 2'))


def test_cuped_adjusted_difference_is_decisive() -> None:
    assert FULL.decisive == FULL.cuped
    assert BARE.decisive is None
    assert [FULL.improves(0.1), FULL.improves(-0.1), BARE.improves(0.1), BARE.improves(-0.1)] == [
        True,
        False,
        False,
        True,
    ]


def test_interval_includes_its_ends() -> None:
    assert [value in Interval(-1.0, 2.0) for value in (-1.1, -1.0, 0, 2.0, 2.1)] == [False, True, True, True, False]


def test_reading_a_result_imports_no_statistics_library() -> None:
    code = "import sys, recsys.experiments.analysis.results; print(*({'scipy', 'tea_tasting'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
