import random
import sys
import threading
from itertools import cycle, pairwise

import growthbook
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.experiments.assignment import NO_VARIANT, Assigned, Assigner, assign_all, side_names, side_of_bucket
from recsys.experiments.hashing import bucket, buckets
from recsys.experiments.settings import Experiment, Layer
from recsys.instants import to_micros
from tests.helpers.written_experiments import END, NOW, START, experiment, experiment_file, written

USERS = [f"user-{number:05d}" for number in range(5_000)]
HOLDOUT = {"key": "h1", "seed": "holdout:h1:", "share": 0.2, "serve": {"policy": "popularity", "rules": False}}
LAYERS = {"home": Layer(seed="layer:home:")}
LETTERS = "abc-0159éß日本\ue000🎉🚀"


def everyone(*experiments: dict, **changes: object) -> dict[str, Assigned]:
    assigner = Assigner(experiment_file(*experiments, **changes))
    return {user: assigner.assign(user, {}, NOW) for user in USERS}


def logged(assigned: Assigned) -> tuple | None:
    """Return experiment, variant and reason of the assignment to log."""
    log = assigned.assignment
    return log and (log.experiment, log.variant, log.reason)


def test_bucket_of_a_user_decides_their_variant():
    """Weights 0.3 and 0.7 at half coverage: [0, 0.15) is control, [0.3, 0.65) is treated."""
    for user, assigned in everyone(written(coverage=0.5)).items():
        own_bucket = bucket("themes:1:", user)
        expected = "control" if own_bucket < 1_500 else "treated" if 3_000 <= own_bucket < 6_500 else None
        assert (assigned.assignment and assigned.assignment.variant) == expected
        assert assigned.served.policy == {"control": "popularity", "treated": "meta", None: "meta"}[expected]


def test_assignment_says_all_that_is_logged():
    file = experiment_file(written(phase=2))
    assigned = Assigner(file).assign("user-3", {}, NOW)
    own_bucket = bucket("themes:2:", "user-3")
    assert own_bucket >= 3_000
    assert assigned.assignment == ("themes", 2, "treated", own_bucket, "assigned", file.fingerprint)
    assert assigned.experiment is file.experiments[0]
    assert assigned.served is file.experiments[0].variants[1]
    assert assigned.others == (file.experiments[0].control,)
    assert assigned.teams == ()


@pytest.mark.parametrize(("now", "is_in"), [(START, True), (END, False)], ids=["start is included", "end is excluded"])
def test_experiment_runs_from_start_to_end(now, is_in):
    assigner = Assigner(experiment_file(written()))
    assert (assigner.assign("user-3", {}, to_micros(now)).assignment is not None) is is_in
    assert (assigner.assign("user-3", {}, to_micros(now) - 1).assignment is not None) is not is_in


@pytest.mark.parametrize("status", ["draft", "paused", "stopped"])
def test_experiment_that_is_not_running_includes_no_user(status):
    assert {logged(each) for each in everyone(written(status=status, overrides={USERS[0]: "treated"})).values()} == {
        None
    }


def test_only_targeted_requests_are_included():
    assigner = Assigner(experiment_file(written(targeting={"country": {"$in": ["DE", "FR"]}})))
    assert logged(assigner.assign("user-3", {"country": "FR"}, NOW)) == ("themes", "treated", "assigned")
    assert logged(assigner.assign("user-3", {"country": "IT"}, NOW)) is None
    assert logged(assigner.assign("user-3", {}, NOW)) is None


def test_order_of_precedence():
    """The order is kill switch, empty unit, override, holdout, layer, coverage; each line removes the one before."""
    held = next(user for user in USERS if bucket("holdout:h1:", user) < 2_000 and bucket("themes:1:", user) >= 3_000)
    first = written(overrides={held: "control"})
    changes = {"holdouts": [HOLDOUT]}
    assert logged(everyone(first, **changes, kill_switch=True)[held]) == ("", "", "kill")
    assert logged(Assigner(experiment_file(first, **changes)).assign("", {}, NOW)) is None
    assert logged(everyone(first, **changes)[held]) == ("themes", "control", "override")
    assert logged(everyone(written(), **changes)[held]) == ("h1", "holdout", "holdout")
    assert logged(everyone(written(coverage=1.0))[held]) == ("themes", "treated", "assigned")
    assert logged(everyone(written(coverage=0.0))[held]) is None


def test_override_of_a_later_experiment_wins_over_an_earlier_one_and_over_layer_and_targeting():
    nowhere = {"layer": {"name": "home", "ranges": [[0.0, 0.0001]]}, "targeting": {"country": "DE"}}
    assigned = everyone(written(), written("other", overrides={USERS[7]: "treated"}, **nowhere))[USERS[7]]
    assert logged(assigned) == ("other", "treated", "override")
    assert assigned.assignment.bucket is None
    assert [variant.key for variant in assigned.others] == ["control"]


def test_kill_switch_serves_the_default_to_users_in_a_holdout_too():
    assert {each.served.policy for each in everyone(written(), holdouts=[HOLDOUT], kill_switch=True).values()} == {
        "meta"
    }


def test_holdout_serves_its_share_at_any_time():
    held = [user for user, each in everyone(holdouts=[HOLDOUT]).items() if each.assignment]
    assert held == [user for user in USERS if bucket("holdout:h1:", user) < 2_000]
    assert everyone(holdouts=[HOLDOUT])[held[0]].served.rules is False


@pytest.mark.parametrize(("own_bucket", "is_held"), [(0, True), (1_999, True), (2_000, False), (9_999, False)])
def test_holdout_ends_where_its_share_does(own_bucket, is_held):
    users = [f"user-{number}" for number in range(200_000)]
    user = users[np.argmax(buckets("holdout:h1:", users) == own_bucket)]
    assert bucket("holdout:h1:", user) == own_bucket
    assigned = Assigner(experiment_file(holdouts=[HOLDOUT])).assign(user, {}, NOW)
    assert (assigned.assignment is not None) is is_held


def test_user_is_in_the_first_experiment_that_includes_them():
    """At coverage 0.4, the first experiment includes [0, 0.12) and [0.3, 0.58)."""
    for user, assigned in everyone(written("first", coverage=0.4), written("second")).items():
        own_bucket = bucket("first:1:", user)
        assert logged(assigned)[0] == ("first" if own_bucket < 1_200 or 3_000 <= own_bucket < 5_800 else "second")


def test_experiments_of_a_layer_never_share_a_user():
    ranges = {"first": [[0.0, 0.3], [0.9, 1.0]], "second": [[0.3, 0.6]], "third": [[0.6, 0.9]]}
    alone = {key: everyone(written(key, layer={"name": "home", "ranges": own})).items() for key, own in ranges.items()}
    users = {key: {user for user, each in assigned if each.assignment} for key, assigned in alone.items()}
    assert sum(map(len, users.values())) == len(set.union(*users.values())) == len(USERS)
    assert users["second"] == {user for user in USERS if 3_000 <= bucket("layer:home:", user) < 6_000}


def test_layers_are_independent_of_each_other():
    """The first experiment has a quarter of one layer, the second half of the other layer, of the remaining users."""
    layers = {"home": {"seed": "layer:home:"}, "other": {"seed": "layer:other:"}}
    first = written("first", layer={"name": "home", "ranges": [[0.0, 0.25]]})
    second = written("second", layer={"name": "other", "ranges": [[0.0, 0.5]]})
    for user, assigned in everyone(first, second, layers=layers).items():
        in_second = "second" if bucket("layer:other:", user) < 5_000 else None
        expected = "first" if bucket("layer:home:", user) < 2_500 else in_second
        assert (assigned.assignment and assigned.assignment.experiment) == expected


def test_raising_the_coverage_moves_no_user_to_another_variant():
    ramp = [everyone(written(coverage=coverage)) for coverage in (0.1, 0.5, 1.0)]
    for before, after in pairwise(ramp):
        taken = {user: logged(each) for user, each in before.items() if each.assignment}
        assert taken == {user: logged(after[user]) for user in taken}
        assert len(taken) < sum(each.assignment is not None for each in after.values())


def test_new_phase_assigns_users_anew():
    sides = [{user: logged(each)[1] for user, each in everyone(written(phase=phase)).items()} for phase in (1, 2)]
    moved = sum(sides[0][user] != sides[1][user] for user in USERS) / len(USERS)
    assert moved == pytest.approx(2 * 0.3 * 0.7, abs=0.02)


def test_interleaving_mixes_its_variants_for_every_user():
    assigned = everyone(written(type="interleave", coverage=0.5, overrides={USERS[0]: "treated"}))
    mixed = [each for each in assigned.values() if each.teams]
    assert {logged(each) for each in mixed} == {("themes", "interleaved", "assigned")}
    assert [variant.key for variant in mixed[0].teams] == ["control", "treated"]
    assert mixed[0].others == ()
    assert len(mixed) == pytest.approx(len(USERS) / 2, rel=0.05)
    assert assigned[USERS[0]].teams == ()
    assert assigned[USERS[0]].served.policy == "meta"


def test_page_is_compared_with_variants_that_serve_something_else():
    page = {"weight": 0.25, "policy": "meta"}
    variants = [{"key": "a", **page}, {"key": "b", **page}, {"key": "c", **page, "rules": False}]
    variants += [{"key": "d", **page, "model": "challenger"}]
    others = {
        logged(each)[1]: [other.key for other in each.others] for each in everyone(written(variants=variants)).values()
    }
    assert others == {"a": ["c", "d"], "b": ["c", "d"], "c": ["a", "b", "d"], "d": ["a", "b", "c"]}


_WEIGHTS = st.lists(st.integers(1, 9), min_size=2, max_size=5)


def weighted(weights: list[int]) -> list[dict]:
    parts = enumerate(weights)
    return [{"key": f"v{index}", "weight": weight / sum(weights), "policy": "meta"} for index, weight in parts]


@settings(max_examples=40, deadline=None)
@given(_WEIGHTS, st.floats(0, 1), st.floats(0, 0.9), st.text(LETTERS, min_size=1, max_size=4), st.booleans())
def test_assigning_all_users_at_once_agrees_with_one_at_a_time(weights, coverage, start, prefix, is_mixed):
    written_one = written(
        variants=weighted(weights),
        coverage=coverage,
        layer={"name": "home", "ranges": [[start, 1.0]]},
        type="interleave" if is_mixed and len(weights) == 2 else "ab",
    )
    units = [f"{prefix}{number}" for number in range(150)] + [""]
    assigner, names = Assigner(experiment_file(written_one)), side_names(experiment(**written_one))
    indices = assign_all(experiment(**written_one), units, LAYERS)
    alone = [assigner.assign(unit, {}, NOW).assignment for unit in units]
    assert [names[index] if index != NO_VARIANT else None for index in indices] == [
        log and log.variant for log in alone
    ]


@given(_WEIGHTS, st.floats(0, 1))
def test_each_variant_has_its_share_of_the_buckets_rounded(weights, coverage):
    sides = side_of_bucket(experiment(variants=weighted(weights), coverage=coverage))
    for index, weight in enumerate(weights):
        assert (sides == index).sum() == pytest.approx(10_000 * coverage * weight / sum(weights), abs=1.001)


def test_growthbook_assigns_the_same_on_100_000_random_pairs():
    """400 experiments with random layer, targeting, coverage and weights, 250 users each, some ids not ASCII."""
    rng = random.Random(11)
    differing = []
    for number in range(400):
        ours, theirs = random_experiment(rng, number)
        assigner = Assigner(ours)
        for _ in range(250):
            user = "".join(rng.choices(LETTERS, k=rng.randint(1, 12)))
            country = rng.choice(["DE", "FR", "IT"])
            log = assigner.assign(user, {"country": country}, NOW).assignment
            theirs_for_user = growthbook.GrowthBook(attributes={"id": user, "country": country}).run(theirs)
            expected = theirs_for_user.value if theirs_for_user.inExperiment else None
            if (log and log.variant) != expected:
                differing.append((ours, user, country))
    assert differing == []


def random_experiment(rng: random.Random, number: int) -> tuple:
    """Return the same random experiment in our format and in GrowthBook's."""
    variants = weighted([rng.randint(1, 5) for _ in range(rng.randint(2, 4))])
    start = rng.choice([0.0, 0.25, round(rng.random() * 0.9, 4)])
    coverage = rng.choice([1.0, 0.5, rng.random()])
    targeting = rng.choice([None, {"country": {"$in": ["DE", "FR"]}}, {"country": "IT"}])
    seed = rng.choice([None, f"sääd-🎉-{number}:"])
    layer = {"name": "home", "ranges": [[start, 1.0]]}
    ours = written(f"e{number}", variants=variants, coverage=coverage, targeting=targeting, seed=seed, layer=layer)
    theirs = growthbook.Experiment(
        key=f"e{number}",
        variations=[variant["key"] for variant in variants],
        weights=[variant["weight"] for variant in variants],
        coverage=coverage,
        condition=targeting,
        seed=seed or f"e{number}:1:",
        hashVersion=2,
        filters=[{"seed": "layer:home:", "ranges": [[start, 1.0]], "attribute": "id", "hashVersion": 2}],
    )
    return experiment_file(ours), theirs


@pytest.fixture
def frequent_thread_switches():
    """Switch threads every 10 µs, so that they see shared state half-way through a change."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def test_8_threads_assign_160_000_requests_correctly_while_files_are_reloaded(frequent_thread_switches):
    files = [experiment_file(written(phase=phase, coverage=0.6)) for phase in (1, 2)]
    expected = {file.fingerprint: sides_by_hash(file.experiments[0]) for file in files}
    in_force, wrong = [Assigner(files[0])], []

    def ask() -> None:
        for user in USERS * 4:
            log = in_force[0].assign(user, {}, NOW).assignment
            if log and expected[log.configuration_sha][user] != log.variant:
                wrong.append(user)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for file in cycle(files):
        in_force[0] = Assigner(file)
        if not any(thread.is_alive() for thread in threads):
            break
    assert wrong == []


def sides_by_hash(experiment: Experiment) -> dict[str, str]:
    indices = assign_all(experiment, USERS, {})
    names = [*side_names(experiment), "none"]
    return {user: names[index] for user, index in zip(USERS, indices, strict=True)}
