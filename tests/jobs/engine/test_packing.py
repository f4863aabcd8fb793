import os
import re
import subprocess
import sys
import zipfile
from hashlib import sha1
from importlib.metadata import version

import pytest

from jobs.engine import packing
from jobs.engine.code_version import code_version
from jobs.engine.executor_facts import digest_of_code
from jobs.engine.packing import installed_requirements, pack, travelling_code, write_zip
from jobs.night.score_users import score_users

IN_ANOTHER_PROCESS = """
import runpy, sys
import jobs
from jobs.engine.code_version import code_version
from jobs.engine.executor_facts import digest_of_code
from jobs.engine.packing import travelling_code
from jobs.night.score_users import score_users
from recsys.meta_model.logistic import _write_sums
print(jobs.__file__, code_version(score_users), digest_of_code(), travelling_code(), _write_sums._cache.cache_path)
sys.argv = ["job.py", "jobs.night.score_users", "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_packed_project_runs_a_job_and_is_the_same_code_as_the_folder(tmp_path):
    pack(tmp_path / "packed")
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        cwd=tmp_path / "packed",
        env={**os.environ, "PYTHONPATH": f"{tmp_path}/packed/recsys.zip", "NUMBA_CACHE_DIR": f"{tmp_path}/loops"},
        capture_output=True,
        text=True,
    )
    first, _, rest = done.stdout.partition("\n")
    path = tmp_path / "packed/recsys.zip/jobs/__init__.py"
    same, _, loops = first.rpartition(" ")
    assert same == f"{path} {code_version(score_users)} {digest_of_code()} []", done.stderr
    # Spark has the zip file elsewhere in each application: the place of its loops does not depend on that.
    assert loops == f"{tmp_path}/loops/meta_model_{sha1(b'/recsys/meta_model').hexdigest()}"
    assert "score_users: run this step of the night" in rest


def test_same_code_gives_the_same_zip_file_without_what_was_compiled(tmp_path):
    for name in ("a.zip", "b.zip"):
        write_zip(tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    names = zipfile.ZipFile(tmp_path / "a.zip").namelist()
    assert {"jobs/engine/log4j2.properties", "recsys/sql/collaborative_scores.sql", "cli/main.py"} <= set(names)
    assert [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".nbi", ".nbc"))] == []
    (travelling,) = travelling_code()
    assert zipfile.ZipFile(travelling).namelist() == names


def test_requirements_are_the_installed_versions_of_what_the_project_needs_itself_or_through_others():
    found = installed_requirements()
    assert {f"numpy=={version('numpy')}", f"py4j=={version('py4j')}"} <= set(found)  # py4j through pyspark
    assert [line for line in found if line.startswith(("pytest", "flash-sale", "selenium"))] == []
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!]+", line) for line in found)


@pytest.mark.parametrize("marker", ['; extra == "more"', '; sys_platform == "win32"'])
def test_packages_for_extras_and_other_systems_are_left_out(monkeypatch, marker):
    def distribution(name: str) -> object:
        needs = [f"other{marker}", "always"] if name == "own" else []
        return type("Package", (), {"version": "1.0+cpu", "requires": needs})

    monkeypatch.setattr(packing, "distribution", distribution)
    assert installed_requirements("own") == ["always==1.0"]
