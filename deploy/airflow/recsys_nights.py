"""Airflow 3 runs the nights: a DAG for each way, one for past nights, and one that tells when nothing was published.

Copy this file to Airflow's folder of DAGs, and set in the environment of its workers and of its DAG processor:

    RECSYS_CONF        the shop's configuration; /etc/recsys/shop.yaml by default
    RECSYS_COMMAND     the command; recsys by default, /opt/recsys/bin/recsys in an environment of its own
    RECSYS_PACK        the folder that `recsys pack` wrote, for recsys_night_by_step; /opt/recsys/pack by default
    RECSYS_SUBMIT      spark-submit with its options, such as: spark-submit --master yarn
    RECSYS_ALERT_URL   webhook that is posted {"text": …} when a task has failed for good; only logged by default

Unpause recsys_night or recsys_night_by_step, not both, and recsys_published.
"""

import json
import logging
import os
import urllib.request
from datetime import UTC, datetime, timedelta
from shlex import quote
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param, chain

CONF = os.environ.get("RECSYS_CONF", "/etc/recsys/shop.yaml")
COMMAND = os.environ.get("RECSYS_COMMAND", "recsys")
PACK = os.environ.get("RECSYS_PACK", "/opt/recsys/pack")
SUBMIT = os.environ.get("RECSYS_SUBMIT", "spark-submit")
ALERT_URL = os.environ.get("RECSYS_ALERT_URL")

STEPS = (
    "plan_night",
    "validate_tables",
    "build_histories",
    "tag_images",
    "build_themes",
    "train_towers",
    "fit_recommenders",
    "build_training_set",
    "train_meta_model",
    "rank_segments",
    "prepare_experiments",
    "score_users",
    "check_night",
)
"""The night's steps that are jobs of their own, in its order; those of the training do nothing on other nights."""
# A day's run is due after its midnight, also if it is repeated or caught up later.
AS_OF = "{{ dag_run.run_after.strftime('%Y-%m-%d') }}"


def alert(context: dict[str, Any]) -> None:
    """Tell that a task has failed for good; Airflow calls it after the last retry."""
    task = context["ti"]
    text = f"recsys: {task.task_id} of {task.dag_id}, run {task.run_id}, failed: {context.get('exception')}"
    logging.getLogger(__name__).error(text)
    if ALERT_URL:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(ALERT_URL, json.dumps({"text": text}).encode(), headers)
        urllib.request.urlopen(request, timeout=10).close()


def dag(name: str, about: str, schedule: str | None, **others: Any) -> DAG:
    """Return a DAG of which one run is active at a time, and that starts none for days that have passed.

    A task that fails is repeated: finished steps are not redone. One that exceeds its time is ended, and repeated too.
    """
    task = {
        "retries": 3,
        "retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=4),
        "on_failure_callback": alert,
        "append_env": True,
    }
    return DAG(
        name,
        description=about,
        schedule=schedule,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args=task,
        tags=["recsys"],
        **others,
    )


def command(task: str, arguments: str, **others: Any) -> BashOperator:
    """Return a task that runs a command of `recsys` on the shop; words in arguments may be templates."""
    words, _, options = arguments.partition(" --")
    line = f"{COMMAND} {words} --conf {quote(CONF)}" + (f" --{options}" if options else "")
    return BashOperator(task_id=task, bash_command=line, **others)


def step(name: str) -> BashOperator:
    """Return a task that runs one step of the night by spark-submit, after those before it that are due."""
    pack = quote(PACK)
    job = f"{SUBMIT} --py-files {pack}/recsys.zip {pack}/job.py jobs.night.{name} --conf {quote(CONF)} --as-of {AS_OF}"
    return BashOperator(task_id=name, bash_command=job)


def check_published() -> BashOperator:
    """Return a task that fails if the served snapshot is of an earlier night; it is not repeated."""
    return command("check_published", f"snapshots check --as-of {AS_OF}", retries=0)


with dag("recsys_night", "The night by one command", "10 0 * * *"):
    chain(command("nightly", f"nightly --as-of {AS_OF}"), check_published())

with dag("recsys_night_by_step", "The night, a job of Spark for each step", "10 0 * * *"):
    # The night itself comes last: it finds the steps done, publishes, pushes to Redis and removes old tables. It also
    # comes where a step failed for good: it tries that step again, and publishes a shop without open sales, whose pages
    # are empty.
    night = command("nightly", f"nightly --as-of {AS_OF}", trigger_rule="all_done")
    tasks = [command("exposures", "exposures"), *map(step, STEPS), night]
    chain(*tasks, check_published())

with dag("recsys_published", "Whether tonight's snapshot is served, however the night was started", "0 6 * * *"):
    check_published()

DAY = {"type": "string", "format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
with dag(
    "recsys_backfill",
    "Nights of the past, which are kept and not published",
    None,
    params={"first": Param("2026-02-01", **DAY), "last": Param("2026-02-28", **DAY)},
):
    command(
        "backfill", "backfill --from {{ params.first }} --to {{ params.last }}", execution_timeout=timedelta(days=7)
    )
