"""Experiments through the service: the served variants, the exposure log, and the files in force."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from recommendations.v1 import admin_pb2, admin_pb2_grpc
from recommendations.v1 import recommendations_pb2 as pb

from recsys.experiments.accepted import AcceptedFiles
from recsys.experiments.assignment import Assigner
from recsys.experiments.files import load_experiments
from recsys.instants import to_micros
from serving.client import Client
from serving.process.experiments import ExperimentsWatcher
from serving.process.server import FRESH, Server
from serving.telemetry.troubles import Troubles
from tests.helpers.asking import NOT_SERVING, SERVING, check_health, shown
from tests.helpers.proto_promises import broken_promises
from tests.helpers.waiting import PATIENCE, wait_until
from tests.helpers.yaml_text import yaml_text

CONTROL, TREATMENT = "control", "treatment"
RANKINGS = {"ann": [(position, 0.9 - position / 10, 0) for position in range(8)]}
RANKINGS["bob"] = RANKINGS["ann"][::-1]
USERS = [f"user-{number}" for number in range(40)]


def variant(key: str, policy: str = "meta", **others: object) -> dict[str, Any]:
    return {"key": key, "weight": 0.5, "policy": policy, **others}


@pytest.fixture
def experiment(shop) -> dict[str, Any]:
    """An experiment with all users that starts an hour before `as_of`."""
    return {
        "key": "recency",
        "status": "running",
        "start": (shop.as_of - timedelta(hours=1)),
        "end": (shop.as_of + timedelta(days=14)),
        "variants": [variant(CONTROL, "popularity"), variant(TREATMENT)],
        "analysis": {"primary": [{"name": "purchases", "type": "mean", "column": "purchases"}]},
    }


class Surface:
    """The experiment file of the home page."""

    def __init__(self, folder: Path):
        self.path = folder / "conf" / "home.yaml"
        self.path.parent.mkdir()

    def write(self, *experiments: dict[str, Any], **others: object) -> None:
        default = {"policy": "meta"}
        content = {"schema_version": 1, "default": default, "experiments": list(experiments), **others}
        fresh = self.path.with_suffix(".tmp")
        fresh.write_text(yaml_text(content))
        fresh.replace(self.path)

    def side_of(self, user: str, now: int) -> str:
        assigned = Assigner(load_experiments(self.path)).assign(user, {}, now).assignment
        return assigned.variant if assigned else ""


@pytest.fixture
def surface(tmp_path) -> Surface:
    return Surface(tmp_path)


@pytest.fixture
def publish(shop, make_sale, tmp_path) -> Callable[..., str]:
    """Publish a snapshot of 20 open sales; popularity ranks the last one first, ann's ranking the first ones."""

    def publish(policies: tuple[str, ...] = ("meta",), pins: dict[str, str] | None = None, **others: object) -> str:
        file = tmp_path / "pins.json"
        file.write_text(json.dumps(pins or {}))
        sales = [make_sale(f"s{position:02d}") for position in range(20)]
        rankings = {**RANKINGS, **dict.fromkeys(USERS, RANKINGS["ann"])}
        return shop.publish(sales, rankings, policies=policies, files={"pins.json": file}, **others)

    return publish


@pytest.fixture
def serve(shop, surface) -> Callable[..., Server]:
    return lambda **settings: shop.serve(experiments=str(surface.path.parent), **settings)


@pytest.fixture
def ask() -> Callable[..., pb.GetTopSalesResponse]:
    def ask(server: Server, user: str, **asked: object) -> pb.GetTopSalesResponse:
        with Client(server.target, deadline=PATIENCE) as client:
            return client.top_sales(user, **asked)

    return ask


def logged(shop, server: Server) -> list[dict[str, Any]]:
    """Stop the service, and return its exposures."""
    server.stop()
    lines = [
        line for file in (shop.root.parent / "exposures").glob("*.jsonl*") for line in file.read_bytes().splitlines()
    ]
    return sorted(map(orjson.loads, lines), key=lambda line: line["exposed_at"])


def status_of(server: Server) -> admin_pb2.GetStatusResponse:
    with grpc.insecure_channel(server.admin_target) as channel:
        return admin_pb2_grpc.AdminStub(channel).GetStatus(admin_pb2.GetStatusRequest(), timeout=PATIENCE)


def problems(server: Server) -> str:
    """The problems of the experiments."""
    return " ".join(problem for problem in status_of(server).problems if problem.startswith("experiments:"))


def test_each_user_is_served_the_policy_of_their_variant_and_the_answer_names_it(
    shop, surface, experiment, publish, serve, ask
):
    publish()
    surface.write(experiment)
    server = serve()
    sides = {user: surface.side_of(user, shop.clock()) for user in USERS}
    assert set(sides.values()) == {CONTROL, TREATMENT}
    for user, side in sides.items():
        page = ask(server, user)
        assert page.policy == {CONTROL: "popularity", TREATMENT: "meta"}[side]
        assert shown(page)[0] == {CONTROL: "s19", TREATMENT: "s00"}[side]
        assigned = page.assignment
        assert (assigned.experiment, assigned.phase, assigned.variant, assigned.reason) == (
            "recency",
            1,
            side,
            "assigned",
        )


def test_anonymous_visitor_and_request_that_names_its_policy_are_in_no_experiment(
    surface, experiment, publish, serve, ask
):
    publish()
    surface.write(experiment)
    server = serve()
    assert not ask(server, "").HasField("assignment")
    assert {ask(server, user, policy="meta").policy for user in USERS[:8]} == {"meta"}
    assert not any(ask(server, user, policy="meta").HasField("assignment") for user in USERS[:8])
    assert not ask(server, USERS[0], surface="mail").HasField("assignment")


def test_exposure_holds_variant_configuration_and_overlap(shop, surface, experiment, publish, serve, ask):
    publish()
    surface.write(experiment)
    server = serve()
    user = next(user for user in USERS if surface.side_of(user, shop.clock()) == TREATMENT)
    page = ask(server, user, attributes={"country": "FR"})
    [line] = logged(shop, server)
    assigned = Assigner(load_experiments(surface.path)).assign(user, {}, shop.clock()).assignment
    assert {key: line[key] for key in assigned._fields} == assigned._asdict()
    assert line["configuration_sha"] == load_experiments(surface.path).fingerprint
    assert line["request_id"] == page.request_id
    assert line["attributes"] == {"country": "FR"}
    # treatment: s00..s07, then s19, s18; control: s19, s18, ..., s10: no position shows the same sale
    assert line["overlap_at_10"] == 0.0


def test_overlap_is_1_where_the_variants_show_the_same_page(shop, surface, experiment, publish, serve, ask):
    publish(policies=("meta", "collaborative"))  # both rank the same
    surface.write({**experiment, "variants": [variant(CONTROL), variant(TREATMENT, "collaborative")]})
    server = serve()
    ask(server, "ann")
    [line] = logged(shop, server)
    assert line["overlap_at_10"] == 1.0


def test_user_without_ranking_counts_as_a_fallback_of_their_variant(shop, surface, experiment, publish, serve, ask):
    publish()
    surface.write({**experiment, "variants": [variant(CONTROL), variant(TREATMENT, rules=False)]})
    server = serve()
    page = ask(server, "stranger")
    assert (page.policy, page.assignment.reason) == ("popularity", "fallback")
    [line] = logged(shop, server)
    assert (line["reason"], line["variant"]) == ("fallback", surface.side_of("stranger", shop.clock()))


def test_pinned_version_of_the_model_is_served_and_logged(shop, surface, experiment, publish, serve, ask):
    publish(policies=("meta", "meta@7"), pins={"home/recency/1/control": "3", "home/recency/1/treatment": "7"})
    sides = [variant(CONTROL, model="champion"), variant(TREATMENT, model="challenger")]
    surface.write({**experiment, "variants": sides, "overrides": {"ann": CONTROL, "bob": TREATMENT}})
    server = serve()
    assert [(page.policy, page.model_version) for page in (ask(server, "ann"), ask(server, "bob"))] == [
        ("meta", "3"),
        ("meta@7", "7"),
    ]
    assert all(sale.HasField("probability") for sale in ask(server, "bob").sales[:8])
    lines = logged(shop, server)
    assert [(line["model_version"], line["reason"]) for line in lines] == [
        ("3", "override"),
        ("7", "override"),
        ("7", "override"),
    ]


def test_pinned_version_of_a_model_by_another_name_is_served(surface, experiment, publish, serve, ask):
    publish(pins={"home/recency/1/control": "3", "home/recency/1/treatment": "3"}, versions={"sea_ranker": "3"})
    sides = [variant(CONTROL, model="champion"), variant(TREATMENT, model="champion", rules=False)]
    surface.write({**experiment, "variants": sides})
    server = serve()
    assert problems(server) == ""
    assert ask(server, "ann").model_version == "3"


def test_session_is_ranked_by_the_variants_policy(shop, surface, experiment, ranked_shop, serve, ask):
    shop.clock.micros = ranked_shop.ranker.scorer.horizon.as_of + 3_600_000_000
    shop.point_at(ranked_shop.write(shop.root))
    sides = [variant(CONTROL, "collaborative"), variant(TREATMENT)]
    surface.write({**experiment, "variants": sides, "overrides": {"one": CONTROL, "two": TREATMENT}})
    server = serve()
    session = [sale.sale_id for sale in ranked_shop.sales[:3]]
    by_side = {user: ask(server, user, session=session) for user in ("one", "two")}
    for user, policy in (("one", "collaborative"), ("two", "meta")):
        assert by_side[user].uses_session
        assert shown(by_side[user]) == shown(ask(server, user, session=session, policy=policy))


def test_live_variant_shows_first_what_sold_a_moment_ago_and_the_nightly_one_does_not(
    shop, surface, experiment, ranked_shop, serve, ask
):
    shop.clock.micros = ranked_shop.ranker.scorer.horizon.as_of + 3_600_000_000
    shop.point_at(ranked_shop.write(shop.root))
    sides = [variant(CONTROL, "popularity", ranking="snapshot"), variant(TREATMENT, "popularity", ranking="live")]
    surface.write({**experiment, "variants": sides, "overrides": {"one": CONTROL, "two": TREATMENT}})
    server = serve(live_counts={"read_seconds": 0.01})
    before = shown(ask(server, "one", n=10))
    bought = [pb.Event(user_id=f"u{each}", sale_id=before[-1], kind=pb.EVENT_KIND_PURCHASE) for each in range(300)]
    with Client(server.target, deadline=PATIENCE) as client:
        client.record(bought)
    shop.clock.micros += 1_000_000
    wait_until(lambda: shown(ask(server, "two", n=10))[0] == before[-1])
    assert shown(ask(server, "one", n=10)) == before
    assert {line["variant"]: line["sale_ids"][0] for line in logged(shop, server)} == {
        CONTROL: before[0],
        TREATMENT: before[-1],
    }


def test_variant_may_ignore_the_shops_rules(tmp_path, surface, experiment, publish, serve, ask):
    publish()
    pin = {"name": "pinned", "kind": "pin", "sale_ids": ["s13"], "position": 1}
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml_text({"schema_version": 1, "rules": [pin]}))
    sides = [variant(CONTROL), variant(TREATMENT, rules=False)]
    surface.write({**experiment, "variants": sides, "overrides": {"ann": CONTROL, "bob": TREATMENT}})
    server = serve(rules=str(rules))
    assert shown(ask(server, "ann"))[0] == "s13"
    assert shown(ask(server, "bob"))[0] == "s07"


def test_explored_page_is_logged_with_its_propensities_and_a_retry_gets_the_same(
    shop, surface, experiment, publish, serve, ask
):
    publish()
    exploring = variant(TREATMENT, exploration={"temperature": 0.2, "floor": 0.1}, rules=False)
    surface.write({**experiment, "variants": [variant(CONTROL), exploring], "overrides": {"ann": TREATMENT}})
    server = serve()
    pages = [shown(ask(server, "ann", request_id=f"r{number}")) for number in (1, 2, 3, 4, 5, 1)]
    assert pages[0] == pages[5]
    assert len({tuple(page) for page in pages}) > 1
    lines = logged(shop, server)
    for line, page in zip(lines, pages, strict=True):
        assert line["sale_ids"] == page
        assert all(0 < propensity <= 1 for propensity in line["propensities"])
        assert line["propensities"][8:] == [1.0, 1.0]  # ann's ranking holds 8: popular sales fill the page up
        assert line["overlap_at_10"] is None


def test_interleaved_page_names_the_team_of_each_position(shop, surface, experiment, publish, serve, ask):
    publish()
    surface.write({**experiment, "type": "interleave"})
    server = serve()
    page = ask(server, "ann")
    assert page.assignment.variant == "interleaved"
    [line] = logged(shop, server)
    popular, own = ({f"s{number:02d}" for number in numbers} for numbers in (range(8, 20), range(8)))
    for sale_id, team in zip(line["sale_ids"], line["teams"], strict=True):
        assert sale_id in {CONTROL: popular, TREATMENT: own}[team]
    assert abs(line["teams"].count(CONTROL) - line["teams"].count(TREATMENT)) <= 1


def test_holdout_and_kill_switch_serve_the_configured_policy(shop, surface, experiment, publish, serve, ask):
    publish()
    everybody = {"key": "held", "seed": "holdout:held:", "share": 0.5, "serve": {"policy": "popularity"}}
    both_meta = [variant(CONTROL), variant(TREATMENT, rules=False)]
    surface.write({**experiment, "variants": both_meta}, holdouts=[everybody])
    server = serve()
    pages = [ask(server, user) for user in USERS]
    assert {(page.assignment.variant == "holdout", page.policy) for page in pages} == {
        (True, "popularity"),
        (False, "meta"),
    }
    surface.write({**experiment, "variants": both_meta}, holdouts=[everybody], kill_switch=True)
    wait_until(lambda: {ask(server, user).policy for user in USERS[:12]} == {"meta"})
    killed = ask(server, USERS[0])
    assert not killed.HasField("assignment")
    assert [broken for page in (*pages, killed, ask(server, "")) for broken in broken_promises(page)] == []


# Which files are in force.


@pytest.fixture
def running(surface, experiment, publish, serve) -> Iterator[Server]:
    """A service whose experiment runs."""
    publish()
    surface.write(experiment)
    return serve()


def test_broken_file_changes_nothing_and_is_named_in_health_and_status(surface, experiment, running, ask):
    before = [ask(running, user).policy for user in USERS]
    in_force = dict(status_of(running).experiments)
    surface.write({**experiment, "variants": [variant(CONTROL), {**variant(TREATMENT), "weight": 0.4}]})
    wait_until(lambda: "weight" in problems(running))
    assert [ask(running, user).policy for user in USERS] == before
    assert dict(status_of(running).experiments) == in_force
    surface.write(experiment)
    wait_until(lambda: not problems(running))


def test_health_says_that_a_file_is_refused(shop, surface, experiment, ranked_shop, serve):
    shop.clock.micros = ranked_shop.ranker.scorer.horizon.as_of + 3_600_000_000
    shop.point_at(ranked_shop.write(shop.root))
    surface.write(experiment)
    server = serve()
    wait_until(lambda: check_health(server.target, FRESH) == SERVING)
    surface.path.write_text("experiments: [")
    wait_until(lambda: check_health(server.target, FRESH) == NOT_SERVING)
    surface.write(experiment)
    wait_until(lambda: check_health(server.target, FRESH) == SERVING)


def test_forbidden_change_of_a_running_experiment_is_refused(surface, experiment, running, ask):
    before = [ask(running, user).policy for user in USERS]
    surface.write({**experiment, "seed": "another:"})
    wait_until(lambda: "seed" in problems(running))
    assert [ask(running, user).policy for user in USERS] == before
    surface.write({**experiment, "seed": "another:", "phase": 2})
    wait_until(lambda: not problems(running))
    assert {ask(running, user).assignment.phase for user in USERS} == {2}


def test_broken_file_does_not_stop_a_service_that_restarts(surface, experiment, running, serve, ask):
    before = [ask(running, user).policy for user in USERS]
    surface.path.write_text("experiments: [")
    again = serve()
    assert [ask(again, user).policy for user in USERS] == before
    assert "home.yaml is not readable as YAML" in problems(again)


def test_experiment_whose_policy_is_not_scored_yet_waits_for_the_night(surface, experiment, publish, serve, ask):
    publish()
    surface.write({**experiment, "variants": [variant(CONTROL), variant(TREATMENT, "collaborative")]})
    server = serve()
    assert not ask(server, "ann").HasField("assignment")
    assert "home/recency/1/treatment" in problems(server)
    assert "collaborative" in problems(server)
    publish(policies=("meta", "collaborative"), fingerprint="later000")
    wait_until(lambda: ask(server, "ann").HasField("assignment"))
    wait_until(lambda: not problems(server))


def test_rolled_back_snapshot_without_the_policy_serves_the_default_and_logs_fallbacks(
    shop, surface, experiment, publish, serve, ask
):
    lacking = publish(fingerprint="lacking0")
    publish(policies=("meta", "collaborative"), fingerprint="complete")
    sides = [variant(CONTROL, "popularity"), variant(TREATMENT, "collaborative")]
    surface.write({**experiment, "variants": sides, "overrides": {}})
    server = serve()
    user = next(user for user in USERS if surface.side_of(user, shop.clock()) == TREATMENT)
    assert ask(server, user).policy == "collaborative"
    shop.point_at(lacking)
    wait_until(lambda: ask(server, user).policy == "meta")
    assert ask(server, user).assignment.reason == "fallback"
    assert "in force, but cannot be served" in problems(server)


def test_services_of_one_folder_agree_on_the_file_in_force(surface, experiment, running, serve, ask):
    second = serve()
    surface.write({**experiment, "coverage": 0.0})  # may only grow
    wait_until(lambda: "coverage" in problems(running) and "coverage" in problems(second))
    pages = [(ask(running, user).assignment.variant, ask(second, user).assignment.variant) for user in USERS]
    assert all(one == other for one, other in pages)
    assert {one for one, _ in pages} == {CONTROL, TREATMENT}


def test_file_that_is_gone_ends_no_experiment(surface, running, ask):
    surface.path.unlink()
    wait_until(lambda: "is gone" in problems(running))
    assert ask(running, USERS[0]).HasField("assignment")


def test_experiment_ends_by_the_clock(shop, experiment, running, ask):
    shop.clock.micros = to_micros(shop.as_of + timedelta(days=14)) - 1
    assert ask(running, USERS[0]).HasField("assignment")
    shop.clock.micros += 1
    assert not ask(running, USERS[0]).HasField("assignment")


def test_file_that_comes_back_while_its_absence_is_noted_is_no_problem_any_more(
    shop, make_sale, surface, experiment, tmp_path, monkeypatch
):
    surface.write(experiment)
    troubles = Troubles()
    watcher = ExperimentsWatcher(surface.path.parent, tmp_path, troubles, shop.clock)
    top_sales = watcher.put_in_force(shop.load([make_sale("a")], {}))
    aside = surface.path.rename(tmp_path / "aside")
    take_over = AcceptedFiles.take_over

    def back_at_once(*arguments: Any) -> list[str]:
        problems = take_over(*arguments)
        aside.rename(surface.path)
        return problems

    with monkeypatch.context() as patch:
        patch.setattr(AcceptedFiles, "take_over", back_at_once)
        top_sales = watcher.put_in_force(top_sales)
    assert "home.yaml is gone" in troubles.listed()[0]
    watcher.put_in_force(top_sales)
    assert troubles.listed() == []
