"""The progress of a run: what it says while a step runs, and when it is read."""

from datetime import UTC, datetime

from recsys.storage.progress import PROGRESS, Progress, StepProgress, read_progress, write_progress

AT = datetime(2026, 3, 1, 4, tzinfo=UTC)


def step(name: str, state: str = "done", told: str = "") -> StepProgress:
    return StepProgress(name=name, state=state, started_at=AT, seconds=1.5, told=told)


def test_step_that_is_done_again_keeps_its_place():
    progress = Progress(steps=(step("one"), step("two"))).with_step(step("one", "failed")).with_step(step("three"))
    assert [(each.name, each.state) for each in progress.steps] == [
        ("one", "failed"),
        ("two", "done"),
        ("three", "done"),
    ]


def test_what_was_written_is_read_and_what_was_not_is_empty(tmp_path):
    assert read_progress(tmp_path) == Progress()
    progress = Progress(steps=(step("one", told="7 sales"),))
    write_progress(tmp_path, progress)
    assert read_progress(tmp_path) == progress
    (tmp_path / PROGRESS).write_text('{"steps": [{"name": "of a later version"}]}')
    assert read_progress(tmp_path) == Progress()
