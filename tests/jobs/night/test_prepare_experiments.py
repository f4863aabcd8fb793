"""Preparation of a night for experiments: pinned versions, and the policies that it must score."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.engine.nights import night
from jobs.engine.run import Run
from jobs.night.nightly import nightly
from jobs.night.prepare_experiments import EXPERIMENTS, other_versions, prepare_experiments, ranking_settings
from jobs.registry import tracking
from recsys.config.settings import Settings
from recsys.errors import BusyError
from recsys.experiments.model_pins import PINS
from recsys.meta_model import LogisticModel, MetaModel, meta_model_from_json
from recsys.ranking.ranker_files import RANKER, read_ranker
from recsys.registry.versions import CHAMPION
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot
from recsys.storage.local import held
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop
from tests.helpers.yaml_text import yaml_text

pytestmark = MLFLOW_WARNS

FEATURES = ["popularity", "own_visits"]
MODEL = LogisticModel(FEATURES, [0.5, 1.0], [2.0, 1.0], [0.25, -1 / 3], -4.5)
OTHER = LogisticModel(FEATURES, [0.0, 0.0], [1.0, 1.0], [1.0, 2.0], 0.0)


def experiment(key: str, *sides: dict[str, Any], **changes: object) -> dict[str, Any]:
    variants = [{"key": f"side-{number}", "weight": 1 / len(sides), **side} for number, side in enumerate(sides)]
    metric = {"name": "purchases", "type": "mean", "column": "purchases"}
    return {
        "key": key,
        "status": "running",
        "start": AS_OF,
        "end": AS_OF + timedelta(days=7),
        "variants": variants,
        "analysis": {"primary": [metric]},
        **changes,
    }


class Prepared:
    """A shop with registered models and an experiment file, whose nights are prepared without Spark."""

    def __init__(self, folder: Path):
        self.file = folder / "conf" / "home.yaml"
        self.settings = SmallShop(folder).settings(serving={"experiments": str(self.file.parent)})

    def write(self, *experiments: dict[str, Any], **changes: object) -> None:
        content = {"schema_version": 1, "default": {"policy": "meta"}, "experiments": list(experiments), **changes}
        self.file.write_text(yaml_text(content))

    def register(self, model: MetaModel, fingerprint: str) -> str:
        version = tracking.register(self.settings, model, {}, 1, fingerprint)
        self.point(CHAMPION, version)
        return version

    def point(self, alias: str, version: str) -> None:
        tracking.point(self.settings, alias, version)

    def prepare(self, version: str = "2", model: MetaModel = MODEL) -> Run:
        run = night(self.settings)
        folder = run.folder / "meta_model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(model.to_json())
        (folder / "version").write_text(version)
        out = run.folder / "out"
        out.mkdir()
        prepare_experiments(run, out)
        (out / EXPERIMENTS).rename(run.folder / EXPERIMENTS)
        out.rmdir()
        return run

    def again(self, version: str = "2") -> Run:
        folder = night(self.settings).folder / EXPERIMENTS
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        return self.prepare(version)


@pytest.fixture(scope="module")
def registered(tmp_path_factory) -> Path:
    """A shop with two versions; creating its database takes seconds, so tests change copies of it."""
    folder = tmp_path_factory.mktemp("registered")
    made = Prepared(folder)
    assert [made.register(OTHER, "one"), made.register(MODEL, "two")] == ["1", "2"]
    made.point("challenger", "1")
    made.file.parent.mkdir()
    return folder


@pytest.fixture
def prepared(registered, tmp_path) -> Prepared:
    shutil.copytree(registered, tmp_path / "shop")
    return Prepared(tmp_path / "shop")


def pins_of(run: Run) -> dict[str, str]:
    return json.loads((run.folder / EXPERIMENTS / PINS).read_text())


def test_pins_are_locked_against_other_nights_until_they_are_written(prepared, monkeypatch):
    prepared.write(experiment("themes", {"policy": "meta", "model": "champion"}, {"policy": "popularity"}))
    version_of, looked_up = tracking.version_of, []

    def looking(settings: Settings, alias: str) -> str:
        with pytest.raises(BusyError), held(Path(settings.folder) / EXPERIMENTS, wait=False):
            pass
        looked_up.append(alias)
        return version_of(settings, alias)

    monkeypatch.setattr(tracking, "version_of", looking)
    prepared.prepare()
    assert looked_up == ["champion"]


def test_alias_is_pinned_when_the_phase_begins_and_stays_when_it_moves(prepared, caplog):
    prepared.write(
        experiment("themes", {"policy": "meta", "model": "champion"}, {"policy": "meta", "model": "challenger"})
    )
    pinned = {"home/themes/1/side-0": "2", "home/themes/1/side-1": "1"}
    assert pins_of(prepared.prepare()) == pinned
    prepared.point("challenger", "2")
    assert pins_of(prepared.again()) == pinned
    assert "home/themes/1/side-1 stays with version 1; alias challenger is version 2 now" in " ".join(
        caplog.text.split()
    )


def test_next_phase_gets_a_new_pin(prepared):
    sides = ({"policy": "meta", "model": "champion"}, {"policy": "meta", "model": "challenger"})
    prepared.write(experiment("themes", *sides))
    prepared.prepare()
    prepared.point("challenger", "2")
    prepared.write(experiment("themes", *sides, phase=2))
    assert pins_of(prepared.again())["home/themes/2/side-1"] == "2"


def test_night_scores_only_policies_that_running_experiments_need(prepared):
    later = {"start": AS_OF + timedelta(days=3)}
    prepared.write(
        experiment("themes", {"policy": "meta", "model": "champion"}, {"policy": "meta", "model": "challenger"}),
        experiment("baseline", {"policy": "popularity"}, {"policy": "own_visits"}),
        experiment("drafted", {"policy": "meta"}, {"policy": "meta", "model": "1"}, status="draft"),
        experiment("not-yet", {"policy": "meta"}, {"policy": "meta", "model": "1"}, **later),
    )
    run = prepared.prepare()
    assert ranking_settings(run).policies == ("meta", "meta@1", "own_visits")
    assert other_versions(run) == {"meta@1": OTHER}


def test_version_that_the_night_itself_trained_is_scored_once(prepared):
    prepared.write(experiment("themes", {"policy": "meta", "model": "champion"}, {"policy": "popularity"}))
    run = prepared.prepare(version="2")
    assert (ranking_settings(run).policies, other_versions(run)) == (("meta",), {})
    run = prepared.again(version="3")  # a later night trained another one: the pinned one is scored beside it
    assert (ranking_settings(run).policies, other_versions(run)) == (("meta", "meta@2"), {"meta@2": MODEL})


@pytest.mark.parametrize(
    ("side", "says"),
    [
        ({"policy": "meta", "model": "chalenger"}, "has no alias 'chalenger'"),
        ({"policy": "meta", "model": "9"}, "has no version '9'"),
        ({"policy": "colaborative"}, "no such recommender, must be one of popularity, own_visits"),
    ],
)
def test_what_cannot_be_scored_is_named_and_the_night_goes_on(prepared, caplog, side, says):
    prepared.write(experiment("wrong", {"policy": "popularity"}, side))
    assert ranking_settings(prepared.prepare()).policies == ("meta",)
    assert says in " ".join(caplog.text.split())


def test_version_of_other_features_is_left_out(prepared, caplog):
    foreign = LogisticModel(["popularity"], [0.0], [1.0], [1.0], 0.0)
    version = prepared.register(foreign, "three")
    prepared.write(experiment("old", {"policy": "popularity"}, {"policy": "meta", "model": version}))
    assert ranking_settings(prepared.prepare()).policies == ("meta",)
    assert "policy meta@3 of an experiment is left out" in " ".join(caplog.text.split())


def test_broken_file_is_named_and_the_night_goes_on(prepared, caplog):
    prepared.file.write_text("experiments: [")
    assert ranking_settings(prepared.prepare()).policies == ("meta",)
    assert "not readable as YAML" in " ".join(caplog.text.split())


def test_snapshot_ranks_by_the_pinned_version_as_that_model_does(same_source, tmp_path):
    conf = tmp_path / "conf"
    conf.mkdir()
    settings = same_source.settings(serving={"experiments": str(conf)})
    features = meta_model_from_json((night(settings).outputs / "meta_model" / "model.json").read_text()).features
    backwards = LogisticModel(features, [0.0] * len(features), [1.0] * len(features), [-1.0] * len(features), 0.0)
    assert tracking.register(settings, backwards, {}, 1, "backwards") == "2"
    sides = ({"policy": "meta", "model": "champion"}, {"policy": "meta", "model": "2"})
    content = {"schema_version": 1, "default": {"policy": "meta"}, "experiments": [experiment("backwards", *sides)]}
    (conf / "home.yaml").write_text(yaml_text(content))
    nightly(night(settings))
    snapshot = Snapshot.open(settings.snapshots_folder / snapshot_store.current(settings.snapshots_folder))
    assert snapshot.policies == ("meta", "meta@2")
    assert json.loads(snapshot.file(PINS).read_text()) == {
        "home/backwards/1/side-0": "1",
        "home/backwards/1/side-1": "2",
    }
    ranker, _ = read_ranker(snapshot.file(RANKER))
    assert ranker.other_versions == {"meta@2": backwards}
    user = snapshot.users.sample(5)[2]
    own, other = (snapshot.ranking(policy, user) for policy in ("meta", "meta@2"))
    assert not np.array_equal(own.sales, other.sales)
