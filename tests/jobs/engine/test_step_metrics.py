import re

import pytest

from jobs.engine.step_metrics import measured
from recsys.errors import InputError
from tests.helpers.posted import collecting


def values_in(text: str) -> dict[tuple[str, str], float]:
    found = re.findall(r'^(recsys_step_\w+)\{step="(\w+)"\} (.+)$', text, re.MULTILINE)
    return {(name, step): float(value) for name, step, value in found}


def fail(file: str, step: str) -> None:
    with pytest.raises(InputError), measured(file, step):
        raise InputError("half-way")


def test_start_duration_and_end_of_each_step_are_in_the_file(tmp_path):
    file = tmp_path / "recsys.prom"
    with measured(str(file), "score_users"):
        running = values_in(file.read_text())
    with measured(None, "publish_snapshot"):
        pass
    assert running.keys() == {("recsys_step_started_timestamp_seconds", "score_users")}
    values = {name: value for (name, step), value in values_in(file.read_text()).items() if step == "score_users"}
    started, done = values["recsys_step_started_timestamp_seconds"], values["recsys_step_done_timestamp_seconds"]
    assert done >= started > 1.7e9
    assert values["recsys_step_seconds"] < done - 1.7e9
    assert "recsys_step_failed_timestamp_seconds" not in values
    assert "publish_snapshot" not in file.read_text()


def test_failure_keeps_when_the_step_was_last_done(tmp_path):
    file = tmp_path / "recsys.prom"
    with measured(str(file), "check_night"):
        pass
    before = values_in(file.read_text())
    fail(str(file), "check_night")
    after = values_in(file.read_text())
    done, failed = (f"recsys_step_{what}_timestamp_seconds" for what in ("done", "failed"))
    assert after[done, "check_night"] == before[done, "check_night"] <= after[failed, "check_night"]


def test_later_process_keeps_the_values_of_steps_that_it_does_not_run(tmp_path):
    file = tmp_path / "recsys.prom"
    for step in ("publish_snapshot", "validate_tables"):  # a refresh runs no publish_snapshot, in a process of its own
        with measured(str(file), step):
            pass
    assert {step for _, step in values_in(file.read_text())} == {"publish_snapshot", "validate_tables"}


def test_gateway_keeps_the_values_of_other_steps():
    with collecting() as gateway:
        for step in ("publish_snapshot", "validate_tables"):
            with measured(gateway.url, step):
                pass
    assert [(each.method, each.path) for each in gateway.posts] == [
        ("POST", f"/metrics/job/recsys/step/{step}")
        for step in ("publish_snapshot", "publish_snapshot", "validate_tables", "validate_tables")
    ]
    assert "recsys_step_done_timestamp_seconds 1" in gateway.posts[1].body
    assert "recsys_step_done_timestamp_seconds" not in gateway.posts[0].body


def test_gateway_that_does_not_answer_is_reported_and_harms_no_step(caplog):
    with measured("http://127.0.0.1:9", "score_users"):
        pass
    assert "the metrics of score_users do not reach nights.metrics == 'http://127.0.0.1:9'" in caplog.text


def test_file_of_another_program_is_reported_and_harms_no_step(caplog, tmp_path):
    (tmp_path / "recsys.prom").write_text("}")
    with measured(str(tmp_path / "recsys.prom"), "score_users"):
        pass
    assert "the metrics of score_users do not reach" in caplog.text
