"""A small shop with a published night; making it takes seconds, so tests change copies of it."""

import shutil

import pytest

from jobs.engine.nights import night
from jobs.night.nightly import nightly
from recsys.config.settings import Settings
from tests.helpers.small_shop import SmallShop, random_rows


@pytest.fixture(scope="session")
def published_shop(spark, tmp_path_factory) -> SmallShop:
    """A shop after its night; not to be changed."""
    shop = SmallShop(tmp_path_factory.mktemp("shop")).write(*random_rows(1))
    nightly(night(shop.settings()))
    return shop


@pytest.fixture
def shop(published_shop, tmp_path) -> SmallShop:
    """A copy of it."""
    shutil.copytree(published_shop.folder, tmp_path / "shop")
    return SmallShop(tmp_path / "shop")


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> SmallShop:
    """A shop whose database of models the tests of this module share; each names a model of its own."""
    return SmallShop(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def settings(registry, request) -> Settings:
    return registry.settings(mlflow={"model_name": request.node.name})
