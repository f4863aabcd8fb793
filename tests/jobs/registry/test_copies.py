import pytest

from jobs.registry import copies, tracking
from jobs.registry.connection import client_of
from recsys.config.settings import Settings
from recsys.errors import RegistryError
from recsys.meta_model import LogisticModel
from recsys.registry.versions import CHAMPION
from tests.helpers.failing_registry import answering
from tests.helpers.small_shop import MLFLOW_WARNS, SmallShop

pytestmark = MLFLOW_WARNS

MODEL = LogisticModel(["popularity"], [0.5], [2.0], [0.25], -4.5)


@pytest.fixture
def shop(tmp_path) -> SmallShop:
    return SmallShop(tmp_path)


@pytest.fixture
def broken(shop):
    """The settings of the shop while its registry answers 500."""
    with answering(500) as address:
        yield shop.settings(mlflow={"tracking_uri": address})


def test_champion_of_the_last_night_is_known_while_mlflow_does_not_answer(shop, broken: Settings, caplog):
    settings = shop.settings()
    tracking.point(settings, CHAMPION, tracking.register(settings, MODEL, {}, 1, "one"))
    assert copies.champion_version(settings) == "1"
    assert copies.read_version(settings, "1") == MODEL
    assert (copies.champion_version(broken), copies.read_version(broken, "1")) == ("1", MODEL)
    assert "the champion of the last night, version 1, ranks: MLflow at http://127.0.0.1:" in caplog.text


def test_shop_without_an_earlier_night_has_no_champion_and_no_version(broken):
    for ask in (copies.champion_version, lambda settings: copies.read_version(settings, "1")):
        with pytest.raises(RegistryError, match="too many 500 error responses"):
            ask(broken)


def test_registry_that_answers_is_asked_and_its_answer_kept(shop):
    settings = shop.settings()
    tracking.point(settings, CHAMPION, tracking.register(settings, MODEL, {}, 1, "one"))
    copies.champion_version(settings)
    tracking.point(settings, CHAMPION, tracking.register(settings, MODEL, {}, 1, "two"))
    assert copies.champion_version(settings) == "2"


def test_deleted_alias_is_restored(shop):
    settings = shop.settings()
    tracking.point(settings, CHAMPION, tracking.register(settings, MODEL, {}, 1, "one"))
    assert copies.champion_version(settings) == "1"
    client_of(settings).delete_registered_model_alias(settings.mlflow.model_name, CHAMPION)
    assert copies.champion_version(settings) == tracking.alias(settings, CHAMPION) == "1"
