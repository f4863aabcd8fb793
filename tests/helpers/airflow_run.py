"""Run a DAG by Airflow's test runner, in an interpreter that has Airflow: python airflow_run.py FOLDER DAG RUN_AFTER.

The last line of the output is JSON: the state of the run and of each task.
"""

import json
import sys
from datetime import datetime

from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
run = bag.dags[sys.argv[2]].test(run_after=datetime.fromisoformat(sys.argv[3]), logical_date=None)
states = {task.task_id: str(task.state) for task in run.get_task_instances()}
print(json.dumps({"run": str(run.state), "tasks": states}))
