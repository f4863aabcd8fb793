import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.errors import PySparkException

from jobs.engine import executors
from jobs.engine.executor_facts import TOKEN, Facts, digest_of_code, facts, packages
from jobs.engine.executors import check_executors
from recsys.errors import ConfigurationError


class Executors:
    """Stands in for a session whose executors answer, each time they are asked, as they are told to."""

    def __init__(self, *rounds: list[Facts]) -> None:
        self.rounds, self.asked = rounds, 0

    def ask(self, _: object, proof: Path, token: str) -> list[Facts]:
        answers = self.rounds[min(self.asked, len(self.rounds) - 1)]
        self.asked += 1
        for each in answers:
            if not each.problem and not each.executor.startswith("elsewhere"):
                (proof / each.executor).write_text(token)
        return answers


def answer(name: str, **others: object) -> Facts:
    same = Facts(name[:-2], name, "Python 3.11.7 at /opt/python", packages(), digest_of_code(), "")
    return same._replace(**others)


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Return a function that checks executors with these answers; its errors are those of the check."""
    monkeypatch.setattr(executors, "_spread_shuffles", lambda spark: None)

    def check_answers(*rounds: list[Facts]) -> Executors:
        cluster = Executors(*rounds)
        monkeypatch.setattr(executors, "_ask", cluster.ask)
        check_executors(SimpleNamespace(), tmp_path / "run")
        return cluster

    return check_answers


def test_executors_are_asked_until_no_further_one_answers(check, caplog, tmp_path):
    caplog.set_level("INFO")
    first, second = answer("left-1"), answer("right-1")
    assert check([first], [first, second], [second]).asked == 3
    assert "2 executors on left, right see" in caplog.text
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"packages": {**packages(), "pyarrow": "", "numpy": "1.0"}},
            r"executor on right: Python 3.11.7 at /opt/python has numpy 1.0 \(driver: [\d.]+\), "
            r"pyarrow missing \(driver: [\d.]+\), must have .*: install them, or set spark.python",
        ),
        ({"code": "0123"}, "executor on right: the project's code there is 0123, must be .*'recsys pack'"),
        (
            {"problem": "[Errno 2] No such file"},
            r"executor on right: what is written here to \S+/run is not seen there \(\[Errno 2\] No such file\): ",
        ),
        ({"executor": "elsewhere"}, r"executor on right: what it writes to \S+/run is not seen here: 'folder' must"),
    ],
    ids=["packages", "code", "reads nothing", "writes elsewhere"],
)
def test_executor_that_could_not_run_the_night_is_named_with_what_it_lacks(check, wrong, said):
    with pytest.raises(ConfigurationError) as error:
        check([answer("left-1"), answer("right-1", **wrong)])
    assert re.fullmatch(f"{said}.*", str(error.value))


def test_executor_that_cannot_run_python_is_named(monkeypatch, tmp_path):
    def fail(*_: object) -> None:
        raise PySparkException("Job aborted: Lost task 0.3 (TID 3) (10.0.0.7 executor 2): Cannot run program 'python9'")

    session = SimpleNamespace(range=fail)
    with pytest.raises(ConfigurationError, match=r"executor on 10\.0\.0\.7 cannot run Python .*python9.*spark\.python"):
        check_executors(session, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_executor_reads_the_token_of_the_driver_and_writes_it_back(tmp_path):
    (tmp_path / TOKEN).write_text("from the driver")
    found = facts(str(tmp_path), "from the driver")
    assert (found.problem, found.code, found.packages) == ("", digest_of_code(), packages())
    assert (tmp_path / found.executor).read_text() == "from the driver"
    assert Facts(*json.loads(json.dumps(found))) == found


@pytest.mark.parametrize("there", [None, "of another run"])
def test_executor_without_the_token_of_the_driver_says_so(tmp_path, there):
    folder = tmp_path / "run"
    if there is not None:
        folder.mkdir()
        (folder / TOKEN).write_text(there)
    problem = facts(str(folder), "from the driver").problem
    assert problem == "it holds another token, 'of another run'" if there else "No such file" in problem
