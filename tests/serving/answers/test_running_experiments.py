"""The policy that each variant is served from; the resulting pages are tested through the service."""

import json
from datetime import timedelta

import pytest

from recsys.experiments.settings import ExperimentFile
from recsys.snapshot.format import Snapshot
from serving.answers.pages import Interleaved, OtherSide, PageRequest
from serving.answers.running_experiments import RunningExperiments

CHAMPION = {"policy": "meta", "model": "champion"}


@pytest.fixture
def assigned(shop, make_sale, tmp_path):
    """Return the requests of users with the assignments of one experiment, which user `u` overrides."""

    def assigned(user_ids: list[str], variants: list[dict], pins: dict[str, str], overridden: str = "", **file: object):
        (tmp_path / "pins.json").write_text(json.dumps(pins))
        files, policies = {"pins.json": tmp_path / "pins.json"}, ("meta", "meta@7", "meta@8")
        name = shop.write([make_sale("a")], {"ann": [(0, 0.5, 0)]}, policies=policies, files=files)
        snapshot = Snapshot.open(shop.root / name)
        experiment = {
            "key": "themes",
            "status": "running",
            "start": shop.as_of - timedelta(hours=1),
            "end": shop.as_of + timedelta(days=1),
            "variants": [{"key": f"v{number}", "weight": 0.5, **each} for number, each in enumerate(variants)],
            "overrides": {"u": overridden} if overridden else {},
            "analysis": {"primary": [{"name": "purchases", "type": "mean", "column": "purchases"}]},
            **file.pop("experiment", {}),
        }
        content = {"schema_version": 1, "default": CHAMPION, "experiments": [experiment], **file}
        running = RunningExperiments({"home": ExperimentFile.model_validate(content)}, snapshot)
        return [running.assigned_request(PageRequest(user_id, "popularity"), shop.clock()) for user_id in user_ids]

    return assigned


def test_variants_of_the_same_policy_are_each_served_from_their_own_pinned_version(assigned):
    holdout = {"key": "held", "seed": "holdout:held:", "share": 0.5, "serve": CHAMPION}
    pins = {"home/default": "3", "home/holdouts/held": "7", "home/themes/1/v0": "8", "home/themes/1/v1": "3"}
    users = ["", *(f"user-{number}" for number in range(20))]
    requests = assigned(users, [CHAMPION, CHAMPION], pins, holdouts=[holdout], experiment={"type": "aa"})
    policies = {request.assignment and request.assignment.variant: request.policy for request in requests}
    assert policies == {None: "meta", "holdout": "meta@7", "v0": "meta@8", "v1": "meta"}


def test_variant_is_compared_with_the_others_that_the_snapshot_can_serve(assigned):
    variants = [{"policy": "popularity"}, {"policy": "meta", "rules": False}, {"policy": "als"}]
    variants = [{**each, "weight": weight} for each, weight in zip(variants, (0.5, 0.25, 0.25), strict=True)]
    [request] = assigned(["u"], variants, {}, "v0")
    assert (request.policy, request.follows_rules) == ("popularity", True)
    assert request.other_sides == (OtherSide("meta", False),)
    [lacking] = assigned(["u"], variants, {}, "v2")
    assert (lacking.policy, lacking.other_sides) == ("popularity", ())  # the requested policy


def test_interleaved_variant_names_both_teams_and_is_not_served_where_one_is_missing(assigned):
    mixed = {"experiment": {"type": "interleave"}}
    [request] = assigned(["ann"], [{"policy": "meta"}, {"policy": "popularity"}], {}, **mixed)
    assert (request.policy, request.interleaved) == ("meta", Interleaved("popularity", ("v0", "v1")))
    [request] = assigned(["ann"], [{"policy": "meta"}, {"policy": "als"}], {}, **mixed)
    assert (request.policy, request.interleaved, request.assignment.reason) == ("popularity", None, "fallback")


def test_request_for_a_surface_without_a_file_is_unchanged(shop, six):
    running = RunningExperiments({}, six.snapshot)
    request = PageRequest("ann", "meta")
    assert running.assigned_request(request, shop.clock()) is request
