"""Whether the night trains → plan.json, read by everything that uses the night's tables later."""

import json

from jobs.engine.nights import PLAN, main
from jobs.engine.run import Run, Step
from recsys.storage.places import Place
from recsys.wording import plural


def plan_night(run: Run, out: Place) -> str:
    """Write into the plan whether the night trains, and whether it is an hour between two nights."""
    (out / PLAN).write_text(json.dumps({"trains": run.trains, "is_hourly": run.is_hourly}))
    return f"trains on {plural(len(run.training_days), 'day')}" if run.trains else "trains no new version"


PLAN_NIGHT = Step(
    "plan_night", plan_night, (PLAN,), depends_on=lambda run: [run.trains, run.is_hourly, run.training_days]
)

if __name__ == "__main__":
    main(PLAN_NIGHT)
