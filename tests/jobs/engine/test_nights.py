import json
import sys
from pathlib import Path

import pytest

from jobs.engine.nights import PLAN, main, night, planned_night
from jobs.engine.run import Run, Step
from jobs.night.plan_night import PLAN_NIGHT
from recsys.config.settings import Settings
from recsys.instants import DAY, HOUR, to_micros
from tests.helpers.small_shop import SmallShop


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """Settings of a shop in which training is due, without asking MLflow."""
    monkeypatch.setattr("jobs.engine.nights.training_is_due", lambda settings, as_of: True)
    return SmallShop(tmp_path).settings()


@pytest.mark.parametrize("trains", [True, False])
def test_night_stays_as_it_was_planned(settings, trains):
    run = night(settings, trains=trains)
    run.do((PLAN_NIGHT,))
    assert json.loads((run.outputs / PLAN).read_text()) == {"trains": trains, "is_hourly": False}
    assert planned_night(settings) == night(settings, trains=trains)


@pytest.mark.parametrize(("hours", "day"), [(0, -1), (5, -1), (23.99, -1), (24, 0), (-1, -2)])
def test_hour_between_nights_is_measured_on_the_last_whole_day_of_a_night_and_trains_nothing(settings, hours, day):
    midnight = to_micros(settings.as_of)
    run = night(settings, midnight + int(hours * HOUR), is_hourly=True)
    assert (run.trains, run.training_days, run.days) == (False, [midnight + day * DAY], [run.as_of])
    run.do((PLAN_NIGHT,))
    assert planned_night(settings, run.as_of) == run


def test_night_without_a_plan_trains_if_training_is_due(settings, monkeypatch):
    assert planned_night(settings).trains
    monkeypatch.setattr("jobs.engine.nights.training_is_due", lambda settings, as_of: False)
    run = planned_night(settings)
    assert (run.trains, run.training_days) == (False, [run.as_of - DAY])


def test_single_job_uses_the_training_days_of_the_planned_night(tmp_path, settings, monkeypatch):
    night(settings, trains=False).do((PLAN_NIGHT,))
    seen: list[Run] = []

    def look(run: Run, out: Path) -> str:
        seen.append(run)
        return "looked"

    monkeypatch.setattr(sys, "argv", ["look.py", "--conf", str(SmallShop(tmp_path).configuration())])
    main(Step("look", look, ()))
    assert [run.trains for run in seen] == [False]


@pytest.mark.parametrize("trains", [True, False])
def test_job_of_a_training_does_nothing_on_a_night_that_trains_none(tmp_path, settings, monkeypatch, trains):
    night(settings, trains=trains).do((PLAN_NIGHT,))
    seen: list[Run] = []
    monkeypatch.setattr(sys, "argv", ["look.py", "--conf", str(SmallShop(tmp_path).configuration())])
    main(Step("look", lambda run, out: seen.append(run) or "looked", ()), only_if_trains=True)
    assert [run.trains for run in seen] == [True] * trains


def test_plan_that_is_made_by_a_job_of_its_own_holds_for_the_night(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plan_night.py", "--conf", str(SmallShop(tmp_path).configuration())])
    main(PLAN_NIGHT)
    monkeypatch.setattr(
        "jobs.engine.nights.training_is_due", lambda settings, as_of: False
    )  # by what the night trained
    assert planned_night(settings).trains


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conf", "absent.yaml"], "error: absent.yaml does not exist"),
        (["--conf", "{conf}", "--as-of", "yesterday"], "error: instant 'yesterday', must be a date or an instant"),
    ],
)
def test_single_job_reports_an_error_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    conf = SmallShop(tmp_path).configuration()
    monkeypatch.setattr(sys, "argv", ["job.py", *(argument.format(conf=conf) for argument in arguments)])
    with pytest.raises(SystemExit) as exit_:
        main(Step("a", lambda run, out: "", ()))
    (said,) = capsys.readouterr().err.splitlines()
    assert (exit_.value.code, said[: len(message)]) == (1, message)
