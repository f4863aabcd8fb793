"""The DAGs of deploy/airflow: their commands exist, their steps are the night's, and Airflow runs them.

Airflow has many pins of its own, so it is not among the project's packages: RECSYS_AIRFLOW_PYTHON names an interpreter
that has it, for the tests that run a DAG.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from cli.main import app
from jobs.night.nightly import steps_of_night
from tests.helpers.paths import ROOT
from tests.helpers.posted import collecting
from tests.helpers.small_shop import SMALL_SPARK, SmallShop, random_rows

DAGS = ROOT / "deploy" / "airflow"
FILE = DAGS / "recsys_nights.py"
AIRFLOW = os.environ.get("RECSYS_AIRFLOW_PYTHON")
needs_airflow = pytest.mark.skipif(not AIRFLOW, reason="RECSYS_AIRFLOW_PYTHON names no interpreter with apache-airflow")


class Dag:
    """Stands for Airflow's DAG, and keeps the tasks that are made within it."""

    all: dict[str, "Dag"] = {}
    entered: "Dag"

    def __init__(self, name: str, **options: Any) -> None:
        self.options, self.tasks = options, dict[str, dict[str, Any]]()
        self.order: list[str] = []
        self.all[name] = self

    def __enter__(self) -> "Dag":
        Dag.entered = self
        return self

    def __exit__(self, *_: object) -> None:
        del Dag.entered


def bash(task_id: str, **options: Any) -> str:
    Dag.entered.tasks[task_id] = Dag.entered.options["default_args"] | options
    return task_id


def chain(*tasks: str) -> None:
    Dag.entered.order = list(tasks)


@pytest.fixture
def load(monkeypatch) -> Callable[[], dict[str, Any]]:
    """Return a function that runs the file of the DAGs without Airflow and returns its names; DAGs are in `Dag.all`."""
    for name in ("airflow", "airflow.providers", "airflow.providers.standard", "airflow.providers.standard.operators"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sdk, operators = ModuleType("airflow.sdk"), ModuleType("airflow.providers.standard.operators.bash")
    sdk.DAG, sdk.Param, sdk.chain = Dag, lambda default, **rules: (default, rules), chain
    operators.BashOperator = bash
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    monkeypatch.setitem(sys.modules, operators.__name__, operators)
    monkeypatch.setattr(Dag, "all", {})
    return lambda: runpy.run_path(str(FILE))


def commands() -> list[list[str]]:
    """Return the words of each task's command, with values in the place of templates."""
    lines = [task["bash_command"] for each in Dag.all.values() for task in each.tasks.values()]
    return [shlex.split(re.sub(r"\{\{.*?\}\}", "2026-03-01", line)) for line in lines]


def test_every_command_of_recsys_parses(load):
    load()
    parsed = []
    for name, *words in commands():
        if name == "recsys":
            group = typer.main.get_command(app)
            while hasattr(group, "commands"):
                parsed.append(words[0])
                group, words = group.commands[words[0]], words[1:]
            context = group.make_context(parsed[-1], words)
            assert context.params["conf"] == Path("/etc/recsys/shop.yaml")
    assert {"nightly", "check", "backfill", "exposures"} < set(parsed)


def test_steps_are_those_of_the_night_in_its_order(load):
    names = load()["STEPS"]
    order = steps_of_night(trains=True)
    without_job = {"take_champion"}  # runs before prepare_experiments, of which it is an input
    assert list(names) == [each.name for each in order[:-1] if each.name not in without_job]
    by_name = {each.name: each for each in order}
    assert {each.name for each in by_name["prepare_experiments"].inputs} == without_job
    dag = Dag.all["recsys_night_by_step"]
    assert dag.order == ["exposures", *names, "nightly", "check_published"]
    assert set(dag.order) == set(dag.tasks)
    others = [task.get("trigger_rule") for name, task in dag.tasks.items() if name != "nightly"]
    assert (dag.tasks["nightly"]["trigger_rule"], set(others)) == ("all_done", {None})


def test_each_step_is_submitted_as_the_job_of_its_name(load):
    names = load()["STEPS"]
    submitted = [words for words in commands() if words[0] == "spark-submit"]
    assert [words[4] for words in submitted] == [f"jobs.night.{name}" for name in names]
    for words in submitted:
        assert words[1:4] == ["--py-files", "/opt/recsys/pack/recsys.zip", "/opt/recsys/pack/job.py"]
        assert words[5:] == ["--conf", "/etc/recsys/shop.yaml", "--as-of", "2026-03-01"]
        script = (ROOT / f"{words[4].replace('.', '/')}.py").read_text()
        assert '__name__ == "__main__":\n    main(' in script


def test_no_day_is_caught_up_and_one_run_is_active_at_a_time(load):
    load()
    assert set(Dag.all) == {"recsys_night", "recsys_night_by_step", "recsys_published", "recsys_backfill"}
    for each in Dag.all.values():
        assert (each.options["catchup"], each.options["max_active_runs"]) == (False, 1)
    for task in Dag.all["recsys_night_by_step"].tasks.values():
        assert task["execution_timeout"] == timedelta(hours=4)
        assert task["on_failure_callback"].__name__ == "alert"
    assert {name: task["retries"] for name, task in Dag.all["recsys_night"].tasks.items()} == {
        "nightly": 3,
        "check_published": 0,
    }


def test_configuration_command_and_options_of_spark_are_those_of_the_environment(load, monkeypatch):
    monkeypatch.setenv("RECSYS_CONF", "/my shop/conf.yaml")
    monkeypatch.setenv("RECSYS_COMMAND", "/opt/recsys/bin/recsys")
    monkeypatch.setenv("RECSYS_SUBMIT", "spark-submit --master yarn")
    load()
    assert commands()[0] == [
        "/opt/recsys/bin/recsys",
        "nightly",
        "--conf",
        "/my shop/conf.yaml",
        "--as-of",
        "2026-03-01",
    ]
    assert ["spark-submit", "--master", "yarn", "--py-files"] in [words[:4] for words in commands()]


def run_dag(dag: str, run_after: str, home: Path, **environment: str) -> dict[str, Any]:
    """Run a DAG by Airflow; return the states of the run and its tasks."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto")]),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "RECSYS_COMMAND": f"{shlex.quote(sys.executable)} -m cli.main",
        "PYSPARK_PYTHON": sys.executable,
        **environment,
    }
    shutil.copytree(DAGS, home / "dags", dirs_exist_ok=True)
    assert AIRFLOW is not None
    said = ""
    for command in (
        [AIRFLOW, "-m", "airflow", "db", "migrate"],
        [AIRFLOW, str(ROOT / "tests/helpers/airflow_run.py"), str(home / "dags"), dag, run_after],
    ):
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=600)
        said = done.stdout
        assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(said.splitlines()[-1])


@needs_airflow
def test_airflow_runs_a_night_and_finds_it_published(tmp_path):
    conf = SmallShop(tmp_path).write(*random_rows(1)).configuration(spark=SMALL_SPARK)
    states = run_dag("recsys_night", "2026-03-01T00:10:00+00:00", tmp_path, RECSYS_CONF=str(conf))
    assert states == {"run": "success", "tasks": {"nightly": "success", "check_published": "success"}}


@needs_airflow
def test_airflow_posts_an_alert_when_nothing_was_published(tmp_path):
    conf = SmallShop(tmp_path).write(*random_rows(1)).configuration()
    with collecting() as webhook:
        environment = {"RECSYS_CONF": str(conf), "RECSYS_ALERT_URL": webhook.url}
        states = run_dag("recsys_published", "2026-03-01T06:00:00+00:00", tmp_path, **environment)
    assert states == {"run": "failed", "tasks": {"check_published": "failed"}}
    (post,) = webhook.posts
    assert json.loads(post.body)["text"].startswith("recsys: check_published of recsys_published, run ")
