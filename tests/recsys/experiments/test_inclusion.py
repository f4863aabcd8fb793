import pytest

from recsys.experiments.assignment import Assigner
from recsys.experiments.inclusion import exclusions, share_taken_in
from recsys.experiments.settings import ExperimentFile
from recsys.instants import from_micros, parse_instant
from recsys.logs.records import ASSIGNED, HOLDOUT

NOW = parse_instant("2026-03-03")
PRIMARY = [{"name": "bought", "type": "mean", "column": "purchases"}]


def file(*experiments: dict, **changes: object) -> ExperimentFile:
    """Return a file with a holdout of 20 %, a layer, and experiments that run from 2 to 16 March."""
    variants = [{"key": key, "weight": 0.5, "policy": policy} for key, policy in (("a", "meta"), ("b", "popularity"))]
    whole = {
        "type": "ab",
        "status": "running",
        "start": from_micros(parse_instant("2026-03-02")),
        "end": from_micros(parse_instant("2026-03-16")),
        "variants": variants,
        "analysis": {"primary": PRIMARY},
    }
    return ExperimentFile.model_validate(
        {
            "schema_version": 1,
            "default": {"policy": "meta"},
            "layers": {"home": {"seed": "layer:home:"}},
            "holdouts": [{"key": "held", "seed": "held:", "share": 0.2, "serve": {"policy": "popularity"}}],
            "experiments": [{**whole, **each} for each in experiments],
            **changes,
        }
    )


HALF_LAYER = {"key": "first", "layer": {"name": "home", "ranges": [[0.0, 0.5]]}}
FRENCH = {"key": "french", "targeting": {"market": "France"}, "coverage": 0.25}


@pytest.mark.parametrize(
    ("key", "attributes", "expected"),
    [
        ("first", [{}], 0.8 * 0.5),
        ("french", [{"market": "France"}], 0.8 * 0.5 * 0.25),  # the first experiment takes the other half
        ("french", [{"market": "France"}, {"market": "Spain"}, {}, {}], 0.8 * 0.5 * 0.25 / 4),
        ("french", [{}], 0.0),
    ],
)
def test_share_counts_holdouts_earlier_experiments_layer_targeting_and_coverage(
    key: str, attributes: list[dict[str, str]], expected: float
) -> None:
    assert share_taken_in(file(HALF_LAYER, FRENCH), key, attributes) == pytest.approx(expected, abs=0.007)


def test_share_of_a_draft_is_that_it_will_have_and_other_drafts_take_no_users() -> None:
    written = file({**HALF_LAYER, "status": "draft"}, {**FRENCH, "status": "draft"}, kill_switch=True)
    assert share_taken_in(written, "french", [{"market": "France"}]) == pytest.approx(0.8 * 0.25, abs=0.007)


def reason(of: ExperimentFile, key: str, user: str = "ann", now: int = NOW, **attributes: str) -> str:
    return next(each.reason for each in exclusions(of, user, attributes, now) if each.key == key)


def user_outside_of(written: ExperimentFile, *keys: str) -> str:
    """Return a user who is in none of some holdouts and experiments of a file."""
    assigner = Assigner(written)
    users = (f"u{number}" for number in range(1_000))
    return next(
        user
        for user in users
        if (log := assigner.assign(user, {}, NOW).assignment) is None or log.experiment not in keys
    )


def test_reason_is_the_first_condition_that_a_user_does_not_meet() -> None:
    no_holdout = {"holdouts": []}
    draft, paused = ({**HALF_LAYER, "status": status} for status in ("draft", "paused"))
    assert reason(file(draft, **no_holdout), "first") == "its status is draft, not running"
    assert reason(file(paused, **no_holdout), "first") == "its status is paused, not running"
    early, late = parse_instant("2026-03-01"), parse_instant("2026-03-16")
    assert reason(file(HALF_LAYER, **no_holdout), "first", now=early) == "it starts at 2026-03-02 00:00 UTC"
    assert reason(file(HALF_LAYER, **no_holdout), "first", now=late) == "it ended at 2026-03-16 00:00 UTC"
    layered = file(HALF_LAYER, **no_holdout)
    assert "of layer home, not in [0, 0.5)" in reason(layered, "first", user_outside_of(layered, "first"))
    targeted = file(FRENCH, **no_holdout)
    assert reason(targeted, "french", market="Spain") == (
        "targeting {'market': 'France'} does not hold for the attributes: market=Spain"
    )
    assert reason(targeted, "french").endswith("none; give --attribute NAME=VALUE")
    narrow = file({"key": "narrow", "coverage": 0.01}, **no_holdout)
    assert "outside of coverage 0.01" in reason(narrow, "narrow", user_outside_of(narrow, "narrow"))
    held = file(HALF_LAYER)
    assert "is not below share 0.2, 2,000" in reason(held, "held", user_outside_of(held, "held"))


def test_kill_switch_and_anonymous_visitors_are_explained() -> None:
    [killed] = exclusions(file(HALF_LAYER, kill_switch=True), "ann", {}, NOW)
    assert killed == ("", "kill_switch is true, which ends all experiments")
    [anonymous] = exclusions(file(HALF_LAYER), "", {}, NOW)
    assert anonymous.reason.startswith("the user id is empty")


def test_reasons_agree_with_the_assignment_of_the_service() -> None:
    written = file(HALF_LAYER, FRENCH, {"key": "last", "coverage": 0.5})
    assigner, names = Assigner(written), ["held", "first", "french", "last"]
    for number in range(300):
        attributes = {"market": ("France", "Spain")[number % 2]}
        log = assigner.assign(f"u{number}", attributes, NOW).assignment
        told = [each.key for each in exclusions(written, f"u{number}", attributes, NOW)]
        assert told == (names if log is None else names[: names.index(log.experiment)])
        assert log is None or log.reason in (ASSIGNED, HOLDOUT)
        assert not any("before it" in each.reason for each in exclusions(written, f"u{number}", attributes, NOW))
