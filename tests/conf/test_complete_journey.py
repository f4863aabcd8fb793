"""The SQL of Complete Journey, compared with counts of the raw files by pandas."""

import json
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from jobs.engine.nights import night
from jobs.engine.run import Run
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.config.settings import load_settings
from recsys.tables.parts import read_arrow
from tests.helpers.paths import ROOT

FOLDER = ROOT.parent / "shared/data/complete_journey"

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def run(compiled, tmp_path_factory) -> Run:
    if not FOLDER.exists():
        pytest.skip(f"{FOLDER.relative_to(ROOT.parent)} does not exist: it comes with the shared real data sets")
    settings = load_settings(ROOT / "conf/complete_journey.yaml")
    raw = {
        name: table.model_copy(update={"path": str(FOLDER / Path(table.path).name)})
        for name, table in settings.source.raw.items()
    }
    source = settings.source.model_copy(update={"sql": str(ROOT / settings.source.sql), "raw": raw})
    folder = str(tmp_path_factory.mktemp("complete_journey"))
    run = night(settings.model_copy(update={"folder": folder, "source": source}))
    run.do((VALIDATE_TABLES,))
    return run


@pytest.fixture(scope="module")
def lines(run) -> pd.DataFrame:
    """The paid receipt lines of articles with at least 50 of them."""
    lines = pd.read_parquet(FOLDER / "transactions.parquet")
    lines = lines[(lines["quantity"] > 0) & (lines["sales_value"] > 0)]
    return lines[lines.groupby("product_id")["product_id"].transform("size") >= 50]


@pytest.fixture(scope="module")
def sales(run) -> pd.DataFrame:
    return read_arrow(run.outputs / "sales").to_pandas().set_index("sale_id")


def test_article_is_a_sale_from_its_first_to_its_last_purchase_plus_a_day(lines, sales):
    times = lines.groupby(lines["product_id"].astype(str))["transaction_timestamp"].agg(["min", "max"])
    assert len(sales) == 4_127
    found = sales[["opens_at", "closes_at"]].apply(lambda column: column.dt.tz_localize(None)).loc[times.index]
    assert (found["opens_at"] == times["min"]).all()
    assert (found["closes_at"] == times["max"] + timedelta(days=1)).all()


def test_events_are_the_lines_of_these_articles_without_duplicates_at_one_instant(run, lines):
    events = read_arrow(run.outputs / "events").to_pandas()
    known = lines[lines["transaction_timestamp"] < "2018-01-01"]  # as_of
    once = known.drop_duplicates(["household_id", "product_id", "transaction_timestamp"])
    assert len(events) == len(once)
    assert set(events["kind"]) == {"purchase"}
    assert events["user_id"].value_counts().to_dict() == {
        str(user): count for user, count in once["household_id"].value_counts().items()
    }


def test_only_unpaid_lines_and_duplicates_are_rejected(run):
    counts = json.loads((run.outputs / "rule_counts.json").read_text())
    broken = {(each["table"], each["rule"]["name"]): each["broken"] for each in counts if each["broken"]}
    raw = pd.read_parquet(FOLDER / "transactions.parquet", columns=["product_id", "quantity", "sales_value"])
    paid = (raw["quantity"] > 0) & (raw["sales_value"] > 0)
    carried = raw["product_id"].isin(raw["product_id"][paid].value_counts().loc[lambda counts: counts >= 50].index)
    assert broken["events", "kind_known"] == (carried & ~paid).sum() == 2_136
    assert set(broken) == {("events", rule) for rule in ("kind_known", "event_unique", "known_as_of")}


def test_campaign_of_a_sale_is_the_one_with_the_fewest_articles_that_has_a_coupon_for_it(sales):
    coupons = pd.read_parquet(FOLDER / "coupons.parquet")[["campaign_id", "product_id"]].drop_duplicates()
    coupons["size"] = coupons.groupby("campaign_id")["product_id"].transform("size")
    smallest = coupons.sort_values(["size", "campaign_id"]).drop_duplicates("product_id")
    expected = {str(row.product_id): str(row.campaign_id) for row in smallest.itertuples()}
    found = {sale: dict(attributes).get("campaign") for sale, attributes in sales["attributes"].items()}
    assert found == {sale: expected.get(sale) for sale in sales.index}
    assert sum(campaign is not None for campaign in found.values()) > 1_000


def test_price_is_that_of_one_piece_at_the_first_purchase(lines, sales):
    first = lines["transaction_timestamp"] == lines.groupby("product_id")["transaction_timestamp"].transform("min")
    prices = (lines["sales_value"] / lines["quantity"])[first].groupby(lines["product_id"].astype(str)).min()
    assert (sales["price"] - prices.loc[sales.index]).abs().max() < 1e-9
