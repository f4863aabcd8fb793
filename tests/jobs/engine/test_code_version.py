import importlib
import zipfile
from pathlib import Path

import pytest

from jobs.engine import code_version as module
from jobs.engine.code_version import code_version, library_versions
from jobs.night.score_users import score_users
from jobs.night.validate_tables import validate_tables
from tests.helpers.paths import ROOT

STEP = '''
from made_up.chosen import first
from made_up.chosen.deeper import VALUE

def step(run, out):
    """Run it."""
    import made_up.late
    return first() + VALUE
'''
FILES = {
    "made_up/__init__.py": "",
    "made_up/step.py": STEP,
    "made_up/chosen/__init__.py": "def first():\n    return 1\n",
    "made_up/chosen/deeper.py": "import numpy\nVALUE = 2  # two\n",
    "made_up/late.py": "from made_up.chosen import deeper\n",
    "made_up/not_imported.py": "",
}


def of_made_up() -> None:
    """Stands for a step of the made-up project."""


of_made_up.__module__ = "made_up.step"


class Project:
    """A project of a few modules."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        monkeypatch.setattr(module, "PROJECT", ("made_up",))

    def version(self, changed: dict[str, str] | None = None, zipped: bool = False) -> str:
        """Return the version of a step of the project with some files changed, in a folder or in a zip file."""
        path = self.folder / ("code.zip" if zipped else "code")
        with zipfile.ZipFile(self.folder / "code.zip", "w") as file:
            for name, text in (FILES | (changed or {})).items():
                file.writestr(name, text)
        if not zipped:
            with zipfile.ZipFile(self.folder / "code.zip") as file:
                file.extractall(path)
        for cached in (module._digest_of, module._parse_module, module._modules_of, module._module_spec):
            cached.cache_clear()
        with self.monkeypatch.context() as patch:
            patch.syspath_prepend(path)
            importlib.invalidate_caches()
            return code_version(of_made_up)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    return Project(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("made_up/step.py", STEP.replace("+", "-")),
        ("made_up/chosen/__init__.py", "def first():\n    return 0\n"),
        ("made_up/chosen/deeper.py", "import numpy\nVALUE = 3  # two\n"),
        ("made_up/late.py", "from made_up.chosen import deeper as other\n"),
        ("made_up/__init__.py", "import os\n"),
    ],
    ids=lambda value: value if value.endswith(".py") else "",
)
def test_changed_code_in_an_imported_module_changes_the_version(project, file, text):
    assert project.version({file: text}) != project.version()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("made_up/step.py", STEP.replace("Run it.", "Run the step.")),
        ("made_up/chosen/deeper.py", '"""A value."""\n\nimport numpy\n\nVALUE = 2\n"""Two."""\n'),
        ("made_up/not_imported.py", "VALUE = 1"),
    ],
    ids=["docstring", "comment and docstrings", "module that it does not import"],
)
def test_docstrings_comments_and_other_modules_are_not_part_of_the_version(project, file, text):
    assert project.version({file: text}) == project.version()


def test_version_is_the_same_in_a_zip_file(project):
    assert project.version(zipped=True) == project.version()
    assert project.version({"made_up/late.py": "x = 1"}, zipped=True) == project.version({"made_up/late.py": "x = 1"})


def test_step_has_the_version_of_its_own_imports():
    assert code_version(score_users) != code_version(validate_tables)


def test_job_run_as_a_script_has_the_version_of_its_module():
    names: dict = {"__name__": "__main__"}
    exec(compile("def score_users(run, out): ...", ROOT / "jobs/night/score_users.py", "exec"), names)
    assert code_version(names["score_users"]) == code_version(score_users)


def test_comments_in_sql_files_are_not_part_of_the_version(monkeypatch, tmp_path):
    versions = []
    for text in ("-- one row\nselect 1\n", "select 1\n", "select 2\n"):
        (tmp_path / "query.sql").write_text(text)
        monkeypatch.setattr(module, "files", lambda package: tmp_path)
        module._digest_of_queries.cache_clear()
        versions.append(module._digest_of_queries())
    module._digest_of_queries.cache_clear()
    assert versions[0] == versions[1] != versions[2]


def test_libraries_that_compute_are_named_with_their_versions():
    versions = library_versions()
    assert {"numpy", "scikit-learn", "lightgbm", "torch", "pyspark"} <= versions.keys()
    assert all(versions.values())
