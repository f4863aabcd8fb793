"""Jobs as files, such as `python jobs/night/score_users.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "jobs").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
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
"""One process for all of them: most of a job's start are imports that they share."""
PATIENCE = 300.0
"""Seconds that a busy machine may take for what an idle one does in ten."""


def run_elsewhere(command: list[object], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in another folder than the project's, with what the tests import."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
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
def test_job_starts_from_any_folder_and_says_what_it_takes(help_texts, script):
    name = Path(script).stem
    text = help_texts[str(ROOT / script)]
    assert f"\n{name}: " in text
    assert "--conf CONF" in text
