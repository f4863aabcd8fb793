"""Copies of a small shop with a published night, which takes seconds to create."""

import shutil

import pytest

from recsys.config.settings import Settings
from tests.helpers.small_shop import SmallShop


@pytest.fixture
def shop(published_shop, tmp_path) -> SmallShop:
    """A copy of the published shop, which tests may change; its raw tables are others, so a night redoes every step."""
    shutil.copytree(published_shop.folder, tmp_path / "shop")
    return SmallShop(tmp_path / "shop")


@pytest.fixture
def same_source(published_shop, tmp_path) -> SmallShop:
    """A copy that reads the published shop's own raw tables: a night redoes only what changed settings require."""
    shutil.copytree(published_shop.folder / "var", tmp_path / "shop/var")
    return SmallShop(tmp_path / "shop", source=published_shop.folder)


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> SmallShop:
    """A shop whose MLflow database is shared by the tests of a module; each test uses its own model name."""
    return SmallShop(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def settings(registry, request) -> Settings:
    return registry.settings(mlflow={"model_name": request.node.name})
