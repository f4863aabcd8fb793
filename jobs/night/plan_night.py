"""Whether the night trains → plan.json, for all that works on the night's tables later."""

import json
from pathlib import Path

from jobs.engine.nights import PLAN
from jobs.engine.run import Run, Step


def plan_night(run: Run, out: Path) -> str:
    """Write down whether the night trains."""
    (out / PLAN).write_text(json.dumps({"trains": run.trains}))
    return f"trains on {len(run.training_days)} days" if run.trains else "trains no new version"


PLAN_NIGHT = Step("plan_night", plan_night, (PLAN,), depends_on=lambda run: [run.trains, run.training_days])
