import json
import runpy
import shutil
from io import StringIO
from pathlib import Path

import pytest

from cli.tables.leaks import print_leaks
from jobs.backtest.backtest import window
from jobs.backtest.check_leaks import check_leaks
from jobs.engine.run import Run
from recsys.backtest.coefficients import WORDS
from recsys.config.settings import load_settings
from recsys.console import TextConsole
from recsys.errors import EmptyInputError
from recsys.instants import DAY, compact, to_micros
from recsys.pipeline.leaks import BY_DAY, WORLDS
from recsys.shop.histories import Block
from tests.helpers.paths import ROOT
from tests.helpers.photo_shop import PhotoShop, random_photos
from tests.helpers.small_shop import AS_OF, SmallShop, event, random_rows, sale

LAST = to_micros(AS_OF) - DAY
TRAINED = [LAST - 3 * DAY, LAST - 2 * DAY, LAST - DAY]
SALES, EVENTS = random_rows(4, sales=40)
FEATURES = list(WORDS)


TOWERS = {"min_events": 1, "days": 5, "stopping_days": 1, "epochs": 2}


def run_of(shop: SmallShop) -> Run:
    return window(shop.settings(recommenders={"towers": TOWERS}), LAST, LAST)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> PhotoShop:
    """A shop with photos; many of its sales open after the horizon of the first training day."""
    shop = PhotoShop(tmp_path_factory.mktemp("shop")).write(SALES, EVENTS)
    return shop.write_photos(*random_photos(SALES))


@pytest.fixture(scope="module")
def result(spark, shop) -> dict:
    return check_leaks(run_of(shop), instants=2, users=7, seed=3)


def test_no_feature_changes_with_data_that_is_not_known_yet(result):
    rows = result["features"]
    assert [(row["feature"], row["world"]) for row in rows] == [
        (name, world) for name in FEATURES for world in (*WORLDS, BY_DAY)
    ]
    assert {(row["moved"], row["example"]) for row in rows} == {(0, None)}
    assert max(row["largest"] for row in rows) < 1e-6


def test_first_training_day_and_a_sample_of_other_days_are_checked(result, shop):
    instants = list(result["window"]["users"])
    assert len(instants) == 2
    assert instants[0] == compact(TRAINED[0])
    assert instants[1] in map(compact, [*TRAINED[1:], LAST])
    assert set(result["window"]["users"].values()) == {7}


def test_every_sampled_user_is_compared_with_every_sale_of_the_horizon(result, shop):
    catalogue = run_of(shop).shop.catalogue
    horizons = [
        len(catalogue.horizon(as_of, 36)) for as_of in (*TRAINED, LAST) if compact(as_of) in result["window"]["users"]
    ]
    assert {row["compared"] for row in result["features"] if row["world"] != BY_DAY} == {7 * sum(horizons)}
    assert {row["compared"] for row in result["features"] if row["world"] == BY_DAY} == {7 * horizons[-1]}


def test_no_temporary_file_is_left(result, shop):
    run = run_of(shop)
    assert not list(run.folder.glob("data/worlds-*"))
    written = {name for name, _ in run.outputs.found}
    assert {"events", "sales", "image_tags"} <= written
    assert not written & {"user_histories", "fitted_recommenders", "sale_themes"}
    assert not (Path(run.settings.folder) / "themes").exists()


def test_result_is_data_and_a_table(result):
    assert json.loads(json.dumps(result)) == result
    console = TextConsole(file=StringIO(), width=140)
    print_leaks(result, console)
    text = console.file.getvalue()
    assert all(name in text for name in FEATURES)
    assert "became" not in text


def test_shop_without_events_before_and_after_an_instant_is_refused(spark, tmp_path):
    shop = SmallShop(tmp_path).write([sale("a", -300, 60)], [event("u", "a", -1), event("v", "a", -290)])
    with pytest.raises(EmptyInputError, match="0 users have events both before and after a checked instant"):
        check_leaks(run_of(shop))


def test_command_prints_and_writes_what_was_found_and_says_nothing_more_where_all_is_well(
    run, result, shop, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "jobs.backtest.check_leaks.check_leaks", lambda run, seed: asked.append((run.days, seed)) or result
    )
    arguments = ["--from", "2026-02-28", "--to", "2026-02-28", "--seed", 5, "--json", tmp_path / "found.json"]
    status, out, err = run("backtest", "--check-leaks", *arguments, "--conf", shop.configuration())
    assert (status, err, asked) == (0, "", [([LAST], 5)])
    assert "differ: deleted" in out
    assert json.loads((tmp_path / "found.json").read_text()) == result


# A planted leak.


def plant(folder: Path, path: str, line: str, leaking: str) -> Path:
    """Copy the code with one line of it broken, and return the path of the broken file."""
    for package in ("jobs", "recsys"):
        shutil.copytree(ROOT / package, folder / package)
    text = (folder / path).read_text()
    assert text.count(line) == 1
    (folder / path).write_text(text.replace(line, leaking))
    return folder / path


def test_planted_leak_is_found_and_its_features_are_named(spark, tmp_path, run, monkeypatch):
    """Spark starts workers of their own for another environment, which import the broken copy."""
    broken = plant(tmp_path / "code", "recsys/shop/histories.py", " and recorded_at[event] < until", "")
    monkeypatch.setitem(spark.sparkContext.environment, "PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setitem(spark.sparkContext.environment, "PYTHONSAFEPATH", "1")  # not from the current folder
    monkeypatch.setattr(Block, "as_of", runpy.run_path(str(broken), run_name=Block.__module__)["Block"].as_of)
    shop = SmallShop(tmp_path / "shop").write(SALES, EVENTS)
    conf = shop.configuration(meta_model={"days": 1})
    result = check_leaks(window(load_settings(conf), LAST, LAST), instants=1, users=20)
    leaks = {row["feature"] for row in result["features"] if row["moved"]}
    assert {"popularity", "collaborative", "content_text", "own_visits", "activity"} <= leaks
    assert leaks.isdisjoint({"hours_open", "hours_left"})

    monkeypatch.setattr("jobs.backtest.check_leaks.check_leaks", lambda run, seed: result)
    status, out, err = run("backtest", "--check-leaks", "--from", "2026-02-28", "--to", "2026-02-28", "--conf", conf)
    assert (status, err.count("error: "), "Traceback" in err) == (1, 1, False)
    assert all(f"{name} where that data is changed" in err for name in leaks)
    assert all(f"{name}, changed: as of" in " ".join(out.split()) for name in leaks)


def test_planted_leak_of_a_moment_is_found_where_only_the_moments_are_altered(spark, tmp_path, monkeypatch):
    leak = "known_from = np.full(len(events), as_of)"
    line = "known_from = np.maximum(occurred_at, block.recorded_at)[events]"
    plant(tmp_path / "code", "recsys/recommenders/popularity.py", line, leak)
    monkeypatch.setitem(spark.sparkContext.environment, "PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setitem(spark.sparkContext.environment, "PYTHONSAFEPATH", "1")
    shop = SmallShop(tmp_path / "shop").write(SALES, EVENTS)
    conf = shop.configuration(meta_model={"days": 1})
    result = check_leaks(window(load_settings(conf), LAST, LAST), instants=1, users=20)
    moved = {(row["feature"], row["world"]) for row in result["features"] if row["moved"]}
    assert moved == {(name, BY_DAY) for name in ("popularity", "popularity_day", "popularity_month")}
