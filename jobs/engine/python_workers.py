"""The process that Spark forks its Python workers from, with what all of them need already imported.

A worker that imports by itself takes 1.9 CPU seconds before its first row, and shares no memory of what it imported.
Run by Spark, see `spark.python.daemon.module` in session.py.
"""

import gc

# Nothing here may start a thread: a process with threads must not fork.
import pyspark.worker  # noqa: F401
from pyspark import daemon

import recsys.pipeline.evaluation
import recsys.pipeline.event_days
import recsys.pipeline.examples
import recsys.pipeline.experiment_health
import recsys.pipeline.fitting
import recsys.pipeline.history_parts
import recsys.pipeline.leaks
import recsys.pipeline.outcome_sums
import recsys.pipeline.rankings
import recsys.pipeline.segments  # noqa: F401

if __name__ == "__main__":
    gc.freeze()  # a worker collects garbage after each task: without this it would look at, and copy, what is imported
    daemon.manager()
