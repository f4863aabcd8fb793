from recsys.experiments.changes import Changes, ExperimentChanges, changes
from recsys.experiments.hashing import bucket
from tests.helpers.written_experiments import NOW, experiment_file, written

USERS = {f"user-{number}": {"country": "DE" if number % 3 else "FR"} for number in range(1_000)}
BUCKETS = {user: bucket("themes:1:", user) for user in USERS}
CONTROL = sum(own_bucket < 3_000 for own_bucket in BUCKETS.values())


def changed(old: dict, new: dict) -> Changes:
    return changes(experiment_file(written(**old)), experiment_file(written(**new)), USERS, NOW)


def in_ranges(*ranges: tuple[int, int]) -> int:
    return sum(any(start <= own_bucket < end for start, end in ranges) for own_bucket in BUCKETS.values())


def test_same_file_changes_nothing():
    assert changed({}, {}) == Changes(1_000, 0, (ExperimentChanges("themes", 1_000, 1_000, 0, 0, 0),))


def test_ramp_lets_users_enter_and_moves_none():
    """At half coverage: [0, 0.15) and [0.3, 0.65)."""
    half = in_ranges((0, 1_500), (3_000, 6_500))
    found = changed({"coverage": 0.5}, {})
    assert found.experiments == (ExperimentChanges("themes", half, 1_000, 1_000 - half, 0, 0),)


def test_other_weights_move_users():
    halves = [{**variant, "weight": 0.5} for variant in written()["variants"]]
    found = changed({}, {"variants": halves})
    assert found.experiments[0] == ("themes", 1_000, 1_000, 0, 0, in_ranges((3_000, 5_000)))
    assert found.served_otherwise == in_ranges((3_000, 5_000))


def test_users_who_are_no_longer_targeted_leave():
    found = changed({}, {"targeting": {"country": "FR"}})
    assert found.experiments == (ExperimentChanges("themes", 1_000, 334, 0, 666, 0),)


def test_users_in_a_holdout_and_users_with_an_override_are_not_analysed():
    old = experiment_file(written(overrides={"user-1": "control"}))
    holdout = {"key": "h", "seed": "holdout:h:", "share": 0.1, "serve": {"policy": "content"}}
    held = sum(bucket("holdout:h:", user) < 1_000 for user in USERS)
    assert bucket("holdout:h:", "user-1") >= 1_000
    found = changes(old, experiment_file(written(), holdouts=[holdout]), USERS, NOW)
    assert found.experiments == (ExperimentChanges("themes", 999, 1_000 - held, 1, held, 0),)


def test_experiments_of_both_files_are_listed_and_pages_are_compared_by_their_settings():
    """The new control serves the same as the old one; the other variant serves the default's policy."""
    new = written("later", status="running", seed="themes:1:")
    new["variants"][1] = {"key": "b", "weight": 0.7, "policy": "meta"}
    found = changes(experiment_file(written()), experiment_file(new), USERS, NOW)
    assert [(each.experiment, each.before, each.after) for each in found.experiments] == [
        ("themes", 1_000, 0),
        ("later", 0, 1_000),
    ]
    assert found.served_otherwise == 1_000 - CONTROL


def test_interleaved_pages_count_as_served_otherwise():
    assert changed({}, {"type": "interleave"}).served_otherwise == 1_000
