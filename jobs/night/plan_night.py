"""Whether the night trains → plan.json, read by everything that uses the night's tables later."""

import json
from pathlib import Path

from jobs.engine.nights import PLAN
from jobs.engine.run import Run, Step
from recsys.wording import plural


def plan_night(run: Run, out: Path) -> str:
    """Write whether the night trains into the plan."""
    (out / PLAN).write_text(json.dumps({"trains": run.trains}))
    return f"trains on {plural(len(run.training_days), 'day')}" if run.trains else "trains no new version"


PLAN_NIGHT = Step("plan_night", plan_night, (PLAN,), depends_on=lambda run: [run.trains, run.training_days])
