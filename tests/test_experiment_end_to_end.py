"""An experiment from its file to a verdict, with two days of simulated users of a small demo shop."""

import json
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import yaml

from cli.commands.demo import build_demo_shop
from cli.commands.experiment_demo import simulate
from jobs.engine.nights import night
from jobs.engine.run import with_inputs
from jobs.night.build_training_set import BUILD_TRAINING_SET
from recsys.config.settings import Settings, load_settings
from recsys.experiments.files import load_experiments
from recsys.instants import DAY, from_micros, to_micros
from recsys.tables.parts import read_arrow
from tests.helpers.paths import ROOT
from tests.helpers.small_shop import MLFLOW_WARNS
from tests.helpers.yaml_text import yaml_text

pytestmark = MLFLOW_WARNS

KEY = "personal-page"
DAYS = 2


class Simulated:
    """The shop after the days of the experiment, and its configuration."""

    def __init__(self, conf: Path, end: int):
        self.conf = conf
        self.settings = load_settings(conf)
        self.end = end

    @property
    def file(self) -> Path:
        return Path(str(self.settings.serving.experiments)) / "home.yaml"

    @property
    def as_of(self) -> str:
        return f"{from_micros(self.end):%Y-%m-%d}"


@pytest.fixture(scope="module")
def simulated(spark, tmp_path_factory) -> Simulated:
    folder = tmp_path_factory.mktemp("demo")
    shop = load_settings(_shop(folder))
    build_demo_shop(shop)
    conf = _experiment(folder, shop)
    return Simulated(conf, simulate(shop, load_settings(conf)))


def _shop(folder: Path) -> Path:
    names = ("sales", "events", "users", "sale_images")
    smaller = {
        "extends": str(ROOT / "conf/demo.yaml"),
        "folder": str(folder / "shop"),
        "source": {
            "sql": str(ROOT / "conf/sources/demo"),
            "raw": {f"raw_{name}": {"path": str(folder / f"shop/raw/{name}.parquet")} for name in names},
        },
        "meta_model": {"days": 3},
        "rankings": {"policies": ["meta"], "segments": {"attributes": []}},
        "images": {"root": str(folder / "shop"), "themes": {"themes": 8}},
        "demo_shop": {"users": 250, "days": 30, "photos": 60},
    }
    (folder / "shop.yaml").write_text(yaml_text(smaller))
    return folder / "shop.yaml"


def _experiment(folder: Path, shop: Settings) -> Path:
    start = shop.as_of - timedelta(days=DAYS)
    written = yaml.safe_load((ROOT / "conf/demo_experiments/home.yaml").read_text())
    written["experiments"][0] |= {"start": start, "end": shop.as_of - timedelta(days=1)}
    (folder / "experiments").mkdir()
    (folder / "experiments/home.yaml").write_text(yaml_text(written))
    changes = {
        "extends": str(folder / "shop.yaml"),
        "folder": str(folder / "experiment"),
        "as_of": start,
        "source": {"raw": {"raw_events": {"path": str(folder / "experiment/raw/events.parquet")}}},
        "serving": {"experiments": str(folder / "experiments")},
    }
    (folder / "experiment.yaml").write_text(yaml_text(changes))
    return folder / "experiment.yaml"


@pytest.fixture
def recsys(simulated, run) -> Callable[..., tuple[int, str]]:
    """Run `recsys experiment …` for the shop; return the exit status and the output."""

    def run_experiment(*arguments: object) -> tuple[int, str]:
        status, out, err = run("experiment", *arguments, "--conf", simulated.conf)
        return status, " ".join((out + err).split())

    return run_experiment


def exposures(simulated: Simulated) -> list[dict]:
    folder = Path(simulated.settings.folder) / "exposures_compacted"
    rows = ds.dataset(folder, format="parquet").to_table().to_pylist()
    return [{**row, "exposed_at": row["exposed_at"].replace(tzinfo=UTC)} for row in rows]


def test_analyze_prints_the_verdict_and_its_report_counts_exposures_and_purchases(recsys, simulated, tmp_path):
    status, said = recsys("analyze", KEY, "--as-of", simulated.as_of, "--out", tmp_path)
    assert (status, "purchases_per_user" in said) == (0, True)
    assert f"Report: {tmp_path}/report.html" in said
    assert "<html" in (tmp_path / "report.html").read_text()
    result = json.loads((tmp_path / "result.json").read_text())
    start = to_micros(load_experiments(simulated.file).experiments[0].start)
    pages = [page for page in exposures(simulated) if page["experiment"] == KEY]
    assert min(to_micros(page["exposed_at"]) for page in pages) >= start
    sides: dict[str, str] = {}
    for page in sorted(pages, key=lambda page: page["exposed_at"]):
        sides.setdefault(page["user_id"], page["variant"])
    health = result["health"]
    assert health["users"] == {side: list(sides.values()).count(side) for side in ("popular", "personal")}
    assert min(health["users"].values()) > 3
    assert (health["jumpers"], health["mismatches"], health["recomputed"]) == (0, 0, len(sides))
    by_side = {side: [page for page in pages if page["variant"] == side] for side in health["users"]}
    assert {side: sum(counts.values()) for side, counts in health["pages"].items()} == {
        side: len(shown) for side, shown in by_side.items()
    }
    primary = result["comparisons"][0]
    bought = ds.dataset(Path(simulated.settings.folder) / "recorded_events_compacted", format="parquet").to_table()
    first_page = {
        page["user_id"]: page["exposed_at"] for page in sorted(pages, key=lambda page: -page["exposed_at"].timestamp())
    }
    counted = dict.fromkeys(health["users"], 0)
    for row in bought.to_pylist():
        first = first_page.get(row["user_id"])
        if (
            row["kind"] == "purchase"
            and first is not None
            and first <= row["occurred_at"].replace(tzinfo=UTC) < first + timedelta(days=1)
        ):
            counted[sides[row["user_id"]]] += 1
    assert sum(counted.values()) > 0
    assert primary["control_value"] == pytest.approx(counted["popular"] / health["users"]["popular"])
    assert primary["variant_value"] == pytest.approx(counted["personal"] / health["users"]["personal"])


def test_each_variant_was_shown_its_policy_or_reports_a_fallback(simulated):
    pages = [page for page in exposures(simulated) if page["experiment"] == KEY]
    assert {(page["variant"], page["policy"], page["reason"]) for page in pages} <= {
        ("popular", "popularity", "assigned"),
        ("personal", "meta", "assigned"),
        ("personal", "popularity", "fallback"),
    }
    assert all(page["overlap_at_10"] is not None for page in pages)
    outside = [page for page in exposures(simulated) if page["experiment"] is None]
    assert {page["policy"] for page in outside} <= {"meta", "popularity"}


def test_training_after_the_experiment_uses_the_positions_of_shown_sales(simulated):
    run = night(simulated.settings, simulated.end)
    run.do(with_inputs(BUILD_TRAINING_SET))
    best: dict[tuple[int, str, str], int] = {}
    for page in exposures(simulated):
        as_of = to_micros(page["exposed_at"]) // DAY * DAY
        for place, sale_id in enumerate(page["sale_ids"], start=1):
            key = as_of, page["user_id"], sale_id
            best[key] = min(place, best.get(key, place))
    examples = read_arrow(run.outputs / "training_examples").to_pylist()
    keys = {(row["as_of"], row["user_id"], row["sale_id"]): row for row in examples}
    assert {key: row["position"] for key, row in keys.items() if row["position"] > 0} == {
        key: place for key, place in best.items() if key in keys
    }
    shown = [row for row in examples if row["position"] > 0]
    assert sum(row["bought"] for row in shown) > 5
    assert sum(not row["bought"] for row in shown) > 5 * sum(row["bought"] for row in shown)


def test_validate_accepts_the_running_file_and_refuses_an_invalid_one(recsys, simulated, tmp_path):
    status, said = recsys("validate")
    assert (status, "PASS" in said) == (0, True)
    spoilt = tmp_path / "home.yaml"
    spoilt.write_text(simulated.file.read_text().replace("policy: popularity", "policy: nobody_knows"))
    status, said = recsys("validate", "--file", spoilt)
    assert (status, "nobody_knows" in said) == (1, True)


def test_diff_counts_users_who_would_leave_the_experiment(recsys, simulated, tmp_path):
    wider = tmp_path / "home.yaml"
    content = yaml.safe_load(simulated.file.read_text())
    content["experiments"][0] |= {"coverage": 0.5}
    wider.write_text(yaml_text(content))
    during = f"{content['experiments'][0]['start']:%Y-%m-%d}"
    counts = tmp_path / "diff.json"
    status, _ = recsys("diff", wider, "--as-of", during, "--json", counts)
    [found] = json.loads(counts.read_text())["experiments"]
    assert status == 0
    assert 0 < found["after"] < found["before"] == found["after"] + found["left"]
    assert (found["entered"], found["moved"]) == (0, 0)


def test_assign_agrees_with_the_log(recsys, simulated):
    page = next(page for page in exposures(simulated) if page["experiment"] == KEY)
    _, said = recsys("assign", page["user_id"], "--as-of", f"{page['exposed_at']:%Y-%m-%d}")
    assert f"{KEY}, phase 1: {page['variant']} (assigned, bucket {page['bucket']})" in said


def test_plan_and_simulation_use_the_shops_own_past(recsys, tmp_path):
    plans, alarms = tmp_path / "plan.json", tmp_path / "aa.json"
    assert recsys("plan", KEY, "--effect", "0.1", "--effect", "0.2", "--days", "7", "--json", plans)[0] == 0
    small, large = json.loads(plans.read_text())["purchases_per_user"]
    assert small["users"] == pytest.approx(4 * large["users"], rel=0.01)  # users grow with 1 / effect squared
    assert recsys("simulate-aa", KEY, "--splits", "20", "--days", "5", "--json", alarms)[0] == 0
    result = json.loads(alarms.read_text())
    assert result["splits"] == 20
    assert result["users"] > 50
    assert {metric["metric"] for metric in result["metrics"]} >= {"purchases_per_user", "revenue_per_user"}


def test_evaluation_of_pages_without_exploration_is_refused(recsys, simulated):
    status, said = recsys("evaluate", KEY, "--policy", "meta", "--as-of", simulated.as_of)
    assert status == 1
    assert "logged no propensities: only a variant with 'exploration' draws pages at random" in said


def test_unknown_experiment_is_an_error_that_lists_the_existing_ones(recsys):
    status, said = recsys("analyze", "nothing")
    assert (status, "must be one of the file's: personal-page" in said) == (1, True)
