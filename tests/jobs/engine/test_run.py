import logging
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import jobs.engine.run
from jobs.engine.run import LOG, Run, Step, with_inputs
from recsys.config.settings import Settings
from recsys.errors import BusyError, InputError, LeaseLostError, StepError
from recsys.settings import digest
from recsys.storage import journal
from recsys.storage.journal import Lease, holder, leased, steps_of
from recsys.storage.progress import read_progress, write_progress
from tests.helpers.small_shop import contents


class Shop:
    """Three steps a → b → c; b depends on a setting; each copies its input and appends its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[str] = []
        self.fails: str | None = None
        self.days = 5
        self.source = ""
        self.a = Step("a", self._act("a"), ("table_a",))
        self.b = Step("b", self._act("b", "a"), ("table_b", "more_b"), (self.a,), lambda run: run.settings.history)
        self.c = Step("c", self._act("c", "b"), ("table_c",), inputs=(self.a, self.b))

    def _act(self, name: str, before: str | None = None) -> Callable[[Run, Path], str]:
        def act(run: Run, out: Path) -> str:
            self.done.append(name)
            text = (run.outputs / f"table_{before}" / "part").read_text() if before else ""
            for output in (f"table_{name}", "more_b") if name == "b" else (f"table_{name}",):
                (out / output).mkdir()
                (out / output / "part").write_text(f"{text}{name}{run.settings.history.days}")
            if self.fails == name:
                raise InputError("half-way")
            return f"summary of {name}"

        return act

    def run(self) -> Run:
        source = {"sql": "sql", "raw": {}}
        settings = Settings.model_validate({"folder": "f", "source": source, "history": {"days": self.days}})
        return Run(settings, self.folder, 0, [], [])

    def do(self) -> list[str]:
        """Run the steps; return the names of those that were not skipped."""
        self.done.clear()
        self.run().do((self.a, self.b, self.c))
        return self.done

    def read(self, output: str) -> str:
        return (self.run().outputs / output / "part").read_text()


@pytest.fixture
def steps(tmp_path, monkeypatch) -> Shop:
    monkeypatch.setattr(jobs.engine.run, "code_version", lambda step: "the same")
    return Shop(tmp_path / "run")


def test_step_with_unchanged_inputs_and_settings_is_not_rerun(steps):
    assert steps.do() == ["a", "b", "c"]
    before = contents(steps.folder / "data")
    assert steps.do() == []
    assert contents(steps.folder / "data") == before


def test_changed_setting_reruns_only_its_step_and_those_after_it(steps):
    steps.do()
    steps.days = 6
    assert steps.do() == ["b", "c"]
    assert (steps.read("table_a"), steps.read("table_c")) == ("a5", "a5b6c6")


def test_setting_that_is_changed_back_reruns_its_step(steps):
    steps.do()
    for steps.days in (6, 5):
        assert steps.do() == ["b", "c"]
    assert steps.read("table_c") == "a5b5c5"


def test_changed_code_reruns_all_steps(steps, monkeypatch):
    steps.do()
    monkeypatch.setattr(jobs.engine.run, "code_version", lambda step: "changed")
    assert steps.do() == ["a", "b", "c"]


def test_other_version_of_a_library_reruns_all_steps(steps, monkeypatch):
    steps.do()
    monkeypatch.setattr(jobs.engine.run, "library_versions", lambda: {"numpy": "9"})
    assert steps.do() == ["a", "b", "c"]


def test_what_a_step_leaves_out_is_logged_and_known_until_it_is_done_otherwise(steps, caplog):
    def leave(*lines: str) -> Step:
        def run(run: Run, out: Path) -> str:
            (out / "table").touch()
            for line in lines:
                run.leave_out(line, "no data", "there is some")
            return "done"

        return Step("leave", run, ("table",), depends_on=lambda _: lines)

    def left_out(step: Step) -> list[str]:
        run = steps.run()
        run.do((step, step))
        return [line.what for line in run.left_out([step, steps.a])]

    assert left_out(leave("photos", "words")) == ["photos", "words"]
    assert [message.strip() for message in caplog.messages if "without" in message] == [
        "without photos: no data; until there is some",
        "without words: no data; until there is some",
    ]
    assert left_out(leave("words")) == ["words"]
    assert left_out(leave()) == []


def test_log_says_which_steps_were_run_and_which_were_unchanged(steps, caplog):
    steps.do()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        steps.run().do((steps.a,))
    assert caplog.messages[0].split() == ["a", "unchanged", "summary", "of", "a"]


def test_log_file_has_the_steps_and_the_stack_trace_of_a_failure(steps):
    steps.fails = "b"
    with pytest.raises(InputError):
        steps.do()
    log = (steps.folder / LOG).read_text()
    assert re.search(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO jobs\.engine\.run: +a .* s +summary of a$", log, re.M
    )
    assert re.search(r"^\S+ DEBUG jobs\.engine\.run: b failed\n  Traceback ", log, re.M)
    assert log.endswith("recsys.errors.InputError: half-way\n")


def noted(shop: Shop) -> dict[str, tuple[str, str]]:
    """State and summary, or error, that the run's folder notes of each step."""
    return {step.name: (step.state, step.told) for step in read_progress(shop.folder).steps}


def test_folder_notes_how_each_step_ended(steps):
    steps.fails = "b"
    with pytest.raises(InputError):
        steps.do()
    assert noted(steps) == {"a": ("done", "summary of a"), "b": ("failed", "half-way")}
    steps.fails = None
    assert steps.do() == ["b", "c"]
    assert noted(steps) == {name: ("done", f"summary of {name}") for name in "abc"}


@pytest.mark.parametrize("state", ["running", "failed"])
def test_step_that_is_done_and_was_not_noted_so_is_noted_by_the_next_run(steps, state):
    """A process was killed between the entry of its step and the note, or a later try with other settings failed."""
    steps.do()
    progress = read_progress(steps.folder)
    write_progress(steps.folder, progress.with_step(progress.steps[1].model_copy(update={"state": state, "told": ""})))
    assert steps.do() == []
    assert noted(steps)["b"] == ("done", "summary of b")


def test_failure_in_spark_is_an_error_of_one_line_that_names_the_log(steps, spark):
    def divide(run: Run, out: Path) -> str:
        return str(spark.sql("select 1 / 0 as x").collect())

    with pytest.raises(StepError) as error:
        steps.run().do((Step("divide", divide, ()),))
    said = str(error.value)
    assert said.startswith("divide: [DIVIDE_BY_ZERO] Division by zero.")
    assert said.endswith(f"; the stack trace is in {steps.folder}/run.log")
    assert "\n" not in said
    assert "pyspark.errors" in (steps.folder / LOG).read_text()


def test_source_that_changes_between_two_steps_of_an_interrupted_run_reruns_both(steps):
    """b records that it was made from the old a, so it is not taken for one that was made from the new a."""
    a = Step("a", steps._act("a"), ("table_a",), (), lambda run: steps.source)
    b = Step("b", steps._act("b", "a"), ("table_b", "more_b"), (a,))
    steps.source = "before"
    steps.run().do((a,))
    recorded = steps.run().fingerprint(a)
    steps.source = "after"
    steps.run().do((b,))
    assert steps.run().fingerprint(a) == recorded
    steps.done.clear()
    steps.run().do((a, b))
    assert steps.done == ["a", "b"]


def test_dependencies_are_evaluated_once_per_step_and_run(steps):
    asked: list[str] = []
    a = Step("a", steps._act("a"), ("table_a",), (), lambda run: asked.append("a"))
    b = Step("b", steps._act("b", "a"), ("table_b", "more_b"), (a,), lambda run: asked.append("b"))
    c = Step("c", steps._act("c", "b"), ("table_c",), (a, b), lambda run: asked.append("c"))
    steps.run().do((a, b, c))
    assert asked == ["a", "b", "c"]


def test_fingerprint_of_a_step_in_progress_is_the_one_that_is_recorded(steps):
    seen: list[str] = []

    def look(run: Run, out: Path) -> str:
        seen.append(run.fingerprint(step))
        return "looked"

    step = Step("look", look, (), (steps.a,))
    run = steps.run()
    run.do((steps.a, step))
    assert seen == [run.fingerprint(step)] == [steps_of(steps.folder)["look"]["fingerprint"]]


def test_step_that_raises_leaves_the_old_outputs_valid(steps):
    steps.do()
    before = contents(steps.folder / "data")
    steps.days, steps.fails = 6, "b"
    with pytest.raises(InputError, match="half-way"):
        steps.do()
    assert contents(steps.folder / "data") == before
    steps.days, steps.fails = 5, None
    assert steps.do() == []


def test_first_run_that_raises_leaves_no_output_and_earlier_steps_are_not_rerun(steps):
    steps.fails = "b"
    with pytest.raises(InputError):
        steps.do()
    assert not list(steps.folder.rglob("*_b"))
    steps.fails = None
    assert steps.do() == ["b", "c"]


def test_step_killed_before_its_entry_is_rerun_and_what_it_wrote_is_removed(steps, monkeypatch):
    steps.do()

    def killed(lease: Lease, entry: dict) -> None:
        raise KeyboardInterrupt

    steps.days = 6
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            steps.do()
    assert [path.name[0] for path in sorted((steps.folder / "data").iterdir())] == ["a", "b", "b", "c"]
    assert (steps.read("table_b"), steps.read("more_b")) == ("a5b5", "a5b5")  # readers still find what was true
    steps.days = 5
    assert steps.do() == []
    assert [path.name[0] for path in sorted((steps.folder / "data").iterdir())] == ["a", "b", "c"]


def test_outputs_of_a_step_that_is_redone_are_replaced(steps):
    steps.do()
    before = steps.run().outputs / "table_b"
    steps.days = 6
    steps.do()
    assert not before.exists()
    assert len(list((steps.folder / "data").iterdir())) == 3


def test_folder_in_which_another_run_works_is_busy(steps):
    with leased(steps.folder), pytest.raises(BusyError) as error:
        steps.do()
    assert str(error.value) == (
        f"another run works in {steps.folder} (process {os.getpid()} of {platform.node()}): wait for it to end, "
        "or give another 'folder'"
    )
    assert steps.do() == ["a", "b", "c"]


def test_folder_of_a_killed_process_is_taken_over_at_once(steps, caplog):
    hold = (
        "import sys, pathlib, recsys.storage.journal as journal\n"
        "with journal.leased(pathlib.Path(sys.argv[1])): print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", hold, str(steps.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        with pytest.raises(BusyError, match=f"process {process.pid} of"):
            steps.do()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert steps.do() == ["a", "b", "c"]
    assert f"process {process.pid} of {platform.node()} left {steps.folder} unfinished (that process has" in (
        caplog.text
    )


def test_folder_is_held_until_the_last_step_has_ended(steps):
    def look(run: Run, out: Path) -> str:
        return str(holder(run.folder))

    run = steps.run()
    run.do((Step("look", look, ()),))
    assert steps_of(run.folder)["look"]["summary"] == f"process {os.getpid()} of {platform.node()}"
    assert holder(run.folder) is None


def test_run_that_was_taken_over_makes_nothing_true(steps, monkeypatch):
    steps.do()
    before = contents(steps.folder / "data")

    def slow(run: Run, out: Path) -> str:
        with monkeypatch.context() as patch:  # as if this process had slept for longer than a lease lasts
            patch.setattr(journal, "_why_expired", lambda *_: "silent")
            with leased(run.folder):
                pass
        (out / "table").write_text("late")
        return "too late"

    with pytest.raises(LeaseLostError, match="what it was making is left out"):
        steps.run().do((Step("slow", slow, ()),))
    assert "slow" not in steps_of(steps.folder)
    assert contents(steps.folder / "data") == before


def test_each_input_comes_once_before_the_steps_that_need_it(steps):
    assert [step.name for step in with_inputs(steps.c)] == ["a", "b", "c"]


def test_digest_differs_between_values_and_ignores_the_order_of_keys(steps):
    settings = steps.run().settings
    assert digest({"a": 1, "b": [settings]}) == digest({"b": [settings], "a": 1})
    steps.days = 6
    values = [1, "1", [1], {"1": 1}, settings, steps.run().settings, None]
    assert len({digest(value) for value in values}) == len(values)
