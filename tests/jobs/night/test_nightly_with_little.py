"""A shop always gets a page: nights of shops from which little or nothing can be learnt."""

from collections.abc import Iterable

import numpy as np
from recommendations.v1 import recommendations_pb2 as pb

from jobs.engine.nights import night
from jobs.engine.run import Step
from jobs.night import train_meta_model as training
from jobs.night.nightly import nightly
from jobs.night.train_meta_model import TRAINED_MODEL, train_meta_model
from recsys.instants import DAY, HOUR, to_micros
from recsys.meta_model.training import Examples
from recsys.snapshot.format import Snapshot
from recsys.storage.journal import steps_of
from tests.helpers.in_process import InProcess
from tests.helpers.photo_shop import PhotoShop
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, Row, SmallShop, event, sale

pytestmark = MLFLOW_WARNS

NOW = to_micros(AS_OF)
POPULAR = "The night could not rank by this policy: 'recsys doctor' says why. Popular sales are shown."
YOUNGEST = (
    "The night could not rank by this policy: 'recsys doctor' says why. The sales that opened last are shown: no event "
    "of the shop is known yet."
)
NO_CHAMPION = "policy meta, whose users get the popular page: model 'home_ranker' has no champion to rank by; until"


def visits(*sale_ids: str, hours: float = -5) -> list[Row]:
    """Return one visit of each sale, each by another user."""
    return [event(f"u{number}", sale_id, hours) for number, sale_id in enumerate(sale_ids)]


def served(shop: SmallShop, **changes: object) -> Snapshot:
    """Return the snapshot that the night publishes."""
    settings = shop.settings(**changes)
    return Snapshot.open(settings.snapshots_folder / nightly(night(settings)))


def ask(shop: SmallShop, hours: float = 12, **request: object) -> pb.GetTopSalesResponse:
    """Return the page at some hours after the night."""
    with InProcess(shop.folder / "var", lambda: NOW + int(hours * HOUR)) as service:
        assert not service.troubles.listed()
        return service.ask(request.pop("user_id", "u0"), **request)


def page(answer: pb.GetTopSalesResponse) -> list[str]:
    return [each.sale_id for each in answer.sales]


def lines(snapshot: Snapshot, *starts: str) -> list[str]:
    """Return what the snapshot was published without; each line must start as given."""
    found = [str(line) for line in snapshot.manifest.left_out]
    assert len(found) == len(starts)
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)
    return found


def test_shop_without_purchases_gets_its_popular_sales_and_its_users_are_known(spark, tmp_path):
    shop = SmallShop(tmp_path).write([sale("a"), sale("b"), sale("c")], visits("b", "c", "b", "a", "b", "c"))
    snapshot = served(shop)
    lines(
        snapshot,
        "a new version of the model: 0 purchases of open sales in the 3 days before as_of, fewer than 10 "
        "(meta_model.min_purchases); until there are as many",
        NO_CHAMPION,
        "features collaborative, collaborative_conditional, collaborative_lift, taste_metadata, taste_text: sales ",
        "check of the ranking: yesterday has 0 pages to measure ndcg@10 on, fewer than 100 (night_checks.min_cases): "
        "too little data to tell; until",
    )
    assert (snapshot.policies, snapshot.versions, snapshot.manifest.n_users) == ((), {}, 6)
    for request in ({}, {"user_id": "", "policy": "meta"}, {"session_sale_ids": ["a"], "explain": True}):
        answer = ask(shop, **request)
        assert page(answer) == ["b", "c", "a"]  # 3, 2 and 1 visits
        assert (answer.policy, answer.model_version, answer.fallback_reason) == ("popularity", "", POPULAR)
        assert answer.fallback_level == pb.FALLBACK_LEVEL_POPULAR
        assert {each.reason for each in answer.sales} == {"popularity"}
    assert ask(shop, policy="popularity").fallback_reason == ""


def test_first_day_of_a_shop_shows_the_youngest_open_sales_first(spark, tmp_path):
    sales = [sale("a", 7, 60), sale("b", 9, 60), sale("c", -30, 60), sale("d", 13, 60), sale("e", 7, 11)]
    shop = SmallShop(tmp_path).write(sales, [event("u0", "c", 2)])  # the only event is not known yet
    snapshot = served(shop)
    lines(
        snapshot,
        "a new version of the model: ",
        NO_CHAMPION,
        "popularity; the youngest sales come first: no event of the 90 days before as_of is known; until the first",
        "features ",
        "check of the ranking: ",
    )
    answer = ask(shop)
    assert page(answer) == ["b", "a", "c"]
    assert answer.fallback_reason == YOUNGEST
    assert [each.reason for each in answer.sales] == ["open"] * 3
    assert page(ask(shop, hours=14)) == ["d", "b", "a", "c"]


def test_shop_of_one_sale_at_a_time_after_weeks_of_pause(spark, tmp_path):
    sales = [*(sale(f"s{day}", -24 * day, -24 * day + 24) for day in range(40, 30, -1)), sale("new", -1, 23)]
    events = [event(f"u{number % 7}", f"s{31 + number % 10}", -24 * (31 + number % 10) + 2) for number in range(70)]
    shop = SmallShop(tmp_path).write(sales, [*events, *({**each, "kind": "purchase"} for each in events[:30])])
    snapshot = served(shop)
    lines(snapshot, "a new version of the model: 0 purchases", NO_CHAMPION, "features collaborative", "check of the")
    assert page(ask(shop)) == ["new"]
    assert page(ask(shop, user_id="nobody", hours=24)) == []


def test_shop_without_an_open_sale_gets_an_empty_page_until_one_opens(spark, tmp_path):
    shop = SmallShop(tmp_path).write([sale("old", -90, 0), sale("next", 36, 60)], visits("old"))
    snapshot = served(shop)
    lines(
        snapshot,
        "all pages: no sale is open in [2026-03-01 00:00, 2026-03-02 12:00) UTC; until the first night with an open "
        "sale in its horizon",
    )
    assert (snapshot.sales, snapshot.manifest.n_users) == ((), 0)
    answer = ask(shop, session_sale_ids=["old"], explain=True, attributes={"country": "FR"})
    assert (page(answer), answer.shortfall_reason) == ([], "No sale is open.")
    settings = shop.settings()
    opened = nightly(night(settings, NOW + DAY))
    assert [each.sale_id for each in Snapshot.open(settings.snapshots_folder / opened).sales] == ["next"]


def test_missing_photos_leave_out_policies_and_segments_but_not_the_page(spark, tmp_path):
    shop = PhotoShop(tmp_path)
    shop.write([sale("a"), sale("b")], visits("b", "b", "a"))
    shop.write_photos(
        [("a", 0, "gone.jpg"), ("b", 0, "gone too.jpg"), ("b", 1, "broken.jpg")], {"broken.jpg": "broken"}
    )
    policies = {"policies": ("content_images", "collaborative"), "segments": {"attributes": ("country",)}}
    snapshot = served(shop, rankings={"top_k": 10, **policies}, serving={"default_policy": "content_images"})
    found = lines(
        snapshot,
        "themes of photos: 3 photos, of which none could be tagged (2 missing, 1 broken); until photos can be read",
        "a new version of the model: ",
        "policy content_images, whose users get the popular page: no photo shows a theme; until photos have themes",
        "features ",
        "check of the ranking: ",
    )
    assert "policy meta" not in " ".join(found)  # it is not configured
    assert (snapshot.policies, snapshot.answered_policies) == (
        ("collaborative",),
        ("collaborative", "content_images", "popularity"),
    )
    answer = ask(shop, policy="content_images")
    assert (page(answer), answer.sales[0].image_uri, answer.fallback_reason) == (["b", "a"], "gone too.jpg", POPULAR)
    assert ask(shop, policy="collaborative", session_sale_ids=["b"], explain=True).policy == "collaborative"


def trained(shop: SmallShop, **changes: object) -> Iterable[str]:
    """Train alone, on the examples of the shop's night, and return what that leaves out."""
    run = night(shop.settings(**changes))
    step = Step("train_meta_model", train_meta_model, (TRAINED_MODEL,), depends_on=lambda _: str(changes))
    run.do((step,))
    return [str(line) for line in run.left_out([step])]


def test_champion_ranks_on_where_a_night_cannot_train(same_source):
    before = steps_of(night(same_source.settings()).folder)["train_meta_model"]["left_out"]
    assert [line["what"] for line in before] == ["certainty about version 1 of the model"]
    assert "49 purchases for 18 features, fewer than 10 for each: too little data to tell whether" in before[0]["why"]
    snapshot = served(same_source, meta_model={"days": 3, "min_purchases": 50})
    lines(snapshot, "a new version of the model: 49 purchases of open sales in the 3 days before as_of, ", "check of ")
    assert (snapshot.policies, snapshot.versions) == (("meta",), {"home_ranker": "1"})
    assert ask(same_source, user_id="u01").policy == "meta"


def test_purchases_without_another_open_sale_train_no_model(shop, monkeypatch):
    ones = np.ones(39)
    bought = Examples(["popularity"], ones[:, None].astype(np.float32), ones > 0, ones, ones < 0, ones.astype(np.int32))
    monkeypatch.setattr(training, "examples_of", lambda _: bought)
    (line,) = trained(shop)
    assert line == (
        "a new version of the model: 39 purchases of open sales in the 3 days before as_of, and no other sale was open "
        "then to compare with; until several sales are open at the same time"
    )


def test_failure_of_the_training_itself_is_named_and_stops_no_night(shop, monkeypatch):
    def fail(*_: object) -> None:
        raise ValueError("singular matrix")

    monkeypatch.setattr(training, "train", fail)
    (line,) = trained(shop, meta_model={"days": 3, "seed": 1})
    assert line.startswith(
        "a new version of the model: training failed (ValueError('singular matrix')); until the cause"
    )
    assert "raise ValueError" in (night(shop.settings()).folder / "run.log").read_text()
