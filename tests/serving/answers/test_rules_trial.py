import pytest

from recsys.errors import ConfigurationError
from recsys.instants import HOUR, to_micros
from recsys.rules import RuleSet
from recsys.rules.dry_run import PositionChange
from serving.answers.rules_trial import PageKind, rules_trial

HOME = PageKind("meta", 3, "home", {})


@pytest.fixture
def snapshot(six):
    """At 10:00, a, c, d and f are open: ann's page is d, a of her ranking, then f, c of the popular sales."""
    return six.snapshot


def rules(*written: dict) -> RuleSet:
    return RuleSet.model_validate({"schema_version": 1, "rules": [{"name": rule["kind"], **rule} for rule in written]})


PIN_C = {"kind": "pin", "sale_ids": ["c"], "position": 2}
NO_D = {"kind": "filter", "match": {"sale_id": "d"}}


def test_rules_that_change_nothing_change_no_page(snapshot):
    trial = rules_trial(snapshot, rules(PIN_C | {"surface": "mail"}), ["ann", "bob"], HOME)
    assert (trial.pages, trial.changed, trial.rules, trial.entered, trial.left) == (2, (), {}, {}, {})


def test_pages_with_and_without_rules_are_compared_position_by_position(snapshot):
    trial = rules_trial(snapshot, rules(PIN_C, NO_D), ["ann"], HOME)
    (page,) = trial.changed  # d, a, f without rules; a, c, f with them
    assert page.user_id == "ann"
    assert page.places == (PositionChange(1, "d", "a", None), PositionChange(2, "a", "c", "pin"))
    assert (page.entered, page.left) == (("c",), ("d",))
    assert set(page.applied) == {"pin", "filter"}


def test_counts_are_of_all_requested_users_known_or_not(snapshot):
    trial = rules_trial(snapshot, rules(NO_D), ["ann", "stranger", ""], PageKind("meta", 2, "home", {}))
    # ann: d, a → a, f; the others: f, d → f, c.
    assert (trial.pages, len(trial.changed), trial.changed_share) == (3, 3, 1.0)
    assert trial.rules == {"filter": 3}
    assert (trial.entered, trial.left) == ({"c": 2, "f": 1}, {"d": 3})


def test_instant_is_ten_hours_after_the_snapshot_unless_it_is_given(snapshot):
    after_ten = rules(NO_D | {"from": snapshot.as_of.replace(hour=10)})
    until_ten = rules(NO_D | {"until": snapshot.as_of.replace(hour=10)})
    assert len(rules_trial(snapshot, after_ten, ["ann"], HOME).changed) == 1
    assert len(rules_trial(snapshot, until_ten, ["ann"], HOME).changed) == 0
    nine = to_micros(snapshot.as_of) + 9 * HOUR
    assert len(rules_trial(snapshot, after_ten, ["ann"], HOME, nine).changed) == 0
    assert len(rules_trial(snapshot, until_ten, ["ann"], HOME, nine).changed) == 1


def test_instant_outside_of_the_horizon_is_refused(snapshot):
    start, end = to_micros(snapshot.as_of), to_micros(snapshot.horizon_end)
    for instant in (start - 1, end):
        with pytest.raises(
            ConfigurationError, match=r"instant == 2026-.* UTC, must be in the snapshot's horizon, from"
        ):
            rules_trial(snapshot, rules(NO_D), ["ann"], HOME, instant)


def test_pages_have_the_requested_surface_and_attributes(snapshot):
    french_mail = rules(NO_D | {"surface": "mail", "targeting": {"market": "FR"}})
    changed = [
        len(rules_trial(snapshot, french_mail, ["ann"], PageKind("meta", 3, surface, attributes)).changed)
        for surface, attributes in [("mail", {"market": "FR"}), ("mail", {"market": "IT"}), ("home", {"market": "FR"})]
    ]
    assert changed == [1, 0, 0]


def test_rules_that_could_not_be_met_are_counted(snapshot):
    closed = rules(PIN_C | {"sale_ids": ["b"]})
    trial = rules_trial(snapshot, closed, ["ann", "bob"], HOME)
    assert trial.changed == ()
    ((note, pages),) = trial.notes.items()
    assert "'b'" in note
    assert pages == 2


def test_trial_leaves_the_snapshot_without_rules(snapshot, six):
    rules_trial(snapshot, rules(NO_D), ["ann"], HOME)
    assert six.rules is None


def test_policy_that_the_snapshot_lacks_is_refused(snapshot):
    with pytest.raises(ConfigurationError, match="policy == 'metta', must be one of"):
        rules_trial(snapshot, rules(NO_D), ["ann"], HOME._replace(policy="metta"))
