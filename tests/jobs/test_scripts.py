"""Jobs as files, such as `python jobs/night/score_users.py`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.engine.nights import night
from recsys.storage.journal import leased
from tests.helpers.paths import ROOT
from tests.helpers.small_shop import MLFLOW_WARNS, SMALL_SPARK, contents
from tests.helpers.yaml_text import yaml_text

BIN = Path(sys.executable).parent

SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "jobs").rglob("*.py")
    if '__name__ == "__main__":\n    main(' in path.read_text()
)
HELP_OF_EACH = """
import contextlib, io, json, runpy, sys
said = {}
for path in sys.argv[1:]:
    sys.argv, sys.path[0] = [path, "--help"], path.rpartition("/")[0]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name="__main__")
    said[path] = out.getvalue()
print(json.dumps(said))
"""
"""One process for all jobs: most of a job's start-up time is for imports that they share."""
PATIENCE = 300.0
"""Timeout in seconds; an idle machine needs ten."""


def run_elsewhere(command: list[object], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command outside of the project's folder, with the path from which the tests import."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "PYSPARK_PYTHON": sys.executable,
    }
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.fixture(scope="module")
def help_texts(tmp_path_factory) -> dict[str, str]:
    paths = [str(ROOT / script) for script in SCRIPTS]
    done = run_elsewhere([sys.executable, "-c", HELP_OF_EACH, *paths], tmp_path_factory.mktemp("elsewhere"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_step_of_the_night_is_a_script():
    assert {"jobs/night/score_users.py", "jobs/night/publish_snapshot.py"} < set(SCRIPTS)
    assert len(SCRIPTS) >= 14


@pytest.mark.parametrize("script", SCRIPTS)
def test_job_starts_in_any_folder_and_explains_its_options(help_texts, script):
    name = Path(script).stem
    text = help_texts[str(ROOT / script)]
    assert f"\n{name}: " in text
    assert "--conf CONF" in text


def submit(script: str, folder: Path, conf: Path) -> tuple[int, str]:
    """Return the exit status and the output of a job under spark-submit; Spark's output includes that of Python."""
    done = run_elsewhere([BIN / "spark-submit", ROOT / script, "--conf", conf], folder)
    return done.returncode, done.stdout + done.stderr


@MLFLOW_WARNS
def test_submitted_job_runs_the_steps_that_are_due_and_no_other(published_shop, tmp_path):
    settings, conf = published_shop.settings(), tmp_path / "shop.yaml"
    conf.write_text(yaml_text(published_shop.raw_settings(spark=SMALL_SPARK)))
    folder = night(settings).folder
    with leased(folder) as lease:  # as if settings had changed since; the job writes it again
        lease.add(lease.steps["build_histories"] | {"fingerprint": "of another time"})
    snapshots = contents(settings.snapshots_folder)
    status, said = submit("jobs/night/publish_snapshot.py", tmp_path, conf)
    assert status == 0, said
    steps = re.findall(r"INFO jobs\.engine\.run: +(\w+) +(unchanged|[\d.]+ s) ", (folder / "run.log").read_text())[-11:]
    assert [name for name, how in steps if how != "unchanged"] == ["build_histories"]
    assert steps[-1][0] == "publish_snapshot"
    assert contents(settings.snapshots_folder) == snapshots
