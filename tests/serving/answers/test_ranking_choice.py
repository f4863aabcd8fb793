"""Whether a page is ranked live, as of the present, or by the night's snapshot: as its variant says, on every path."""

from datetime import timedelta
from itertools import product

import pytest
from recommendations.v1 import recommendations_pb2 as pb

from recsys.experiments.settings import ExperimentFile
from recsys.instants import HOUR, from_micros
from recsys.snapshot.format import Snapshot
from serving.answers import sentences
from serving.answers.mixing import overlap
from serving.answers.pages import Interleaved, OtherSide, PageRequest, Visit
from serving.answers.running_experiments import RunningExperiments
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown
from tests.helpers.live_shop import NOW, LiveShop
from tests.helpers.written_experiments import written, written_file


@pytest.fixture(scope="module")
def live(ranked_shop, tmp_path_factory) -> LiveShop:
    """A snapshot and counts by which the sale that was the least popular of the open ones has sold best since."""
    live = LiveShop(ranked_shop, tmp_path_factory.mktemp("live"))
    live.buy(shown(answered(live.of_night, NOW, policy="popularity", n=100))[-1], 500, NOW - HOUR)
    return live


@pytest.fixture(scope="module")
def asked(live, ranked_shop) -> list[dict]:
    """Requests that take different paths: each is ranked otherwise live than by the night."""
    user_id, session = ranked_shop.users[0], [Visit(sale.sale_id) for sale in ranked_shop.sales[:2]]
    third = {"allowed": live.top_sales.sale_ids[::3], "n": 100}
    return [
        {"user_id": user_id, "n": 100, "policy": "popularity"},
        {"user_id": user_id, "n": 100},  # ranked anew where the night kept the best few
        {"user_id": user_id, "n": 100, "explain": True},
        {"user_id": user_id, "n": 2, "explain": True},  # the kept ranking, whose explanation is computed
        {"user_id": user_id, "n": 100, "session": session, "explain": True},
        {"user_id": user_id, **third},
        {"user_id": "", "n": 100},  # the popular sales
        {"user_id": "stranger", "n": 100},
        {"user_id": "stranger", "n": 100, "session": session},
        {"user_id": user_id, "n": 100, "policy": "collaborative", "interleaved": Interleaved("popularity", ("a", "b"))},
    ]


def with_kind(request: PageRequest, is_live: bool) -> PageRequest:
    """Ask for a kind of ranking, of every side."""
    sides = [side._replace(is_live=is_live) for side in request.other_sides]
    mixed = request.interleaved and request.interleaved._replace(is_live=is_live)
    return request._replace(is_live=is_live, interleaved=mixed, other_sides=sides)


def test_page_is_ranked_as_its_request_says_whatever_the_services_default(live, asked):
    for number, fields in enumerate(asked):
        request = PageRequest(**{"policy": "meta", **fields})
        expected = {
            True: live.top_sales.answer(request, NOW, "r").page,
            False: live.of_night.answer(request, NOW, "r").page,
        }
        assert expected[True] != expected[False], number
        for service, is_live in product((live.top_sales, live.by_snapshot), (True, False)):
            found = service.answer(with_kind(request, is_live), NOW, "r").page
            assert found == expected[is_live], (number, is_live)
        assert live.by_snapshot.answer(request, NOW, "r").page == expected[False]


@pytest.mark.parametrize("policy", ["popularity", "meta"])
def test_variants_of_one_experiment_get_the_live_and_the_nightly_order(live, ranked_shop, policy):
    user_id, at = ranked_shop.users[0], from_micros(NOW)
    sides = {"night": "snapshot", "now": "live", "unset": None}
    variants = [
        {"key": key, "weight": weight, "policy": policy, **({"ranking": ranking} if ranking else {})}
        for (key, ranking), weight in zip(sides.items(), (0.25, 0.25, 0.5), strict=True)
    ]
    expected = {
        key: shown(answered(service, NOW, user_id, policy=policy, n=100))
        for key, service in (("night", live.of_night), ("now", live.top_sales))
    }
    assert expected["night"] != expected["now"]
    for key, (service, default) in product(sides, ((live.top_sales, "now"), (live.by_snapshot, "night"))):
        experiment = written(
            start=at - timedelta(hours=1), end=at + timedelta(days=1), variants=variants, overrides={user_id: key}
        )
        file = ExperimentFile.model_validate(written_file(experiment))
        running = RunningExperiments({"home": file}, live.snapshot)
        request = running.assigned_request(PageRequest(user_id, "popularity", n=100), NOW)
        answer = service.answer(request, NOW, "r")
        assert shown(pb.GetTopSalesResponse.FromString(answer.written)) == expected[default if key == "unset" else key]
        assert answer.page.assignment(request).variant == key
        assert answer.page.overlap_at_10 < 1  # two of the variants rank live


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("session", [True, False])
def test_each_team_of_an_interleaved_page_ranks_in_its_own_way(live, ranked_shop, first, session):
    visits = [Visit(sale.sale_id) for sale in ranked_shop.sales[:2]] if session else []
    request = PageRequest(ranked_shop.users[0], "meta", n=100, session=visits, explain=True)
    kinds = {"one": first, "two": not first}
    rankings = {
        team: [pick[0] for pick in live.by_snapshot.answer(with_kind(request, is_live), NOW, "r").page.picks]
        for team, is_live in kinds.items()
    }
    assert rankings["one"] != rankings["two"]
    mixed = request._replace(is_live=first, interleaved=Interleaved("meta", ("one", "two"), not first))
    for seed in "abcd":
        page = live.by_snapshot.answer(mixed, NOW, seed).page
        sales = [pick[0] for pick in page.picks]
        assert {"one", "two"} <= set(page.teams)
        for place, team in enumerate(page.teams):
            if team in rankings:
                assert sales[place] == next(sale for sale in rankings[team] if sale not in sales[:place])


def test_overlap_compares_the_live_page_with_the_nightly_one(live, ranked_shop):
    for user_id, policy in product((*ranked_shop.users[:3], "stranger"), ("meta", "popularity")):
        request = PageRequest(user_id, policy, n=30)
        pages = [live.by_snapshot.answer(request._replace(is_live=kind), NOW, "r").page for kind in (True, False)]
        for is_live, (own, other) in ((True, pages), (False, pages[::-1])):
            compared = request._replace(is_live=is_live, other_sides=[OtherSide(policy, True, not is_live)])
            found = live.by_snapshot.answer(compared, NOW, "r").page
            assert found.picks == own.picks
            assert found.overlap_at_10 == overlap(own.picks, other.picks)
        assert overlap(*(page.picks for page in pages)) < 1


def test_page_that_cannot_be_live_is_that_of_the_night_and_says_why(live, ranked_shop, tmp_path):
    bare = Snapshot.open(tmp_path / ranked_shop.write(tmp_path, files={}))
    without_ranker = TopSales.of(bare, counts=lambda: live.counts)
    for top_sales, policy in product((without_ranker, live.of_night), ("meta", "popularity")):
        request = PageRequest(ranked_shop.users[0], policy, n=5)
        page = top_sales.answer(request._replace(is_live=True), NOW, "r").page
        night = top_sales.answer(request._replace(is_live=False), NOW, "r").page
        assert page == night._replace(notes=[sentences.NOT_LIVE])
    assert sentences.NOT_LIVE in without_ranker.answer(PageRequest("", "popularity"), NOW, "r").page.notes
