import json
from copy import deepcopy
from datetime import timedelta

import pytest

from recsys.errors import ConfigurationError
from recsys.experiments.files import check_known, load_experiments
from recsys.experiments.model_pins import served_slots
from recsys.experiments.settings import ExperimentFile
from tests.helpers.paths import CONF as ALL_CONF
from tests.helpers.written_experiments import END, PURCHASES, START, experiment_file, written, written_file
from tests.helpers.yaml_text import yaml_text

CONF = ALL_CONF / "experiments"

LAYER = {"name": "home", "ranges": [[0.0, 0.5]]}
HOLDOUT = {"key": "h1", "seed": "holdout:h1:", "share": 0.1, "serve": {"policy": "popularity"}}
META = {"key": "m", "weight": 0.5, "policy": "meta"}
CONTENT = {"key": "c", "weight": 0.5, "policy": "content"}


@pytest.fixture
def load(tmp_path):
    def load_content(content: object) -> ExperimentFile:
        path = tmp_path / "home.yaml"
        path.write_text(content if isinstance(content, str) else yaml_text(content))
        return load_experiments(path)

    return load_content


@pytest.fixture
def refusal(load, tmp_path):
    """Return the lines of the message by which a file is refused, without the file's name."""

    def lines(content: object) -> list[str]:
        with pytest.raises(ConfigurationError) as error:
            load(content)
        first, *problems = str(error.value).splitlines()
        assert first == f"{tmp_path / 'home.yaml'}: {len(problems)} wrong:"
        return [problem.strip() for problem in problems]

    return lines


def test_file_may_be_json_with_a_byte_order_mark_and_instants_in_quotes(load):
    content = written_file(written(start=START.isoformat(), end=END.isoformat()))
    assert load("\ufeff" + json.dumps(content, indent="\t")) == load(written_file(written()))


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_every_experiment_file_of_the_project_is_valid(path):
    load_experiments(path)


def test_example_has_every_type_and_changes_nothing():
    experiments = load_experiments(CONF / "home.yaml").experiments
    assert {experiment.type for experiment in experiments} == {"ab", "aa", "interleave"}
    assert {experiment.status for experiment in experiments} == {"draft"}


def test_file_without_experiments_is_valid(load):
    assert load("{schema_version: 1, default: {policy: meta}}").experiments == ()


def test_valid_file_is_loaded_as_written(load):
    content = written_file(written(layer=LAYER), written("b", coverage=0.3), holdouts=[HOLDOUT])
    assert load(content) == ExperimentFile.model_validate(content)


def variants(*changed: dict) -> dict:
    return {"variants": [META | {"key": f"v{index}"} | each for index, each in enumerate(changed)]}


def metrics(**roles: list) -> dict:
    return {"analysis": {"primary": [PURCHASES]} | roles}


RATIO = {"name": "rate", "type": "ratio", "numerator": "visits", "denominator": "exposures"}
EXPLORED = {"exploration": {"temperature": 1.0}}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"wieght": 1}, "experiments.0.wieght == 1: unknown key"),
        ({"status": "on"}, "experiments.0.status == 'on': Input should be 'draft', 'running', 'paused' or 'stopped'"),
        ({"coverage": 1.5}, "experiments.0.coverage == 1.5: Input should be less than or equal to 1"),
        ({"phase": 0}, "experiments.0.phase == 0: Input should be greater than or equal to 1"),
        ({"key": "Themes!"}, "experiments.0.key == 'Themes!': String should match pattern"),
        ({"start": "tomorrow"}, "experiments.0.start == 'tomorrow': instant 'tomorrow', must be"),
        ({"start": START.replace(tzinfo=None)}, "experiments.0.start == 2026-03-02T00:00:00: instant"),
        ({"end": START}, "experiments.0.end == '2026-03-02T00:00:00Z': must be after start, 2026-03-02T00:00:00Z"),
        ({"targeting": {"country": {"$like": "D"}}}, "experiments.0.targeting.country.$like == 'D': must be one of"),
        ({"targeting": {"country": False}}, "experiments.0.targeting.country == False: is a boolean, as YAML reads NO"),
        ({"overrides": {"qa": "x"}}, "experiments.0.overrides.qa == 'x': must be a variant: control, treated"),
        ({"seed": "themes"}, "experiments.0.seed == 'themes': must end with ':', or user 11 of seed 'a' is user 1"),
        (
            {"seed": "layer:home:"},
            "experiments.0.seed == 'layer:home:': must be used once, layers.home.seed has it already",
        ),
        (
            {"layer": {"name": "hom", "ranges": [[0.0, 1.0]]}},
            "experiments.0.layer.name == 'hom': must be one of the file's layers: home",
        ),
        (
            {"layer": LAYER | {"ranges": [[0.5, 0.5]]}},
            "experiments.0.layer.ranges.0 == [0.5, 0.5]: must be [start, end], start below end",
        ),
        (
            {"layer": LAYER | {"ranges": [[0.5, 1.1]]}},
            "experiments.0.layer.ranges.0.1 == 1.1: Input should be less than or equal to 1",
        ),
        (
            {"layer": LAYER | {"ranges": [[0.4, 0.6], [0.0, 0.5]]}},
            "experiments.0.layer.ranges == [[0.4, 0.6], [0.0, 0.5]]: must not overlap each other",
        ),
        (variants({}), "experiments.0.variants == [{'key': 'v0', 'policy': 'meta', 'weight': 0.5}]: must be 2 or more"),
        (
            variants({}, {"policy": "content", "weight": 0.4}),
            "experiments.0.variants.weight == [0.5, 0.4]: must sum to 1, not to 0.9",
        ),
        (
            variants({}, {"policy": "content", "key": "v0"}),
            "experiments.0.variants.1.key == 'v0': must be used once, experiments.0.variants.0.key has it already",
        ),
        (
            variants({}, {"key": "interleaved", "rules": False}),
            "experiments.0.variants.1.key == 'interleaved': must be another word: interleaved pages are logged under",
        ),
        (
            variants({}, {"policy": "content", "model": "champion"}),
            "experiments.0.variants.1 == {'key': 'v1', 'model': 'champion', 'policy': 'content', 'weight': 0.5}: "
            "'model' is only for policy meta",
        ),
        (
            variants({}, {}),
            "experiments.0.variants == [{'policy': 'meta'}, {'policy': 'meta'}]: must not all serve the same",
        ),
        (
            variants({}, {"model": "challenger"}) | {"type": "aa"},
            "experiments.0.variants == [{'policy': 'meta'}, {'policy': 'meta', 'model': 'challenger'}]: "
            "must all serve the same in an experiment of type aa",
        ),
        (
            variants({"ranking": "live"}, {"ranking": "live"}),
            "experiments.0.variants == [{'policy': 'meta', 'ranking': 'live'}, {'policy': 'meta', 'ranking': 'live'}]: "
            "must not all serve the same",
        ),
        (
            variants({}, {"ranking": "nightly"}),
            "experiments.0.variants.1.ranking == 'nightly': Input should be 'live' or 'snapshot'",
        ),
        (
            variants({"weight": 0.25}, {"weight": 0.25}, {"policy": "content"}) | {"type": "interleave"},
            "experiments.0.variants == ['v0', 'v1', 'v2']: must be two: interleaving mixes two policies",
        ),
        (
            variants({}, EXPLORED) | {"type": "interleave"},
            "experiments.0.variants.1.exploration == {'temperature': 1.0, 'floor': 0.0}: must be left out",
        ),
        (metrics(primary=[]), "experiments.0.analysis.primary == []: must be 1 or more"),
        (
            metrics(primary=[PURCHASES | {"column": "clicks"}]),
            "experiments.0.analysis.primary.0.mean.column == 'clicks': Input should be 'exposures', 'fallbacks'",
        ),
        (
            metrics(guardrails=[RATIO]),
            "experiments.0.analysis.guardrails.0.ratio.margin == (missing): Field required",
        ),
        (
            metrics(secondary=[RATIO, PURCHASES]),
            "experiments.0.analysis.secondary.1.name == 'purchases_per_user': must be used once, "
            "experiments.0.analysis.primary.0.name has it already",
        ),
        (
            metrics(secondary=[RATIO | {"denominator": "visits"}]),
            "experiments.0.analysis.secondary.0.denominator == 'visits': must not be the numerator",
        ),
        (
            metrics(segments=["country", "country"]),
            "experiments.0.analysis.segments.1 == 'country': must be used once, experiments.0.analysis.segments.0 has",
        ),
        (metrics(segments=[""]), "experiments.0.analysis.segments == ['']: must be names of attributes"),
    ],
    ids=str,
)
def test_broken_experiment_is_refused_with_key_value_and_rule(refusal, changes, problem):
    (line,) = refusal(written_file(written(**changes)))
    assert line.startswith(problem)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schema_version": 2}, "schema_version == 2: Input should be 1"),
        ({"default": {}}, "default.policy == (missing): Field required"),
        ({"unit": "session"}, "unit == 'session': Input should be 'user_id'"),
        ({"kill_switch": "no"}, "kill_switch == 'no': Input should be a valid boolean"),
        ({"experiments": {}}, "experiments == {}: Input should be a valid tuple"),
        (
            {"experiments": [written(), written("b", seed="b:"), written(seed="c:")]},
            "experiments.2.key == 'themes': must be used once, experiments.0.key has it already",
        ),
        (
            {"holdouts": [HOLDOUT | {"key": "themes"}]},
            "experiments.0.key == 'themes': must be used once, holdouts.0.key has it already",
        ),
        (
            {"holdouts": [HOLDOUT, HOLDOUT | {"key": "h2"}]},
            "holdouts.1.seed == 'holdout:h1:': must be used once, holdouts.0.seed has it already",
        ),
        (
            {"holdouts": [HOLDOUT | {"share": 0.6}]},
            "holdouts.0.share == 0.6: Input should be less than or equal to 0.5",
        ),
        ({"layers": {"home": {"seed": "home"}}}, "layers.home.seed == 'home': must end with ':'"),
    ],
    ids=str,
)
def test_broken_file_is_refused_with_key_value_and_rule(refusal, changes, problem):
    (line,) = refusal(written_file(written(), **{"experiments": [written()]} | changes) if changes else {})
    assert line.startswith(problem)


def test_all_problems_are_listed_at_once(refusal):
    """An invalid value of one experiment does not hide the problems of the others."""
    broken = written("a", status="on")
    lines = refusal(written_file(broken, written("b", end=START, overrides={"qa": "x"}), written("b", seed="b")))
    keys = [line.split(" == ")[0] for line in lines]
    assert keys == [
        "experiments.0.status",
        "experiments.1.end",
        "experiments.1.overrides.qa",
        "experiments.2.key",
        "experiments.2.seed",
    ]


def test_duplicate_key_is_refused(load, tmp_path):
    with pytest.raises(ConfigurationError, match="key 'default' stands twice"):
        load("{schema_version: 1, default: {policy: meta}, default: {policy: content}}")


FIRST = written("first", layer=LAYER)


@pytest.mark.parametrize(
    ("second", "is_good"),
    [
        ({"layer": {"name": "home", "ranges": [[0.5, 1.0]]}}, True),
        ({"layer": {"name": "home", "ranges": [[0.5, 0.6], [0.49, 0.5]]}}, False),
        ({"layer": {"name": "other", "ranges": [[0.0, 1.0]]}}, True),
        ({"layer": LAYER, "start": END, "end": END + timedelta(days=1)}, True),
        ({"layer": LAYER, "start": END - timedelta(seconds=1), "end": END + timedelta(days=1)}, False),
        ({"layer": LAYER, "status": "stopped"}, True),
        ({"layer": LAYER, "status": "paused"}, False),
        ({"layer": LAYER, "status": "draft"}, False),
        ({}, True),
    ],
    ids=str,
)
def test_experiments_of_a_layer_that_run_at_the_same_time_share_no_range(load, refusal, second, is_good):
    layers = {"home": {"seed": "layer:home:"}, "other": {"seed": "layer:other:"}}
    content = written_file(FIRST, written("second", **second), layers=layers)
    if is_good:
        load(content)
    else:
        (line,) = refusal(content)
        assert line.startswith("experiments.1.layer.ranges == [[0.")
        assert line.endswith("must not overlap those of first, which runs at the same time in the same layer")


def test_live_ranking_against_the_nightly_one_is_a_comparison(load):
    sides = variants({"ranking": "snapshot"}, {"ranking": "live"})
    control, treated = load(written_file(written(**sides))).experiments[0].variants
    assert (control.is_live, treated.is_live) == (False, True)


def test_fingerprint_does_not_depend_on_comments_layout_defaults_and_time_zones(load):
    content = written_file(written())
    same = deepcopy(content) | {"kill_switch": False, "unit": "user_id"}
    same["experiments"][0] |= {"coverage": 1.0, "phase": 1, "start": "2026-03-02T01:00:00+01:00"}
    text = "# a comment\n" + yaml_text(same, default_flow_style=True).replace("'2026-03", "2026-03").replace(
        "00'", "00"
    )
    fingerprints = {load(content).fingerprint, load(text).fingerprint}
    assert len(fingerprints) == 1
    assert len(fingerprints.pop()) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": 2},
        {"coverage": 0.9},
        {"status": "paused"},
        {"targeting": {"country": "DE"}},
        {"overrides": {"qa": "treated"}},
        {"analysis": {"primary": [PURCHASES], "alpha": 0.1}},
        {"variants": [{**written()["variants"][0], "ranking": "live"}, written()["variants"][1]]},
    ],
    ids=str,
)
def test_fingerprint_differs_where_the_meaning_differs(changes):
    assert experiment_file(written(**changes)).fingerprint != experiment_file(written()).fingerprint


def test_fingerprint_of_a_file_is_that_of_versions_without_the_keys_that_it_does_not_use():
    """Logged pages name it: an upgrade must not look like a change of the experiment."""
    assert experiment_file(written()).fingerprint == "e7391d22a033"


def known(file: ExperimentFile, policies: set[str], pins: dict[str, str]) -> None:
    check_known(served_slots({"home": file}, START, END), policies, pins, own_version="6")


PINS = {"home/themes/1/treated": "7"}


def test_file_that_the_snapshot_can_serve_is_valid():
    known(experiment_file(written()), {"meta", "popularity", "meta@7"}, PINS)


def test_policies_and_models_that_the_snapshot_lacks_are_named():
    explored = written("other", variants=[META, CONTENT])
    with pytest.raises(ConfigurationError) as error:
        known(experiment_file(written(), explored), {"meta", "popularity"}, {})
    assert [line.strip().split(": ")[0] for line in str(error.value).splitlines()[1:]] == [
        "home/themes/1/treated.model == 'challenger'",
        "home/other/1/c.policy == 'content'",
    ]


def test_pinned_version_must_be_in_the_snapshot():
    with pytest.raises(
        ConfigurationError, match=r"treated\.policy == 'meta@7': must be one of the snapshot's, meta, pop"
    ):
        known(experiment_file(written()), {"meta", "popularity"}, PINS)


def test_drafts_may_name_policies_that_no_snapshot_has():
    known(experiment_file(written(status="draft")), {"meta"}, {})
