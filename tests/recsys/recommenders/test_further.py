"""Evidence of a shop's own, by the example of the guide."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.config.settings import load_settings
from recsys.errors import ConfigurationError, ModelError
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.recommenders.further import Evidence, Further, FurtherSettings, further_evidence, sources, words_of
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories
from recsys.testing import RecommenderContract
from recsys.testing.shops import AS_OF, make_shop, purchase, sale, visit
from tests.helpers.paths import ROOT

GUIDE = re.findall(r"```python\n(.*?)```", (ROOT / "docs/recommenders.md").read_text(), re.DOTALL)


class Buyers(Evidence):
    """The number of buyers of a sale, learnt from all users."""

    name = "buyers"
    words = "How many bought it."
    is_personal = False

    def count(self, histories, horizon):
        bought = histories.sales[histories.purchases]
        return {"bought": np.bincount(bought, minlength=histories.n_sales).astype(np.float32)}

    def fit(self, statistics, horizon, catalogue):
        return {"bought": statistics["bought"][horizon.sales]}

    def score(self, histories, horizon, arrays):
        return arrays["bought"][None]


class TestBuyers(RecommenderContract):
    evidence = Buyers()


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> str:
    """The name of a module with the class of the guide."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "brands_of_the_guide.py").write_text(GUIDE[0])
    sys.path.append(str(folder))
    yield "brands_of_the_guide"
    sys.path.remove(str(folder))


class TestExampleOfTheGuide(RecommenderContract):
    @pytest.fixture
    def recommender_of(self, module):
        (evidence,) = further_evidence([like_brands(module, attribute="country")], ())
        return lambda shop: Further(evidence, shop.catalogue)


def like_brands(module: str, **arguments: object) -> FurtherSettings:
    return FurtherSettings(class_path=f"{module}.SameBrand", init_args=arguments)


def test_example_scores_what_the_guide_says(module):
    (evidence,) = further_evidence([like_brands(module, half_life_days=2)], ())
    sales = [sale("a", brand="Altair"), sale("b", brand="Solenne"), sale("c", brand="Altair"), sale("d")]
    shop = make_shop(sales, [visit("u", "a", -2), purchase("u", "c", -4), visit("v", "d", -1)])
    recommender = Further(evidence, shop.catalogue)
    model = recommender.fit({}, shop.horizon())
    np.testing.assert_allclose(model.score(shop.histories()), [[0.75, 0, 0.75, 0], [0, 0, 0, 0]])


def test_evidence_is_the_last_of_the_recommenders_and_can_be_left_out(module):
    shop = make_shop([sale("a", country="FR")], [])
    settings = RecommenderSettings(further=[like_brands(module)])
    names = [each.name for each in recommenders(settings, shop.catalogue)]
    assert names == [*(each.name for each in recommenders(RecommenderSettings(), shop.catalogue)), "same_brand"]
    without = settings.model_copy(update={"without": ("same_brand",)})
    assert "same_brand" not in [each.name for each in recommenders(without, shop.catalogue)]
    assert words_of(settings.further) == {"same_brand": "The user's recent events with sales of the same brand."}


def test_changed_module_is_another_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "first_module.py").write_text(GUIDE[0])
    (tmp_path / "second_module.py").write_text(GUIDE[0] + "\n# changed\n")
    (tmp_path / "third_module.py").write_text(GUIDE[0])
    first, second, third = sources(like_brands(f"{number}_module") for number in ("first", "second", "third"))
    assert first == third != second


@pytest.mark.parametrize(
    ("class_path", "arguments", "message"),
    [
        ("nowhere.Brands", {}, "'nowhere.Brands' cannot be imported .*must be module.Class"),
        ("Brands", {}, "'Brands' cannot be imported"),
        ("collections.Brands", {}, "'collections.Brands' cannot be imported"),
        ("collections.OrderedDict", {}, "is no class of evidence, must extend"),
        (f"{__name__}.Buyers", {"half_life": 3}, "refuses the arguments half_life .*: correct init_args"),
    ],
)
def test_class_that_cannot_be_used_is_refused(class_path, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        further_evidence([FurtherSettings(class_path=class_path, init_args=arguments)], ())


def test_name_that_another_recommender_has_is_refused():
    twice = [FurtherSettings(class_path=f"{__name__}.Buyers")] * 2
    with pytest.raises(ConfigurationError, match=r"Buyers\.name == 'buyers', must be small letters.* of no other"):
        further_evidence(twice, ())


def test_configuration_file_is_checked_with_the_evidence_that_it_names(tmp_path, module):
    path = tmp_path / "shop.yaml"
    text = f"extends: {ROOT / 'conf/base.yaml'}\nfolder: {tmp_path}\nsource: {{sql: sql, raw: {{}}}}\n"
    text += f"recommenders:\n  further:\n    - class_path: {module}.SameBrand\n"
    path.write_text(text + "rankings: {policies: [meta, same_brand]}\n")
    assert load_settings(path).rankings.policies == ("meta", "same_brand")
    path.write_text(text.replace("SameBrand", "Missing"))
    with pytest.raises(ConfigurationError, match=r"Missing' cannot be imported"):
        load_settings(path)


class Wrong(Buyers):
    name = "wrong"

    def __init__(self, found: NDArray[np.float32]):
        self.found = found

    def score(self, histories: Histories, horizon: Horizon, arrays: Mapping[str, np.ndarray]) -> NDArray[np.float32]:
        return self.found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.zeros((1, 2), np.float32), r"wrong: score returned shape \(1, 2\), must be \(1, 1\)"),
        (np.array([[np.nan]], np.float32), "wrong: score returned values that are not finite"),
    ],
)
def test_scores_of_another_shape_or_without_a_value_are_refused(found, message):
    catalogue: Catalogue = make_shop([sale("a")], []).catalogue
    model = Further(Wrong(found), catalogue).load({}, catalogue.horizon(AS_OF, 24))
    with pytest.raises(ModelError, match=message):
        model.score(Histories.of_unknown_user(AS_OF, 1))


class Pairs(Buyers):
    def count(self, histories, horizon):
        return {"pairs": np.zeros((2, histories.n_sales), np.float32)}


def test_sums_that_are_not_by_sale_are_refused():
    catalogue = make_shop([sale("a")], []).catalogue
    with pytest.raises(ModelError, match=r"buyers: count returned pairs as float32 \(2, 1\), must be float32 \(1,\)"):
        Further(Pairs(), catalogue).count(Histories.of_unknown_user(AS_OF, 1), catalogue.horizon(AS_OF, 24))


def test_guide_names_the_class_in_its_test():
    assert "class TestSameBrand(RecommenderContract)" in GUIDE[1]
    assert Path(ROOT / "docs/recommenders.md").is_file()
