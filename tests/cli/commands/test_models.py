"""`recsys models …`, from the first version to a rollback."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.registry import tracking
from jobs.registry.promote_model import appoint
from recsys.instants import to_micros
from recsys.meta_model import LogisticModel
from recsys.pipeline.night_values import NightValues, write_night_values
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop

pytestmark = MLFLOW_WARNS

MODELS = [
    LogisticModel(["popularity"], [0.5], [2.0], [0.25], -4.5),
    LogisticModel(["popularity", "own_visits"], [0.5, 1.0], [2.0, 1.0], [0.5, -1 / 3], -4.0),
]


@pytest.fixture
def run(run):
    """Run the command; return what it prints with all white space collapsed, whatever the width of the terminal."""

    def in_one_line(*arguments: object) -> tuple[int, str, str]:
        status, out, err = run(*arguments)
        return status, " ".join(out.split()), " ".join(err.split())

    return in_one_line


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> SmallShop:
    """A shop whose nights trained two versions; its tests depend on each other and run in order."""
    shop = SmallShop(tmp_path_factory.mktemp("versions"))
    for number, model in enumerate(MODELS):
        settings = shop.settings(meta_model={"days": 3 + number})
        as_of = AS_OF + timedelta(days=7 * number)
        lineage = {tracking.AS_OF: as_of.isoformat(), tracking.MADE_BY: "nightly"}
        version = tracking.register(settings, model, {"auc": 0.7 + number / 10}, 120, f"night {number}", lineage)
        appoint(settings, version, to_micros(as_of), as_of)
    return shop


@pytest.fixture
def conf(shop) -> Path:
    return shop.configuration()


def test_list_shows_versions_with_aliases_and_metrics(run, conf):
    status, out, _ = run("models", "list", "--conf", conf)
    assert status == 0
    assert "2 challenger 2026-03-08 00:00 nightly 0.8000 120" in out
    assert "1 champion 2026-03-01 00:00 nightly 0.7000 120" in out


def test_show_takes_an_alias_and_shows_features_settings_and_coefficients(run, conf):
    status, out, _ = run("models", "show", "challenger", "--conf", conf)
    assert status == 0
    for part in ("version 2", "features popularity, own_visits", "meta_model.days 4", "own_visits -0.333"):
        assert part in out


def test_compare_shows_the_differences_of_two_versions(run, conf, tmp_path):
    file = tmp_path / "compared.json"
    status, out, _ = run("models", "compare", 2, "champion", "--conf", conf, "--json", file)
    assert status == 0
    for part in (
        "auc 0.8000 0.7000",
        "coefficient of own_visits -0.333 –",
        "meta_model.days 4 3",
        "No backtest has measured both.",
    ):
        assert part in out
    result = json.loads(file.read_text())
    assert (result["versions"], result["settings"]) == (["2", "1"], [["meta_model.days", 4, 3]])


def test_promotion_without_evidence_is_refused_with_the_command_that_gives_it(run, conf):
    status, _, err = run("models", "promote", "challenger", "--conf", conf)
    assert status == 1
    assert f"run 'recsys backtest --from 2026-03-08 --to 2026-03-14 --versions 1,2 --conf {conf}'" in err


def test_forced_promotion_needs_a_reason_and_is_in_the_log(run, conf):
    status, _, err = run("models", "promote", 2, "--force", "--conf", conf)
    assert (status, "--why == '', must give the reason" in err) == (1, True)
    status, out, _ = run("models", "promote", 2, "--force", "--why", "new [own] visits", "--by", "ann", "--conf", conf)
    assert status == 0
    assert "Version 2 is the champion, instead of version 1. No backtest has measured both." in out
    _, out, _ = run("models", "log", "--conf", conf)
    assert "ann promote, forced 1 2 new [own] visits –" in out
    assert "2026-03-01 00:00 nightly first – 1 the first version" in out


def test_rollback_names_the_version_that_ranks_now(run, conf):
    status, out, _ = run("models", "rollback", "--why", "worse", "--conf", conf)
    assert status == 0
    assert "Version 1 is the champion again, instead of version 2." in out
    status, _, err = run("models", "rollback", "--conf", conf)
    assert (status, "version 1 is the champion and the log knows no earlier one" in err) == (1, True)


def test_live_names_the_champion_at_an_instant(run, conf):
    _, out, _ = run("models", "live", "--at", "2026-03-02", "--conf", conf)
    assert out == "Version 1 of home_ranker, since 2026-03-01 00:00 UTC by nightly: the first version"
    _, out, _ = run("models", "live", "--conf", conf)
    assert out.startswith("Version 1 of home_ranker")
    status, _, err = run("models", "live", "--at", "2026-02-28", "--conf", conf)
    assert (status, "--at 2026-02-28 00:00 UTC, must be at or after the first change" in err) == (1, True)


def test_drift_shows_the_nights_in_order(run, conf, shop, tmp_path):
    _, out, _ = run("models", "drift", "--conf", conf)
    assert "No night has been checked yet" in out
    values = {"version": "1", "rejected_share": 0.01, "sales_covered": 0.5, "users": 4000, "purchases": 9, "pages": 8}
    for day, further in enumerate(({"ndcg": 0.25, "drift": {"price": -0.5}}, {"problems": ("broken",)})):
        night = NightValues(as_of=AS_OF + timedelta(days=day), calibration=1.25, **values, **further)
        write_night_values(night, Path(shop.settings().folder))
    file = tmp_path / "drift.json"
    _, out, _ = run("models", "drift", "--conf", conf, "--json", file)
    assert "2026-03-01 00:00 1 1.00% 50% 4,000 0.2500 1.25 -0.50 price passed" in out
    assert "2026-03-02 00:00 1 1.00% 50% 4,000 – 1.25 – not published" in out
    assert len(json.loads(file.read_text())) == 2
    _, out, _ = run("models", "drift", "--nights", 1, "--conf", conf)
    assert "2026-03-01" not in out


def test_unknown_version_is_an_error_of_one_line(run, conf):
    for command in (["show", 9], ["compare", 1, 9], ["promote", 9]):
        status, _, err = run("models", *command, "--conf", conf)
        assert (status, "model 'home_ranker' has no version '9'" in err) == (1, True)
