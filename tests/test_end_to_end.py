"""From an empty folder to a home page over gRPC: the demo shop, its night, the service."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.commands.demo import build_demo_shop
from jobs.engine.nights import night
from jobs.night.nightly import nightly
from recsys.config.settings import Settings, load_settings
from recsys.instants import to_micros
from recsys.recommenders import OVER_PHOTOS
from serving.client import top_sales
from serving.process.server import Server, start_server
from tests.helpers.notebooks import run_notebook
from tests.helpers.paths import ROOT
from tests.helpers.small_shop import MLFLOW_WARNS, contents
from tests.helpers.waiting import PATIENCE
from tests.helpers.yaml_text import yaml_text

pytestmark = MLFLOW_WARNS


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The demo's configuration, smaller and in another folder."""
    folder = tmp_path_factory.mktemp("demo")
    names = ("sales", "events", "users", "sale_images")
    raw = {f"raw_{name}": {"path": str(folder / f"raw/{name}.parquet")} for name in names}
    smaller = {
        "extends": str(ROOT / "conf/demo.yaml"),
        "folder": str(folder),
        "source": {"sql": str(ROOT / "conf/sources/demo"), "raw": raw},
        "meta_model": {"days": 12},
        "serving": {"port": 0, "admin_port": None, "metrics_port": None, "workers": 1},
        "images": {"root": str(folder), "themes": {"themes": 8}},
        "demo_shop": {"users": 250, "days": 30, "photos": 60},
    }
    (folder / "demo.yaml").write_text(yaml_text(smaller))
    return load_settings(folder / "demo.yaml")


@pytest.fixture(scope="module")
def snapshot(spark, settings: Settings) -> str:
    """The name of the night's snapshot."""
    build_demo_shop(settings)
    return nightly(night(settings))


@pytest.fixture
def server(settings: Settings, snapshot: str) -> Iterator[Server]:
    with start_server(settings.serving, Path(settings.folder)) as server:
        yield server


def test_home_page_shows_ten_open_sales_ranked_for_the_user(server, snapshot, settings):
    page = top_sales(server.target, "u-00001", timeout=PATIENCE)
    assert page.snapshot == snapshot
    assert (page.policy, page.fallback_reason) == ("meta", "")
    assert len({sale.sale_id for sale in page.sales}) == 10
    now = page.answer_time.ToMicroseconds()
    assert 0 <= now - to_micros(settings.as_of) < 24 * 3_600_000_000  # the demo's clock replays the day
    for sale in page.sales:
        assert sale.open_time.ToMicroseconds() <= now < sale.close_time.ToMicroseconds()
        assert 0 < sale.probability < 1
        assert sale.title
        assert sale.reason_text
        assert (Path(settings.folder) / sale.image_uri).is_file()
    scores = [sale.score for sale in page.sales]
    assert scores == sorted(scores, reverse=True)


def test_users_get_different_pages_and_an_unknown_user_gets_the_popular_sales(server):
    pages = {
        user: [sale.sale_id for sale in top_sales(server.target, user, timeout=PATIENCE).sales]
        for user in ("u-00001", "u-00002", "u-00003", "a stranger")
    }
    assert len({tuple(sales) for sales in pages.values()}) > 2
    popular = top_sales(server.target, "u-00001", policy="popularity", timeout=PATIENCE)
    assert pages["a stranger"] == [sale.sale_id for sale in popular.sales]
    assert top_sales(server.target, "a stranger", timeout=PATIENCE).fallback_reason


def test_user_sees_other_photos_than_the_covers_and_reasons_in_words_of_themes(server, settings):
    pages = [top_sales(server.target, f"u-{number:05d}", n=30, timeout=PATIENCE).sales for number in range(1, 60)]
    shown = {(sale.sale_id, sale.image_uri) for page in pages for sale in page}
    assert len(shown) > len({sale_id for sale_id, _ in shown})
    reasons = {sale.reason_text for page in pages for sale in page if sale.reason in OVER_PHOTOS}
    assert any(reason.startswith("Because you looked at ") for reason in reasons)


def test_every_policy_of_the_configuration_is_served(server, settings):
    for policy in (*settings.rankings.policies, "popularity"):
        assert top_sales(server.target, "u-00001", policy=policy, timeout=PATIENCE).policy == policy


def test_notebook_that_judges_a_model_runs_and_so_does_the_guide(settings, snapshot, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    conf = str(Path(settings.folder) / "demo.yaml")
    names = run_notebook(
        ROOT / "docs/judge_a_model.ipynb",
        {"conf/demo.yaml": conf, "2026-02-26": "2026-02-28"},  # one day
    )
    assert names["shop"].top("u-00001").response.snapshot == snapshot
    assert {"meta - peer_ALS", "meta - meta_without_images"} <= set(names["result"].differences.index)
    assert set(names["first"].index) == {"meta", "peer_ALS", "peer_popularity"}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/notebook.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    code = blocks[2].replace("result.pages", "judged.pages")
    exec(code, {"judged": names["result"]})
    exec(blocks[0].replace("conf/demo.yaml", conf), {})


def test_repeated_night_runs_no_step_and_publishes_the_same_snapshot(settings, snapshot, caplog):
    before = contents(settings.snapshots_folder)
    with caplog.at_level(logging.INFO):
        assert nightly(night(settings)) == snapshot
    assert contents(settings.snapshots_folder) == before
    steps = [line.split() for line in caplog.messages if line.startswith("  ")]
    # Pages served since are compacted; the SQL of the night would select recorded events, but there are none.
    assert [step[1] for step in steps if not step[0].endswith(":")] == ["unchanged"] * 15


def test_existing_demo_shop_is_not_rebuilt(settings, snapshot, capsys):
    before = contents(Path(settings.folder) / "raw")
    build_demo_shop(settings)
    assert contents(Path(settings.folder) / "raw") == before
    assert "unchanged" in capsys.readouterr().out.replace("\n", " ")
