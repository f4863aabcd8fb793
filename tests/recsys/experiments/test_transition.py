from datetime import timedelta

import pytest

from recsys.errors import ConfigurationError
from recsys.experiments.transition import check_transition
from recsys.wording import plural
from tests.helpers.written_experiments import DURING, END, PURCHASES, REVENUE, START, experiment_file, written

VARIANTS = written()["variants"]
LAYER = {"name": "home", "ranges": [[0.2, 0.5]]}
LAYERS = {"home": {"seed": "layer:home:"}, "other": {"seed": "layer:other:"}}
OLD = {"coverage": 0.5, "layer": LAYER, "targeting": {"country": "DE"}}


def problems(old: dict, new: dict, now=DURING, **changes) -> list[str]:
    """Return the problems that check_transition finds when one experiment changes."""
    files = (
        experiment_file(written(**old), layers=LAYERS),
        experiment_file(written(**new), **{"layers": LAYERS} | changes),
    )
    try:
        check_transition(*files, now)
    except ConfigurationError as error:
        first, *lines = str(error).splitlines()
        assert first == f"{plural(len(lines), 'change')} not allowed while experiments run:"
        return [line.strip() for line in lines]
    return []


def changed_variant(**changes) -> dict:
    return {"variants": [VARIANTS[0], VARIANTS[1] | changes]}


def analysis(**changes) -> dict:
    return {"analysis": {"primary": [PURCHASES]} | changes}


NOT_IN_A_PHASE = [
    (
        {"type": "interleave"},
        "experiments.0.type == 'interleave': must stay 'ab' in this phase: give the experiment a new",
    ),
    ({"seed": "new:"}, "experiments.0.seed == 'new:': must stay 'themes:1:' in this phase"),
    ({"targeting": None}, "experiments.0.targeting == None: must stay {'country': 'DE'} in this phase"),
    (changed_variant(model="champion"), "experiments.0.variants.1.model == 'champion': must stay 'challenger'"),
    (changed_variant(rules=False), "experiments.0.variants.1.rules == False: must stay True in this phase"),
    (changed_variant(exploration={"temperature": 2.0}), "experiments.0.variants.1.exploration == {'temperature': 2.0"),
    (changed_variant(key="b"), "experiments.0.variants == ['control', 'b']: must stay ['control', 'treated'] in this"),
    (
        {"variants": VARIANTS[::-1]},
        "experiments.0.variants == ['treated', 'control']: must stay ['control', 'treated']",
    ),
    ({"coverage": 0.4}, "experiments.0.coverage == 0.4: must not be below 0.5: users in the experiment would leave it"),
    ({"layer": None}, "experiments.0.layer == {}: must stay {'name': 'home', 'ranges': [[0.2, 0.5]]} in this phase"),
    (
        {"layer": LAYER | {"name": "other"}},
        "experiments.0.layer == {'name': 'other', 'ranges': [[0.2, 0.5]]}: must stay",
    ),
    (
        {"layer": LAYER | {"ranges": [[0.0, 0.4], [0.45, 1.0]]}},
        "experiments.0.layer.ranges == [[0.0, 0.4], [0.45, 1.0]]: must contain all of [[0.2, 0.5]]",
    ),
    (analysis(alpha=0.1), "experiments.0.analysis.alpha == 0.1: must stay 0.05 in this phase"),
    (analysis(primary=[REVENUE]), "experiments.0.analysis.primary == ({'name': 'revenue_per_user'"),
    (analysis(attribution_days=3), "experiments.0.analysis.attribution_days == 3.0: must stay 7"),
    (analysis(guardrails=[REVENUE | {"margin": 1.0}]), "experiments.0.analysis.guardrails == ({'margin': 1.0, 'name'"),
    ({"status": "draft"}, "experiments.0.status == 'draft': must not return to draft: write paused or stopped"),
    (
        {"start": START + timedelta(days=4)},
        "experiments.0.start == '2026-03-06T00:00:00Z': must stay 2026-03-02T00:00:00Z",
    ),
]


@pytest.mark.parametrize(("change", "problem"), NOT_IN_A_PHASE, ids=lambda value: str(value)[:60])
def test_running_experiment_does_not_allow_this_change(change, problem):
    (line,) = problems(OLD, OLD | change)
    assert line.startswith(problem)


@pytest.mark.parametrize("change", [change for change, _ in NOT_IN_A_PHASE], ids=lambda value: str(value)[:60])
@pytest.mark.parametrize(
    ("old", "new", "now"),
    [
        ({}, {"phase": 2}, DURING),
        ({}, {"phase": 4}, DURING),
        ({"status": "draft"}, {}, DURING),
        ({}, {}, START - timedelta(seconds=1)),
    ],
    ids=["a new phase", "a new phase that skips numbers", "a draft", "not begun"],
)
def test_every_change_is_allowed_before_a_phase_begins(change, old, new, now):
    assert problems(OLD | old, OLD | change | new, now) == []


@pytest.mark.parametrize(
    "change",
    [
        {"coverage": 1.0},
        {"layer": LAYER | {"ranges": [[0.1, 0.3], [0.3, 0.6]]}},
        {"status": "paused"},
        {"status": "stopped"},
        {"end": END + timedelta(days=7)},
        {"end": DURING},
        {"overrides": {"qa": "control"}},
        analysis(secondary=[REVENUE], segments=["country"], power=0.9),
    ],
    ids=str,
)
def test_running_experiment_allows_this_change(change):
    assert problems(OLD, OLD | change) == []


@pytest.mark.parametrize("status", ["running", "paused", "stopped"])
def test_phase_that_has_begun_is_fixed_whatever_its_status(status):
    assert len(problems(OLD | {"status": status}, OLD | {"status": "stopped", "coverage": 0.1})) == 1


def test_weights_of_a_running_experiment_stay():
    halves = [VARIANTS[0] | {"weight": 0.5}, VARIANTS[1] | {"weight": 0.5}]
    first, second = problems(OLD, OLD | {"variants": halves})
    assert first.startswith("experiments.0.variants.0.weight == 0.5: must stay 0.3 in this phase")
    assert second.startswith("experiments.0.variants.1.weight == 0.5: must stay 0.7 in this phase")
    assert problems(OLD, OLD | {"variants": halves, "phase": 2}) == []


def test_paused_experiment_may_be_resumed():
    assert problems(OLD | {"status": "paused"}, OLD) == []


def test_stopped_experiment_may_be_restarted_in_a_new_phase_only():
    stopped = OLD | {"status": "stopped"}
    (line,) = problems(stopped, OLD)
    assert line.startswith(
        "experiments.0.status == 'running': must stay stopped in phase 1: give the experiment a new phase"
    )
    assert problems(stopped, OLD | {"phase": 2}) == []


def test_end_of_an_experiment_that_has_ended_cannot_be_postponed():
    (line,) = problems(OLD, OLD | {"end": END + timedelta(days=1)}, now=END)
    assert line.startswith("experiments.0.end == '2026-03-17T00:00:00Z': must stay 2026-03-16T00:00:00Z, it has passed")


@pytest.mark.parametrize("status", ["draft", "running"])
def test_phase_does_not_go_down(status):
    (line,) = problems(OLD | {"phase": 3, "status": status}, OLD | {"phase": 2})
    assert line == "experiments.0.phase == 2: must not be below 3, whose users are logged"


def test_new_phase_needs_a_new_seed():
    (line,) = problems(OLD | {"seed": "a:"}, OLD | {"seed": "a:", "phase": 2})
    assert line == "experiments.0.seed == 'a:': must not be that of phase 1: leave it out to assign users anew"


def test_seed_of_a_layer_stays_while_an_experiment_of_it_runs():
    moved = {"layers": LAYERS | {"home": {"seed": "layer:new:"}}}
    (line,) = problems(OLD, OLD, **moved)
    assert line.startswith("layers.home.seed == 'layer:new:': must stay 'layer:home:' in this phase")
    assert problems(OLD, OLD, layers=LAYERS | {"other": {"seed": "layer:new:"}}) == []


@pytest.mark.parametrize(
    ("old", "now", "is_good"),
    [
        ({}, DURING, False),
        ({"status": "paused"}, DURING, False),
        ({"status": "stopped"}, DURING, True),
        ({"status": "draft"}, DURING, True),
        ({}, END, True),
        ({}, START - timedelta(days=1), True),
    ],
    ids=str,
)
def test_running_experiment_must_not_be_left_out(old, now, is_good):
    found = problems(old, {"key": "another"}, now)
    assert found == (
        []
        if is_good
        else ["experiments == 'no themes': must not be left out while it runs: write status stopped first"]
    )


def test_all_problems_are_listed_under_their_keys_in_the_new_file():
    old = experiment_file(written(**OLD), written("second"))
    new = experiment_file(written("second", coverage=0.5, **analysis(alpha=0.1)), written(**OLD | {"targeting": None}))
    with pytest.raises(ConfigurationError) as error:
        check_transition(old, new, DURING)
    keys = [line.split(" == ")[0].strip() for line in str(error.value).splitlines()[1:]]
    assert keys == ["experiments.1.targeting", "experiments.0.coverage", "experiments.0.analysis.alpha"]


def test_unchanged_file_has_no_problems():
    assert problems(OLD, OLD) == []
