import json
import sys
from pathlib import Path

import pytest

from jobs.engine.nights import PLAN, main, night, planned_night
from jobs.engine.run import Run, Step
from jobs.night.plan_night import PLAN_NIGHT
from recsys.config.settings import Settings
from recsys.instants import DAY
from tests.helpers.small_shop import SmallShop


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """Training is due whatever MLflow holds."""
    monkeypatch.setattr("jobs.engine.nights.training_is_due", lambda settings, as_of: True)
    return SmallShop(tmp_path).settings()


@pytest.mark.parametrize("trains", [True, False])
def test_night_stays_as_it_was_planned(settings, trains):
    run = night(settings, trains=trains)
    run.do((PLAN_NIGHT,))
    assert json.loads((run.folder / PLAN).read_text()) == {"trains": trains}
    assert planned_night(settings) == night(settings, trains=trains)


def test_night_that_nobody_planned_trains_where_it_is_due(settings, monkeypatch):
    assert planned_night(settings).trains
    monkeypatch.setattr("jobs.engine.nights.training_is_due", lambda settings, as_of: False)
    run = planned_night(settings)
    assert (run.trains, run.training_days) == (False, [run.as_of - DAY])


def test_job_run_by_itself_looks_at_the_days_that_the_night_was_planned_for(tmp_path, settings, monkeypatch):
    night(settings, trains=False).do((PLAN_NIGHT,))
    seen: list[Run] = []

    def look(run: Run, out: Path) -> str:
        seen.append(run)
        return "looked"

    monkeypatch.setattr(sys, "argv", ["look.py", "--conf", str(SmallShop(tmp_path).configuration())])
    main(Step("look", look, ()))
    assert [run.trains for run in seen] == [False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conf", "absent.yaml"], "error: absent.yaml does not exist"),
        (["--conf", "{conf}", "--as-of", "yesterday"], "error: instant 'yesterday', must be a date or an instant"),
    ],
)
def test_job_run_by_itself_ends_with_one_line_for_an_error(tmp_path, monkeypatch, arguments, message):
    conf = SmallShop(tmp_path).configuration()
    monkeypatch.setattr(sys, "argv", ["job.py", *(argument.format(conf=conf) for argument in arguments)])
    with pytest.raises(SystemExit) as exit_:
        main(Step("a", lambda run, out: "", ()))
    assert str(exit_.value).startswith(message)
    assert "\n" not in str(exit_.value)
