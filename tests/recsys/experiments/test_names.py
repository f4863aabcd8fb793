from datetime import timedelta

import pytest

from recsys.experiments.names import unknown_attributes, unknown_policies
from tests.helpers.written_experiments import END, START, experiment_file, written

KNOWN = {"meta", "popularity", "content"}
A_YEAR = timedelta(days=365)
NEXT_YEAR = {"start": START + A_YEAR, "end": END + A_YEAR}


def policies(*names: str) -> list[dict]:
    return [{"key": name, "weight": 1 / len(names), "policy": name} for name in names]


@pytest.mark.parametrize("status", ["draft", "running", "paused"])
def test_unknown_policy_of_a_later_experiment_is_named_with_the_nearest(status):
    file = experiment_file(written(status=status, variants=policies("meta", "contnet"), **NEXT_YEAR))
    rule = "must be one of content, meta, popularity; did you mean 'content'?"
    assert list(unknown_policies(file, KNOWN)) == [f"experiments.0.variants.1.policy == 'contnet': {rule}"]


def test_policies_of_default_and_holdouts_are_checked_and_those_of_stopped_experiments_are_not():
    holdout = {"key": "held", "seed": "held:", "share": 0.1, "serve": {"policy": "poularity"}}
    stopped = written(status="stopped", variants=policies("meta", "gone"))
    file = experiment_file(stopped, holdouts=[holdout], default={"policy": "zzz"})
    assert [line.partition(":")[0] for line in unknown_policies(file, KNOWN)] == [
        "default.policy == 'zzz'",
        "holdouts.0.serve.policy == 'poularity'",
    ]


def test_unknown_attributes_of_targeting_and_segments_are_named_with_the_nearest():
    targeting = {"$or": [{"maket": "Spain"}, {"$not": {"channel": "search"}}], "market": "France"}
    analysis = {**written()["analysis"], "segments": ["market", "markt"]}
    file = experiment_file(written(targeting=targeting, analysis=analysis, **NEXT_YEAR))
    rule = "no user and no logged page has this attribute, they have channel, market; did you mean 'market'?"
    assert list(unknown_attributes(file, {"market", "channel"})) == [
        f"experiments.0.targeting == 'maket': {rule}",
        f"experiments.0.analysis.segments == 'markt': {rule}",
    ]
