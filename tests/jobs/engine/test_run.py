import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import jobs.engine.run
from jobs.engine.run import Run, Step, digest, with_inputs
from recsys.config.settings import Settings
from recsys.errors import BusyError, InputError
from recsys.storage.local import held
from tests.helpers.small_shop import SmallShop, contents


class Shop:
    """Three steps a → b → c, of which b depends on a setting; each copies its input and adds its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[str] = []
        self.fails: str | None = None
        self.days = 5
        self.a = Step("a", self._act("a"), ("table_a",))
        self.b = Step("b", self._act("b", "a"), ("table_b", "more_b"), (self.a,), lambda run: run.settings.history)
        self.c = Step("c", self._act("c", "b"), ("table_c",), inputs=(self.a, self.b))

    def _act(self, name: str, before: str | None = None) -> Callable[[Run, Path], str]:
        def act(run: Run, out: Path) -> str:
            self.done.append(name)
            text = (run.folder / f"table_{before}/part").read_text() if before else ""
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
        return Run(settings, self.folder, 0, [], [], Console(file=StringIO()))

    def do(self) -> list[str]:
        """Do the steps; return the names of those that were not skipped."""
        self.done.clear()
        self.run().do((self.a, self.b, self.c))
        return self.done

    def read(self, output: str) -> str:
        return (self.folder / output / "part").read_text()


@pytest.fixture
def steps(tmp_path, monkeypatch) -> Shop:
    monkeypatch.setattr(jobs.engine.run, "code_version", lambda: "the same")
    return Shop(tmp_path / "run")


def test_step_whose_inputs_and_settings_are_unchanged_is_not_redone(steps):
    assert steps.do() == ["a", "b", "c"]
    before = contents(steps.folder)
    assert steps.do() == []
    assert contents(steps.folder) == before


def test_changed_setting_redoes_its_step_and_those_after_it_only(steps):
    steps.do()
    steps.days = 6
    assert steps.do() == ["b", "c"]
    assert (steps.read("table_a"), steps.read("table_c")) == ("a5", "a5b6c6")


def test_setting_that_is_changed_back_is_a_change_again(steps):
    steps.do()
    for steps.days in (6, 5):
        assert steps.do() == ["b", "c"]
    assert steps.read("table_c") == "a5b5c5"


def test_changed_code_redoes_everything(steps, monkeypatch):
    steps.do()
    monkeypatch.setattr(jobs.engine.run, "code_version", lambda: "changed")
    assert steps.do() == ["a", "b", "c"]


def test_lines_say_what_was_done_and_what_was_unchanged(steps):
    steps.do()
    run = steps.run()
    run.do((steps.a,))
    assert run.console.file.getvalue().split() == ["a", "unchanged", "summary", "of", "a"]


def test_step_that_raises_leaves_the_old_outputs_and_they_count_as_done(steps):
    steps.do()
    before = {name: text for name, text in contents(steps.folder).items() if not name.startswith(".tmp-")}
    steps.days, steps.fails = 6, "b"
    with pytest.raises(InputError, match="half-way"):
        steps.do()
    after = {name: text for name, text in contents(steps.folder).items() if not name.startswith(".tmp-")}
    assert after == before
    steps.days, steps.fails = 5, None
    assert steps.do() == []


def test_first_try_that_raises_leaves_no_output_and_steps_before_it_are_not_redone(steps):
    steps.fails = "b"
    with pytest.raises(InputError):
        steps.do()
    assert not list(steps.folder.glob("*_b"))
    steps.fails = None
    assert steps.do() == ["b", "c"]


def test_step_killed_while_its_outputs_move_is_redone(steps, monkeypatch):
    steps.do()
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if target.name == "more_b":  # table_b is in its place already
            raise KeyboardInterrupt
        return rename(path, target)

    steps.days = 6
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            steps.do()
    steps.days = 5
    assert steps.do() == ["b"]  # c's outputs were made of what b gives again
    assert (steps.read("table_b"), steps.read("more_b")) == ("a5b5", "a5b5")


def test_what_a_killed_step_left_is_not_taken_for_its_output(steps):
    left = steps.folder / f".tmp-{'0' * 16}/table_a"
    left.mkdir(parents=True)
    (left / "old_part").write_text("left")
    steps.do()
    assert [path.name for path in (steps.folder / "table_a").iterdir()] == ["part"]
    assert not list(steps.folder.glob(".tmp-*"))


def test_folder_that_another_run_holds_is_busy(steps):
    with held(steps.folder), pytest.raises(BusyError) as error:
        steps.do()
    assert str(error.value) == f"another run works in {steps.folder}: wait for it to end, or give another 'folder'"
    assert steps.do() == ["a", "b", "c"]


def test_killed_process_lets_go_of_its_folder(steps):
    steps.folder.mkdir()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    command = [sys.executable, "-c", hold, str(steps.folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        with pytest.raises(BusyError):
            steps.do()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert steps.do() == ["a", "b", "c"]


def test_lock_is_held_until_the_last_step_has_ended(steps):
    def try_lock(run: Run, out: Path) -> str:
        with (run.folder / ".lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "held"

    steps.run().do((Step("lock", try_lock, ()),))


def test_inputs_come_before_the_steps_that_need_them_and_once(steps):
    assert [step.name for step in with_inputs(steps.c)] == ["a", "b", "c"]


def test_digest_tells_values_apart_and_ignores_the_order_of_keys(steps):
    settings = steps.run().settings
    assert digest({"a": 1, "b": [settings]}) == digest({"b": [settings], "a": 1})
    steps.days = 6
    values = [1, "1", [1], {"1": 1}, settings, steps.run().settings, None]
    assert len({digest(value) for value in values}) == len(values)


def test_code_version_covers_the_sources_of_the_library_and_the_jobs():
    everything = jobs.engine.run.code_version()
    assert everything == jobs.engine.run.code_version(("recsys", "jobs"))
    assert len({everything, jobs.engine.run.code_version(("recsys",)), jobs.engine.run.code_version(("jobs",))}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conf", "absent.yaml"], "error: absent.yaml does not exist"),
        (["--conf", "{conf}", "--as-of", "yesterday"], "error: instant 'yesterday', must be a date or an instant"),
    ],
)
def test_job_run_by_itself_ends_with_one_line_for_an_error(tmp_path, monkeypatch, steps, arguments, message):
    conf = SmallShop(tmp_path).configuration()
    monkeypatch.setattr(sys, "argv", ["job.py", *(argument.format(conf=conf) for argument in arguments)])
    with pytest.raises(SystemExit) as exit_:
        jobs.engine.run.main(steps.a)
    assert str(exit_.value).startswith(message)
    assert "\n" not in str(exit_.value)
