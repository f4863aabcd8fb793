import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.backtest import backtest as job
from jobs.backtest import measure_pages
from jobs.backtest.backtest import backtest, window
from jobs.night.train_meta_model import read_trained_model
from jobs.registry import tracking
from recsys.backtest.ablation import is_variant
from recsys.errors import ConfigurationError, EmptyInputError
from recsys.instants import DAY, HOUR, from_micros, parse_instant, to_micros
from recsys.meta_model.training import train
from recsys.pipeline.example_arrays import examples_of, read_examples
from recsys.registry.versions import CHAMPION
from recsys.storage.outputs import Outputs
from recsys.tables.night import EVENTS
from recsys.tables.parts import read_arrow, write_file, write_list
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop, contents

pytestmark = MLFLOW_WARNS

LAST = to_micros(AS_OF) - DAY
FIRST = LAST - DAY
SAME_COUNTRY = {"class_path": "tests.helpers.same_country.SameCountry", "init_args": {"attribute": "country"}}
METRICS = {"recall@10", "ndcg@10", "hit_rate@10", "mrr"}
VARIETY = {"coverage", "gini", "novelty", "users"}
KEYS = [
    *("window", "policies", "differences", "paired_ndcg@10", "best_part"),
    *("ablation", "learning_curve", "training", "scoring"),
    *("slices", "slice_metrics", "calibration", "predicted", "coefficients", "examples", "sales"),
]


@pytest.fixture(scope="module")
def shop(published_shop, tmp_path_factory) -> SmallShop:
    """A copy of a shop after its night."""
    folder = tmp_path_factory.mktemp("backtest") / "shop"
    shutil.copytree(published_shop.folder, folder)
    return SmallShop(folder, {"note": "Mind this.", "recommenders": {"further": [SAME_COUNTRY]}})


@pytest.fixture(scope="module")
def measured(shop) -> tuple[dict, pd.DataFrame]:
    """The result and its pages, read before another backtest of the same window replaces them."""
    run = window(shop.settings(), FIRST, LAST)
    result, pages = backtest(run), read_arrow(run.outputs / "page_metrics").to_pandas()
    return result, pages.assign(as_of=pages["as_of"].astype("datetime64[us, UTC]").astype(np.int64))


@pytest.fixture(scope="module")
def result(measured) -> dict:
    return measured[0]


@pytest.fixture(scope="module")
def pages(measured) -> pd.DataFrame:
    return measured[1]


def test_result_has_its_stable_shape(result):
    assert list(result) == KEYS
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result["differences"]) == ["meta - meta_boosted"]
    features = set(result["policies"]) - {"meta", "meta_boosted"}
    assert {"popularity", "collaborative", "content_metadata", "content_text", "own_visits"} <= features
    for policy, metrics in result["policies"].items():
        extra = {"auc", "log_loss", "calibration"} if policy == "meta" else set()
        assert set(metrics) == METRICS | VARIETY | extra
        assert metrics["users"] == result["policies"]["meta"]["users"] > 5
        for name in METRICS:
            assert set(metrics[name]) == {"value", "low", "high"}
            assert 0 <= metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"] <= 1


def test_evidence_of_the_shops_own_is_measured_alone_weighed_and_left_out(result, pages):
    assert result["policies"]["same_country"]["ndcg@10"]["value"] > 0
    words = {row["feature"]: row["words"] for row in result["coefficients"]}
    assert words["same_country"] == "The user's events with sales of the same country."
    assert [row for row in result["ablation"] if "same_country" in str(row)]
    assert pages.loc[pages["policy"] == "same_country", "has_order"].any()


def test_window_describes_the_backtest(result):
    found = result["window"]
    assert (found["from"], found["to"], found["days"]) == ("2026-02-27", "2026-02-28", 2)
    assert found["trained_on"] == "3 days before 2026-02-27"
    assert found["model"].startswith("home_ranker version ")
    assert found["note"] == "Mind this."
    assert found["pages"] >= result["policies"]["meta"]["users"]


def test_values_are_the_means_over_the_pages(result, pages):
    assert set(pages["as_of"]) == {FIRST, LAST}
    measured = set()
    for policy, rows in pages.groupby("policy"):
        assert len(rows) == result["window"]["pages"]
        if not is_variant(policy) and rows["has_order"].any():
            measured.add(policy)
            for name in METRICS:
                assert result["policies"][policy][name]["value"] == pytest.approx(rows[name].mean())
    assert measured == set(result["policies"])


def test_feature_that_is_the_same_for_all_sales_is_no_policy(result, pages):
    assert not pages.loc[pages["policy"] == "activity", "has_order"].any()
    assert "activity" not in result["policies"]
    assert [row["alone"] for row in result["ablation"] if row["feature"] == "activity"] == [None]


def test_pages_hold_ids_of_sales(pages, shop):
    ids = set(pq.read_table(shop.folder / "raw/sales.parquet")["sale_id"].to_pylist())
    assert {sale for name in ("shown", "bought") for sales in pages[name] for sale in sales} <= ids


def test_meta_model_is_trained_on_days_before_the_window_only(result, shop):
    run = window(shop.settings(), FIRST, LAST)
    assert run.training_days == [FIRST - 3 * DAY, FIRST - 2 * DAY, FIRST - DAY]
    examples = read_arrow(run.outputs / "training_examples").to_pandas()
    assert set(examples["as_of"]) <= set(run.training_days)
    assert examples["as_of"].max() + DAY <= FIRST
    measured = read_arrow(run.outputs / "window_examples").to_pandas()
    assert set(measured["as_of"]) == {FIRST, LAST}


def test_repeated_window_gives_the_same_result_without_rerunning_a_step(result, shop, monkeypatch):
    for name in ("page_metrics", "training_examples", "known_users", "train"):
        monkeypatch.setattr(measure_pages, name, None)
    assert backtest(window(shop.settings(), FIRST, LAST)) == result


def test_champion_whose_data_overlaps_the_window_is_left_out_by_default(result, caplog, shop):
    assert list(result["window"]["versions"]) == ["meta"]
    backtest(window(shop.settings(), FIRST, LAST))
    said = " ".join(caplog.text.split())
    assert (
        "left out, champion: version 1 has as_of 2026-03-01 00:00 UTC, must be at most the window's first day" in said
    )
    assert "challenger" not in said


def test_peers_are_measured_on_the_same_pages_and_tuned_on_earlier_days(result, shop):
    run = window(shop.settings(), FIRST, LAST)
    found = backtest(run, with_peers=True)
    peers = {"peer_chance", "peer_newest", "peer_popularity", "peer_cosine", "peer_TF-IDF", "peer_BM25", "peer_ALS"}
    assert set(found["peers"]) == peers <= set(found["policies"])
    assert found["peers"]["peer_popularity"].startswith("days ")
    assert {f"meta - {peer}" for peer in peers} <= set(found["differences"])
    assert {name: found["policies"][name]["ndcg@10"] for name in result["policies"]} == {
        name: metrics["ndcg@10"] for name, metrics in result["policies"].items()
    }
    pages = read_arrow(run.outputs / "peer_pages").to_pandas()
    assert len(pages) == len(peers) * found["window"]["pages"]
    opens = {row["sale_id"]: row["opens_at"] for row in read_arrow(run.outputs / "sales").to_pylist()}
    for shown in pages.loc[pages["policy"] == "peer_newest", "shown"]:
        opened = [opens[sale] for sale in shown]
        assert opened == sorted(opened, reverse=True)
    report = (run.folder / job.REPORT).read_text()
    assert "peer_ALS" in report


def test_sample_of_users_is_smaller_and_depends_on_the_seed(shop, result):
    results = [backtest(window(shop.settings(), FIRST, LAST), 0.5, seed) for seed in (1, 2, 1)]
    users = [each["policies"]["meta"]["users"] for each in results]
    assert results[0]["policies"] == results[2]["policies"] != results[1]["policies"]
    assert max(users) < result["policies"]["meta"]["users"]
    assert results[0]["window"]["users_sampled"] == 0.5


def test_backtest_changes_no_snapshot(result, shop, published_shop):
    snapshots = shop.settings().snapshots_folder
    assert contents(snapshots) == contents(published_shop.settings().snapshots_folder)


def test_model_of_a_backtest_does_not_become_the_champion(result, shop, published_shop):
    assert tracking.alias(shop.settings(), CHAMPION) == tracking.alias(published_shop.settings(), CHAMPION) == "1"


# Explanations of the metrics, computed in plain Python from the pages.


def mean(pages: pd.DataFrame, policy: str, metric: str = "ndcg@10") -> float:
    return float(pages.loc[pages["policy"] == policy, metric].mean())


def test_ablation_has_one_row_per_feature_that_agrees_with_the_pages(result, pages):
    features = [row["feature"] for row in result["coefficients"]]
    assert [row["feature"] for row in result["ablation"]] == features
    whole, alone = mean(pages, "ablation: all features"), mean(pages, "ablation: popularity only")
    assert whole == mean(pages, "meta")  # with so few examples, all are used
    for row in result["ablation"][1:]:
        name = row["feature"]
        assert row["alone"] == result["policies"].get(name, {"ndcg@10": None})["ndcg@10"]
        assert row["added"]["value"] == pytest.approx(mean(pages, f"ablation: popularity and {name}") - alone)
        assert row["removed"]["value"] == pytest.approx(whole - mean(pages, f"ablation: without {name}"))
    assert len({row["removed"]["value"] for row in result["ablation"]}) > 3


def test_learning_curve_ends_with_the_meta_model_itself(result, shop, pages):
    run = window(shop.settings(), FIRST, LAST)
    examples = read_arrow(run.outputs / "training_examples").to_pandas()
    assert [point["days"] for point in result["learning_curve"]] == [1, 2, 3]
    for point in result["learning_curve"]:
        assert point["examples"] == (examples["as_of"] >= FIRST - point["days"] * DAY).sum()
        assert point["ndcg@10"]["value"] == pytest.approx(mean(pages, f"learning curve: {point['days']} days"))
    assert result["learning_curve"][-1]["ndcg@10"] == result["policies"]["meta"]["ndcg@10"]
    assert result["training"]["meta"]["examples"] == len(examples)
    assert 0 < result["training"]["meta"]["seconds"] < 60


def test_model_of_fewer_days_is_trained_on_the_last_ones(result, shop):
    run = window(shop.settings(), FIRST, LAST)
    rows = read_examples(run.outputs / "training_examples").filter(pc.field("as_of") >= FIRST - DAY)
    examples = examples_of(rows)
    found = measure_pages.read_variants(run)["learning curve: 1 days"]
    assert found == train(examples, run.settings.meta_model, ranks_only=True)


def test_users_are_sampled_where_their_pages_would_be_too_many(result, shop):
    run = window(shop.settings(), FIRST, LAST)
    events = pq.read_table(run.outputs / "events").to_pandas()
    day = (events["occurred_at"].astype("datetime64[us, UTC]").astype(int) - FIRST) // DAY
    buyers = events[(events["kind"] == "purchase") & day.between(0, 1)].assign(day=day)[["user_id", "day"]]
    n_buyers = len(buyers.drop_duplicates())
    assert job._share_within(run, n_buyers) == 1.0
    assert job._share_within(run, n_buyers - 3) == pytest.approx(1 - 3 / n_buyers)
    assert result["window"]["users_sampled"] == 1.0


def test_slices_are_those_of_the_pages(result, pages, shop):
    assert set(result["slices"]) == set(result["slice_metrics"])
    raw = {
        row["sale_id"]: dict(row["attributes"]) for row in pq.read_table(shop.folder / "raw/sales.parquet").to_pylist()
    }
    rows = pages[pages["policy"] == "collaborative"]
    hits: dict[str, list[bool]] = {}
    for bought, ranks in zip(rows["bought"], rows["ranks"], strict=True):
        for sale, rank in zip(bought, ranks, strict=True):
            hits.setdefault(raw[sale]["country"], []).append(rank <= 10)
    found = {
        row["name"]: (row["purchases"], row["policies"]["collaborative"]["value"])
        for row in result["slices"]["country"]
    }
    assert found == {country: (len(each), pytest.approx(sum(each) / len(each))) for country, each in hits.items()}
    assert sum(row["pages"] for row in result["slices"]["history length"]) == result["window"]["pages"]
    new = [row for row in result["slices"]["history length"] if row["name"] == "0"]
    unknown = pages[(pages["policy"] == "meta") & (pages["known_events"] == 0)]
    assert [row["policies"]["meta"]["value"] for row in new] == ([unknown["ndcg@10"].mean()] if len(unknown) else [])
    assert all(set(row["policies"]) == set(result["policies"]) for rows in result["slices"].values() for row in rows)


def test_variety_is_that_of_the_pages(result, pages, shop):
    run = window(shop.settings(), FIRST, LAST)
    catalogue, histories = run.shop.catalogue, read_arrow(run.outputs / "user_histories").to_pylist()
    could = {sale for day in (FIRST, LAST) for sale in catalogue.horizon(day, 24).sales.tolist()}
    rows, bits = pages[pages["policy"] == "own_visits"], []
    for as_of, shown in zip(rows["as_of"], rows["shown"], strict=True):
        for sale in shown:
            knew = sum(
                any(
                    catalogue.sale_ids[each] == sale and max(occurred, recorded) < as_of
                    for each, occurred, recorded in zip(*(row[name] for name in LISTS), strict=True)
                )
                for row in histories
            )
            bits.append(-np.log2(max(knew, 1) / len(histories)))
    found = result["policies"]["own_visits"]
    assert found["novelty"] == pytest.approx(np.mean(bits))
    assert found["coverage"] == len({sale for shown in rows["shown"] for sale in shown}) / len(could)


LISTS = ("sales", "occurred_at", "recorded_at")


def test_calibration_and_coefficients_are_those_of_the_model(result, shop):
    run = window(shop.settings(), FIRST, LAST)
    rows = read_arrow(run.outputs / "window_examples").to_pandas()
    assert sum(each["purchases"] for each in result["calibration"]) == rows["bought"].sum()
    predicted = sum(each["predicted"] * each["sales"] for each in result["calibration"])
    assert predicted / rows["bought"].sum() == pytest.approx(result["policies"]["meta"]["calibration"])
    model, _ = read_trained_model(run)
    assert {row["feature"]: row["first"] for row in result["coefficients"]} == model.coefficients_by_feature


def test_examples_agree_with_the_pages(result, pages, shop):
    run = window(shop.settings(), FIRST, LAST)
    ids = run.shop.catalogue.sale_ids
    histories = {row["user_id"]: row for row in read_arrow(run.outputs / "user_histories").to_pylist()}
    assert len(result["examples"]) == 10
    for each in result["examples"]:
        as_of = parse_instant(each["as_of"])
        mine = pages[(pages["user_id"] == each["user_id"]) & (pages["as_of"] == as_of)].set_index("policy")
        assert list(each["pages"]) == ["collaborative", "meta"]
        for policy, page in each["pages"].items():
            assert page == mine.loc[policy, "shown"].tolist()
        assert each["bought"] == mine.loc["meta", "bought"].tolist()
        columns = (histories[each["user_id"]][name] for name in (*LISTS, "purchases"))
        known = [row for row in zip(*columns, strict=True) if max(row[1], row[2]) < as_of]
        assert each["events"] == len(known) > 0
        newest_first = list(dict.fromkeys(ids[sale] for sale, *_ in known[::-1]))
        assert each["visited"] == newest_first[:8]
        bought = {ids[sale] for sale, _, _, is_purchase in known if is_purchase}
        assert each["purchased"] == [name for name in each["visited"] if name in bought]
        named = {*each["visited"], *each["bought"], *(name for page in each["pages"].values() for name in page)}
        assert named <= set(result["sales"])


def test_backtest_of_new_sales_leaves_out_repeat_purchases_and_is_no_evidence(shop, result):
    found = backtest(window(shop.settings(), FIRST, LAST), versions=[], new_only=True)
    assert (found["window"]["new_only"], result["window"]["new_only"]) == (True, False)
    assert found["window"]["pages"] < result["window"]["pages"]
    assert list(found) == KEYS
    rows = pq.read_table(window(shop.settings(), FIRST, LAST).outputs / "window_examples").to_pandas()
    new = rows.loc[~rows["repeat"], "bought"].sum()
    assert sum(each["purchases"] for each in found["calibration"]) == new < rows["bought"].sum()
    version = found["window"]["versions"]["meta"]
    assert tracking.last_backtest(shop.settings(), [version])[1]["window"]["new_only"] is False


# A generated shop, whose true tastes are known.


@pytest.fixture
def generated(shop, result, tmp_path) -> SmallShop:
    """A copy of the shop with true tastes, as if it were generated: all users like the last sales best."""
    shutil.copytree(shop.folder / "var", tmp_path / "shop/var")
    copy = SmallShop(tmp_path / "shop", {"demo_shop": {}}, source=shop.folder)
    truth = Path(copy.settings().folder) / "truth"
    truth.mkdir()
    raw = {name: pq.read_table(shop.folder / f"raw/{name}.parquet").to_pandas() for name in ("sales", "events")}
    sales = sorted(raw["sales"]["sale_id"].dropna().unique())
    users = sorted(raw["events"]["user_id"].dropna().unique())
    pd.DataFrame({"user_id": users, "late": 1.0}).to_parquet(truth / "user_tastes.parquet")
    pd.DataFrame({"sale_id": sales, "late": np.arange(len(sales))}).to_parquet(truth / "sale_traits.parquet")
    pd.DataFrame({"sale_id": sales, "sky": 0.0}).to_parquet(truth / "sale_pictures.parquet")
    return copy


def test_oracle_of_a_generated_shop_is_measured_on_the_same_pages(generated):
    run = window(generated.settings(), FIRST, LAST)
    found = backtest(run, versions=[])
    assert list(found) == [*KEYS[:5], "oracle", *KEYS[5:]]
    rows = read_arrow(run.outputs / "oracle_pages").to_pandas()
    assert len(rows) == found["window"]["pages"]
    assert all(list(shown) == sorted(shown, reverse=True) for shown in rows["shown"])
    assert found["oracle"]["ndcg@10"]["value"] == pytest.approx(rows["ndcg@10"].mean())
    share = found["policies"]["meta"]["ndcg@10"]["value"] / rows["ndcg@10"].mean()
    assert found["oracle"]["share"]["value"] == pytest.approx(share)
    assert "oracle" not in found["policies"]


def test_days_are_drawn_by_the_seed_in_order_and_without_repeats(tmp_path):
    settings = SmallShop(tmp_path).settings()
    days = [window(settings, FIRST - 20 * DAY, LAST, 5, seed).days for seed in (1, 1, 2)]
    assert days[0] == days[1] != days[2]
    assert days[0] == sorted(set(days[0]))
    assert len(days[0]) == 5
    assert all((day - FIRST) % DAY == 0 and FIRST - 20 * DAY <= day <= LAST for day in days[0])


def test_training_days_do_not_depend_on_the_days_drawn(tmp_path):
    settings = SmallShop(tmp_path).settings()
    run = window(settings, FIRST, LAST, 1, seed=3)
    assert run.training_days == window(settings, FIRST, LAST).training_days
    assert run.as_of == LAST + DAY


def test_windows_with_other_days_have_other_folders(tmp_path):
    settings = SmallShop(tmp_path).settings()
    windows = [(FIRST, LAST), (FIRST - DAY, LAST), (FIRST - 9 * DAY, LAST, 3, 0), (FIRST - 9 * DAY, LAST, 3, 1)]
    assert len({window(settings, *each).folder for each in windows}) == len(windows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LAST, FIRST), "--to 2026-02-27 is before --from 2026-02-28"),
        ((FIRST, LAST, 0), "--days-sampled == 0, must be in 1..2, the days of the window"),
        ((FIRST, LAST, 3), "--days-sampled == 3, must be in 1..2, the days of the window"),
    ],
)
def test_invalid_window_is_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigurationError) as error:
        window(SmallShop(tmp_path).settings(), *arguments)
    assert str(error.value) == message


def test_window_without_a_purchase_is_an_error_that_names_it(shop, monkeypatch):
    run = window(shop.settings(), FIRST, LAST)
    monkeypatch.setattr(job.PAGE_METRICS.__class__, "read", lambda *_: run.spark.createDataFrame([], PAGES))
    with pytest.raises(
        EmptyInputError, match=r"no purchase of an open sale from 2026-02-27 to 2026-02-28: choose other"
    ):
        backtest(run)


PAGES = "as_of long, user_id string, policy string, mrr double"


def test_instants_are_midnights():
    assert from_micros(FIRST) == datetime(2026, 2, 27, tzinfo=UTC)
    assert np.all(np.array([FIRST, LAST]) % DAY == 0)


@pytest.mark.parametrize(("hours", "is_refused"), [([22, 23, 22], True), ([0, 0, 0], True), ([1, 9, 22], False)])
def test_live_pages_need_times_of_day(spark, tmp_path, hours, is_refused):
    days = [FIRST + day * DAY for day in range(len(hours))]
    schema = to_arrow_schema(EVENTS.schema, timezone="UTC")
    parts = []
    for day, hour in zip(days, hours, strict=True):
        moment = from_micros(day + hour * HOUR)
        row = {"user_id": "u", "sale_id": "s", "kind": "visit", "occurred_at": moment, "recorded_at": moment}
        name = f"part-{from_micros(day):%Y%m%d}-1.parquet"
        parts.append(write_file(tmp_path / EVENTS.name, name, [pa.Table.from_pylist([row], schema)]))
    write_list(tmp_path / EVENTS.name, parts)
    run = SimpleNamespace(spark=spark, outputs=Outputs(str(tmp_path)), days=days)
    if is_refused:
        with pytest.raises(ConfigurationError, match="must have times of day"):
            measure_pages._refuse_dates_without_times(run)
    else:
        measure_pages._refuse_dates_without_times(run)
