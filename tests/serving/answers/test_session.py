import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from recommendations.v1 import recommendations_pb2 as pb

from recsys.config.serving import PageSettings
from recsys.errors import DamagedRecordError, SnapshotError
from recsys.experiments.settings import ExplorationSettings
from recsys.instants import HOUR, to_micros
from recsys.snapshot.format import Snapshot
from serving.answers.pages import Interleaved, PageRequest, Visit
from serving.answers.session import SessionRanker
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown
from tests.helpers.ranked_shop import RankedShop, Session
from tests.helpers.ruled_pages import ruled

TOLERANCE = {"rtol": 2e-5, "atol": 5e-5}
"""Tolerance of scores: the snapshot rounds an event's age to seconds."""


@pytest.fixture(scope="module")
def served(tmp_path_factory, ranked_shop) -> tuple[TopSales, RankedShop, int]:
    """A snapshot with a ranker, the data that it was made from, and an instant with at least 12 open sales."""
    root = tmp_path_factory.mktemp("served")
    in_order_of_scores = PageSettings(just_bought_hours=None)
    top_sales = TopSales.of(Snapshot.open(root / ranked_shop.write(root)), settings=in_order_of_scores)
    now = to_micros(top_sales.snapshot.as_of) + 2 * HOUR
    assert sum(top_sales.open_sales(now).is_open) >= 12
    return top_sales, ranked_shop, now


def best_open(top_sales: TopSales, scores: np.ndarray, now: int) -> list[int]:
    """The open sales, best first, ties by sale: a page by brute force."""
    is_open = top_sales.open_sales(now).is_open
    return sorted((sale for sale in range(len(scores)) if is_open[sale]), key=lambda sale: (-scores[sale], sale))


def assert_is_page_of(response: pb.GetTopSalesResponse, top_sales: TopSales, scores: np.ndarray, now: int) -> None:
    """Check that a page holds the best sales by these scores, in their order up to rounding."""
    position = {sale_id: number for number, sale_id in enumerate(top_sales.sale_ids)}
    found = [position[sale_id] for sale_id in shown(response)]
    expected = best_open(top_sales, scores, now)[: len(found)]
    assert_allclose([sale.score for sale in response.sales], scores[found], **TOLERANCE)
    assert_allclose(scores[found], scores[expected], **TOLERANCE)


def visits(session: Session) -> list[Visit]:
    return [Visit(*event) for event in session]


@pytest.mark.parametrize("policy", ["meta", "collaborative"])
@given(data=st.data())
def test_page_with_a_session_equals_the_nights_ranker_on_history_and_session(served, policy, data):
    top_sales, night, now = served
    sale_ids = st.sampled_from(night.data.catalogue.sale_ids)  # including sales that have closed
    session = data.draw(st.lists(st.tuples(sale_ids, st.booleans()), min_size=1, max_size=8))
    user_id = data.draw(st.sampled_from(["", "stranger", *night.users]))
    response = answered(top_sales, now, user_id, policy=policy, n=12, session=visits(session))
    assert_is_page_of(response, top_sales, night.scores(user_id, session, policy), now)
    assert (response.uses_session, response.policy) == (True, policy)
    assert (response.fallback_level, response.fallback_reason) == (pb.FALLBACK_LEVEL_NONE, "")


def test_sales_of_the_session_that_the_snapshot_does_not_know_are_named_with_the_reasons(served):
    top_sales, night, now = served
    known = night.data.catalogue.sale_ids[0]
    session = [Visit(each) for each in ("s0O", known, "[b]", "x", "y", "z")]
    explained = answered(top_sales, now, session=session, explain=True)
    assert list(explained.notes) == ["The snapshot does not know 's0O', '[b]' and 'x' of the session, nor 2 more."]
    one = answered(top_sales, now, session=session[:2], explain=True)
    assert list(one.notes) == ["The snapshot does not know 's0O' of the session."]
    assert not answered(top_sales, now, session=session[1:2], explain=True).notes


def test_session_changes_the_page_at_once_also_of_an_anonymous_visitor(served):
    top_sales, night, now = served
    pages = {}
    for user_id in ("", night.users[0], night.users[5]):
        before = answered(top_sales, now, user_id)
        after = answered(top_sales, now, user_id, session=[Visit(night.data.catalogue.sale_ids[-1])])
        assert [sale.score for sale in before.sales] != [sale.score for sale in after.sales]
        pages[user_id] = tuple(shown(after))
    assert len(set(pages.values())) == 3  # each user's history still counts


def test_purchase_counts_as_a_purchase(served):
    top_sales, night, now = served
    first, second = (night.data.catalogue.sale_ids[position] for position in (7, 12))
    expected = [night.scores("", [(first, False), (second, bought)]) for bought in (False, True)]
    assert abs(expected[0] - expected[1]).max() > 0.01
    for bought in (False, True):
        response = answered(top_sales, now, session=[Visit(first), Visit(second, bought)])
        assert_is_page_of(response, top_sales, expected[bought], now)


def test_stored_ranking_equals_the_rankers_without_a_session(served):
    top_sales, night, now = served
    for user_id in night.users:
        stored = answered(top_sales, now, user_id, n=3)
        made_anew = answered(top_sales, now, user_id, n=40, explain=True)
        ranked = [sale for sale in stored.sales if sale.HasField("score")]  # the others fill the page up
        assert ranked
        for stored_sale, sale in zip(ranked, made_anew.sales, strict=False):
            assert sale.score == pytest.approx(stored_sale.score, rel=1e-4, abs=2e-4)  # 16-bit steps
            if stored_sale.sale_id == sale.sale_id:
                assert (stored_sale.reason, stored_sale.reason_text, stored_sale.image_uri) == (
                    sale.reason,
                    sale.reason_text,
                    sale.image_uri,
                )
        assert not made_anew.uses_session


@pytest.mark.parametrize("policy", ["meta", "collaborative"])
@given(data=st.data())
def test_every_place_follows_the_policy_whatever_the_request_leaves_of_the_kept_ranking(served, policy, data):
    top_sales, night, _ = served
    sale_ids = st.lists(st.sampled_from(top_sales.sale_ids), unique=True)
    allowed, denied = data.draw(sale_ids), data.draw(sale_ids)
    user_id, n = data.draw(st.sampled_from(night.users)), data.draw(st.integers(1, 40))
    now = top_sales.as_of + data.draw(st.integers(0, 35)) * HOUR  # sales close during the day
    response = answered(top_sales, now, user_id, policy=policy, n=n, allowed=allowed, denied=denied)
    scores = night.scores(user_id, policy=policy)
    left = [
        sale
        for sale in best_open(top_sales, scores, now)
        if top_sales.sale_ids[sale] in (allowed or top_sales.sale_ids) and top_sales.sale_ids[sale] not in denied
    ][:n]
    found = [top_sales.sale_ids.index(sale_id) for sale_id in shown(response)]
    assert len(found) == len(left)
    assert_allclose(scores[found], scores[left], rtol=1e-4, atol=2e-4)  # scores of the snapshot are 16-bit steps
    assert_allclose([sale.score for sale in response.sales], scores[found], rtol=1e-4, atol=2e-4)
    assert not found or (response.policy, response.fallback_level) == (policy, pb.FALLBACK_LEVEL_NONE)


def test_rules_choose_among_all_sales_in_the_order_of_the_policy(served):
    top_sales, night, now = served
    for user_id in night.users[:6]:
        best = best_open(top_sales, night.scores(user_id), now)
        kept = len(best) // 2
        hidden = [top_sales.sale_ids[sale] for sale in best[:kept]]
        filtered = ruled(top_sales, {"kind": "filter", "match": {"sale_id": {"$in": hidden}}})
        expected = [top_sales.sale_ids[sale] for sale in best[kept:]]
        assert shown(answered(filtered, now, user_id, n=40)) == expected
        for rank, sale_id in enumerate(expected, kept):
            boosted = ruled(top_sales, {"kind": "boost", "match": {"sale_id": sale_id}, "places": rank - 1})
            assert shown(answered(boosted, now, user_id, n=2)) == [hidden[0], sale_id]
        pinned = ruled(top_sales, {"kind": "pin", "sale_ids": [expected[-1]], "position": 1})
        response = answered(pinned, now, user_id, n=3)
        assert shown(response) == [expected[-1], *hidden[:2]]
        assert not response.sales[0].HasField("score")  # the kept ranking was enough


@settings(max_examples=150)
@given(data=st.data())
def test_asking_for_contributions_changes_neither_sales_nor_scores_nor_reasons(served, data):
    top_sales, night, now = served
    sale_ids = st.sampled_from(top_sales.sale_ids)
    if data.draw(st.booleans()):
        limit = {"kind": "boost", "match": {"sale_id": data.draw(sale_ids)}, "places": data.draw(st.integers(1, 40))}
        top_sales = ruled(top_sales, limit)
    request = {
        "policy": data.draw(st.sampled_from(["meta", "collaborative", "popularity"])),
        "n": data.draw(st.sampled_from([1, 2, 3, 40])),
        "allowed": data.draw(st.just([]) | st.lists(sale_ids, max_size=20)),
        "session": [Visit(sale_id) for sale_id in data.draw(st.just([]) | st.lists(sale_ids, max_size=2))],
        "exploration": data.draw(st.sampled_from([None, ExplorationSettings(temperature=1.0)])),
        "interleaved": data.draw(st.sampled_from([None, Interleaved("collaborative", ("a", "b"))])),
        "is_urgent": data.draw(st.booleans()),
    }
    user_id = data.draw(st.sampled_from(["", "stranger", *night.users]))
    plain, explained = (answered(top_sales, now, user_id, explain=explain, **request) for explain in (False, True))
    for sale in explained.sales:
        sale.ClearField("contributions")
    assert explained == plain


def test_user_whose_history_is_damaged_keeps_the_page_of_the_kept_ranking(served, monkeypatch):
    top_sales, night, now = served

    def damaged(*_: object) -> None:
        raise DamagedRecordError("a user's history holds sales 0 to 99")

    whole = answered(top_sales, now, night.users[0], n=40)
    monkeypatch.setattr(SessionRanker, "rank", damaged)
    answer = top_sales.answer(PageRequest(night.users[0], "meta", 40), now, "r-1")
    page = pb.GetTopSalesResponse.FromString(answer.written)
    assert isinstance(answer.failure, DamagedRecordError)
    assert (page.policy, shown(page)[:3]) == ("meta", shown(whole)[:3])
    assert sorted(shown(page)) == sorted(shown(whole))


def test_session_of_unknown_sales_says_so(served):
    top_sales, night, now = served
    response = answered(top_sales, now, session=[Visit("nowhere"), Visit("")])
    assert (response.fallback_level, response.uses_session) == (pb.FALLBACK_LEVEL_POPULAR, False)
    assert response.fallback_reason == (
        "The snapshot knows neither this user nor a sale of the session. Popular sales are shown."
    )
    known = answered(top_sales, now, night.users[2], session=[Visit("nowhere")])
    assert (known.fallback_level, known.uses_session) == (pb.FALLBACK_LEVEL_NONE, False)


def test_unknown_sales_of_a_session_are_ignored(served):
    top_sales, night, now = served
    sale_id = night.data.catalogue.sale_ids[5]
    plain = answered(top_sales, now, session=[Visit(sale_id)])
    assert answered(top_sales, now, session=[Visit("nowhere"), Visit(sale_id), Visit("")]) == plain


def test_session_does_not_change_a_policy_that_all_users_share(served):
    top_sales, night, now = served
    session = [Visit(night.sales[0].sale_id)]
    response = answered(top_sales, now, policy="popularity", session=session)
    assert shown(response) == shown(answered(top_sales, now, policy="popularity"))
    assert not response.uses_session


@pytest.mark.parametrize("row", [0, 4, 9])
def test_contributions_and_the_intercept_add_up_to_the_score_before_it_is_calibrated(served, row):
    top_sales, night, now = served
    session = [Visit(night.data.catalogue.sale_ids[3]), Visit(night.data.catalogue.sale_ids[11], True)]
    response = answered(top_sales, now, night.users[row], n=8, session=session, explain=True)
    for sale in response.sales:
        added = {each.feature: each.log_odds for each in sale.contributions}
        assert set(added) == set(night.ranker.scorer.names)
        assert list(added.values()) == sorted(added.values(), reverse=True)
        meta_model = night.ranker.meta_model
        (total,) = meta_model.calibrated(np.array([meta_model.intercept + sum(added.values())], np.float32))
        assert total == pytest.approx(sale.score, abs=1e-4)
        assert sale.probability == pytest.approx(1 / (1 + np.exp(-total)), abs=1e-4)
        assert sale.reason == "open" or 0 < added[sale.reason] <= max(added.values())


def test_contributions_are_given_only_on_request_and_where_there_is_a_probability(served):
    top_sales, night, now = served
    session = [Visit(night.sales[0].sale_id)]
    for asked in ({"session": session}, {"session": session, "explain": True, "policy": "collaborative"}):
        response = answered(top_sales, now, night.users[0], **asked)
        assert not any(sale.contributions for sale in response.sales)
    popular = answered(top_sales, now, "", explain=True)
    assert popular.fallback_level == pb.FALLBACK_LEVEL_POPULAR
    assert not any(sale.contributions for sale in popular.sales)


def test_session_shows_the_photos_that_the_ranker_chooses(served):
    top_sales, night, now = served
    images = {sale.sale_id: sale.images for sale in night.sales}
    response = answered(top_sales, now, night.users[1], session=[Visit(night.sales[0].sale_id)])
    assert all(sale.image_uri in (images[sale.sale_id] or ("",)) for sale in response.sales)
    assert any(sale.image_uri not in images[sale.sale_id][:1] for sale in response.sales if images[sale.sale_id])


def test_page_with_a_session_follows_the_lists_of_the_request(served):
    top_sales, night, now = served
    session = [Visit(night.sales[0].sale_id)]
    first, second, *_ = shown(answered(top_sales, now, session=session))
    assert first not in shown(answered(top_sales, now, session=session, denied=[first]))
    assert shown(answered(top_sales, now, session=session, allowed=[second, first])) == [first, second]


def test_ranker_of_other_sales_is_refused(tmp_path, ranked_shop):
    snapshot = Snapshot.open(tmp_path / ranked_shop.write(tmp_path))
    file = snapshot.path / "sales.json"
    rows = json.loads(file.read_text())
    rows[0]["sale_id"] = "aaa"
    file.write_text(json.dumps(rows))
    with pytest.raises(SnapshotError, match="its ranker is for other sales"):
        SessionRanker(Snapshot(snapshot.path, snapshot.manifest))


@pytest.mark.parametrize("name", ["ranker.json", "meta_models.json", "collaborative/data.npy", "sales/horizon.npy"])
def test_damaged_ranker_leaves_the_session_out_and_answers(tmp_path, ranked_shop, name):
    snapshot = Snapshot.open(tmp_path / ranked_shop.write(tmp_path))
    (snapshot.file("ranker") / name).write_bytes(b"?")
    top_sales = TopSales.of(snapshot)
    assert "holds no ranker" in top_sales.chooser.session_problem
    now = to_micros(snapshot.as_of) + 2 * HOUR
    response = answered(top_sales, now, ranked_shop.users[0], session=[Visit(ranked_shop.sales[0].sale_id)])
    assert list(response.notes) == ["The snapshot cannot rank sessions: see the service's log."]
    assert len(response.sales) == 10


def test_reasons_are_in_the_language_of_the_request(served):
    top_sales, night, now = served
    pages = [
        answered(top_sales, now, night.users[0], language=language) for language in ("", "en", "fr", "de-AT", "xx")
    ]
    own, english, french, german, unknown = ([sale.reason_text for sale in page.sales] for page in pages)
    assert own == english == unknown
    assert not set(english) & set(french)
    assert not set(english) & set(german)
    assert [shown(page) for page in pages] == [shown(pages[0])] * 5
