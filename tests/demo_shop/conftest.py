from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from demo_shop.shop import ShopSummary, build_shop
from recsys.config.demo_shop import DemoShopSettings


class BuiltShop(NamedTuple):
    settings: DemoShopSettings
    folder: Path
    summary: ShopSummary
    sales: pd.DataFrame
    events: pd.DataFrame  # with the sale's starts and ends
    users: pd.DataFrame
    sale_images: pd.DataFrame


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> BuiltShop:
    settings = DemoShopSettings(users=2_000, days=60, photos=240)
    folder = tmp_path_factory.mktemp("demo_shop") / "shop"
    summary = build_shop(settings, folder)
    names = ("sales", "events", "users", "sale_images")
    sales, events, users, sale_images = (pd.read_parquet(folder / f"raw/{name}.parquet") for name in names)
    events = events.merge(sales[["offer_id", "starts", "ends"]], on="offer_id", how="left")
    return BuiltShop(settings, folder, summary, sales, events, users, sale_images)
