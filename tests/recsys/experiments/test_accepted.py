import json

import pytest

from recsys.errors import ConfigurationError
from recsys.experiments.accepted import AcceptedFiles, written_file
from recsys.experiments.files import load_experiments
from recsys.experiments.settings import ExperimentFile
from tests.helpers.written_experiments import DURING, END, START, written
from tests.helpers.written_experiments import written_file as contents
from tests.helpers.yaml_text import yaml_text

FILE = contents(written(start=f"{START:%FT%TZ}", end=f"{END:%FT%TZ}"))


@pytest.fixture
def files(tmp_path) -> AcceptedFiles:
    (tmp_path / "written").mkdir()
    return AcceptedFiles(tmp_path / "written", tmp_path / "in_force")


def take_over(files: AcceptedFiles) -> list[str]:
    return files.take_over(DURING, lambda surface, file: None)


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_file_is_the_same_as_yaml(tmp_path, files, indent):
    (tmp_path / "written/home.json").write_text(json.dumps(FILE, indent=indent))
    assert take_over(files) == []
    assert files.waiting() == []
    assert files.in_force() == {"home": ExperimentFile.model_validate(FILE)}


def test_file_that_changes_its_suffix_replaces_the_copy_in_force(tmp_path, files):
    folder = tmp_path / "written"
    (folder / "home.yaml").write_text(yaml_text(FILE))
    assert take_over(files) == []
    (folder / "home.yaml").unlink()
    (folder / "home.yml").write_text(yaml_text({**FILE, "kill_switch": True}))
    before = files.state()
    assert take_over(files) == []
    assert files.state() != before
    assert [file.kill_switch for file in files.in_force().values()] == [True]
    assert written_file(folder, "home").name == "home.yml"


def test_two_files_of_a_surface_are_refused_and_the_one_in_force_stays(tmp_path, files):
    folder = tmp_path / "written"
    (folder / "home.yaml").write_text(yaml_text(FILE))
    take_over(files)
    (folder / "home.json").write_text(json.dumps({**FILE, "kill_switch": True}))
    rule = f"{folder} has home.yaml and home.json, must have one file for surface 'home': remove the others"
    assert take_over(files) == [rule]
    found, problems = files.as_written()
    assert (problems, found["home"].kill_switch) == ([rule], False)


def test_json_that_repeats_a_key_is_refused(tmp_path):
    path = tmp_path / "home.json"
    path.write_text('{"schema_version": 1, "default": {"policy": "meta"}, "default": {"policy": "popularity"}}')
    with pytest.raises(ConfigurationError, match="key 'default' stands twice"):
        load_experiments(path)
