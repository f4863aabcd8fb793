"""What towers learn, and from which events."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.instants import DAY, HOUR
from recsys.pipeline.tower_training import Trained, train_towers
from recsys.recommenders import RecommenderSettings, tower_families
from recsys.recommenders.towers import Towers, TowersSettings
from recsys.shop.histories import Block
from recsys.testing.shops import AS_OF, HISTORY, ShopData, make_shop, sale, visit
from tests.helpers.two_tastes import TOWERS as SETTINGS
from tests.helpers.two_tastes import USERS, shop_of_two_tastes

SHOP = shop_of_two_tastes()


def trained(shop: ShopData, settings: TowersSettings = SETTINGS, until: int = AS_OF) -> Trained | None:
    families = tower_families(RecommenderSettings(), shop.catalogue)
    return train_towers(shop.block, shop.catalogue, families, HISTORY, settings, until)


@pytest.fixture(scope="module")
def towers() -> Trained:
    found = trained(SHOP)
    assert found is not None
    return found


def test_users_get_the_sales_of_their_taste_and_everyone_the_cheap_ones(towers):
    horizon = SHOP.horizon(24)
    recommender = Towers(SETTINGS, tower_families(RecommenderSettings(), SHOP.catalogue), towers.weights)
    model = recommender.fit(recommender.count(SHOP.histories(), horizon), horizon)
    scores = model.score(SHOP.histories())
    ids = [SHOP.catalogue.sale_ids[each] for each in horizon.sales]
    assert ids == ["ski0010", "ski00100", "spa0010", "spa00100", "z-golf00"]
    assert (scores[0::2].argmax(axis=1) == ids.index("spa0010")).all()
    assert (scores[1::2].argmax(axis=1) == ids.index("ski0010")).all()
    assert (scores[0::2, 3] > scores[0::2, 0]).all()  # the taste counts more than the price


def test_events_are_predicted_better_than_by_chance(towers):
    assert towers.loss_without == pytest.approx(np.log(4))
    # With the taste known, what is left is whether a user looks at the cheap sale, as they do four times of five.
    assert towers.loss < -(0.8 * np.log(0.8) + 0.2 * np.log(0.2)) + 0.15


def test_events_of_days_to_learn_from_are_counted(towers):
    first, last = AS_OF - 12 * DAY, AS_OF - 2 * DAY
    assert towers.events == ((SHOP.block.occurred_at >= first) & (SHOP.block.occurred_at < last)).sum()


def test_same_events_give_the_same_towers(towers):
    torch.rand(1)
    again = trained(SHOP)
    assert again is not None
    assert again.weights.to_json() == towers.weights.to_json()


def test_events_from_the_instant_on_and_those_recorded_later_change_nothing():
    until = AS_OF - 3 * DAY
    block, one = SHOP.block, trained(SHOP, until=AS_OF - 3 * DAY)
    later = block.occurred_at >= until
    ids, position = SHOP.catalogue.sale_ids, SHOP.catalogue.position
    other_taste = {"ski": "spa", "spa": "ski", "z-g": "z-g"}
    others = np.array([position[other_taste[each[:3]] + each[3:]] for each in ids], np.int32)
    sales = np.where(later, others[block.sales], block.sales)  # as if all had the other taste
    purchases = np.where(later, True, block.purchases)
    recorded_at = np.where(later, until - 1, block.recorded_at)  # by a wrong clock
    # One event in seven of the days to learn from became known only afterwards: the same as if it had not occurred.
    late = ~later & (np.arange(len(sales)) % 7 == 0)
    changed = replace(block, sales=sales, purchases=purchases, recorded_at=np.where(late, until, recorded_at))
    without = _without(block, late)
    assert one is not None
    assert later.any()
    assert _found(changed, until) == _found(without, until) != (one.loss, one.weights.to_json())
    other = replace(block, sales=sales, purchases=purchases, recorded_at=recorded_at)
    assert _found(other, until) == (one.loss, one.weights.to_json())


def test_sales_that_open_later_change_nothing():
    until = AS_OF - 3 * DAY
    further = [sale(f"z{number}", 0.2, 1, category="zoo", price=10) for number in range(9)]
    one, other = (
        trained(SHOP, until=until),
        trained(make_shop([*SHOP.sale_rows, *further], SHOP.event_rows, USERS), until=until),
    )
    assert one is not None
    assert other is not None
    assert other.weights.features == one.weights.features
    assert other.weights.to_json() == one.weights.to_json()


def test_visit_outside_of_the_window_of_its_sale_is_not_learnt_from(towers):
    early = [visit(user, "spa0510", -7) for user in USERS]  # it opens on day -5
    found = trained(make_shop(SHOP.sale_rows, [*SHOP.event_rows, *early], USERS))
    assert found is not None
    assert found.events == towers.events


def test_sale_counts_once_per_user_and_day():
    again = [row | {"occurred_at": row["occurred_at"] + HOUR // 60} for row in SHOP.event_rows]
    one, other = trained(SHOP), trained(make_shop(SHOP.sale_rows, [*SHOP.event_rows, *again], USERS))
    assert one is not None
    assert other is not None
    assert other.events == one.events


@pytest.mark.parametrize("until", [AS_OF - 17 * DAY, AS_OF + 5 * DAY])
def test_shop_with_too_little_to_learn_from_or_to_stop_by_has_no_towers(until):
    settings = SETTINGS.model_copy(update={"min_events": 21})
    assert trained(SHOP, settings, until) is None


def test_shop_whose_sales_have_nothing_in_common_has_no_towers():
    assert trained(SHOP, SETTINGS.model_copy(update={"min_sales": 1000})) is None


def test_training_ends_when_its_time_is_over():
    asked = []

    def is_late() -> bool:
        asked.append(True)
        return True

    families = tower_families(RecommenderSettings(), SHOP.catalogue)
    assert train_towers(SHOP.block, SHOP.catalogue, families, HISTORY, SETTINGS, AS_OF, is_late) is not None
    assert len(asked) == 2  # before the first step, and after the first pass, which had none


def _found(block: Block, until: int) -> tuple[float, str]:
    families = tower_families(RecommenderSettings(), SHOP.catalogue)
    found = train_towers(block, SHOP.catalogue, families, HISTORY, SETTINGS, until)
    assert found is not None
    return found.loss, found.weights.to_json()


def _without(block: Block, gone: np.ndarray) -> Block:
    """Return the block without some events."""
    ends = np.concatenate(([0], np.cumsum(~gone)))[block.offsets]
    names = ("sales", "purchases", "occurred_at", "recorded_at")
    return replace(block, offsets=ends, **{name: getattr(block, name)[~gone] for name in names})
