"""Proves that the executors of a cluster can run a night, before its first step."""

import json
import logging
import re
import secrets

from pyspark import SparkContext
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from jobs.engine.executor_facts import TOKEN, Facts, digest_of_code, packages
from jobs.engine.session import PARTITIONS_PER_CORE
from recsys.errors import ConfigurationError
from recsys.spark_errors import SPARK_ERRORS, first_line
from recsys.storage.places import Place, absolute, put, remove
from recsys.wording import plural

_TASKS_BY_CONNECT = 64
"""Number of tasks that ask executors whose number Spark Connect does not tell."""
_SECONDS = 0.2
"""Minimum duration of a task, so that one executor does not take those of all others."""
_log = logging.getLogger(__name__)


def check_executors(spark: SparkSession, folder: Place) -> None:
    """Check that every executor of a cluster sees a run's folder and has the driver's packages and code.

    Each reads a token that the driver wrote and writes one back: an executor that writes to a disk of its own would
    leave a table without its rows. Executors that the cluster adds later are not asked. Then shuffles get partitions by
    the cluster's cores, unless somebody has set their number.

    Raises:
        ConfigurationError: If an executor fails; names all hosts that do, what they lack and the next step.
    """
    proof, token = absolute(folder) / f".executors-{secrets.token_hex(4)}", secrets.token_hex(16)
    try:
        put(proof / TOKEN, token)
        found: dict[str, Facts] = {}
        while new := {each.executor: each for each in _ask(spark, proof, token) if each.executor not in found}:
            found |= new  # ask again: further ones may have registered meanwhile
        problems = {each.host: problem for each in found.values() if (problem := _problem(each, proof, token))}
    finally:
        remove(proof)
    if problems:
        raise ConfigurationError("; ".join(f"executor on {host}: {why}" for host, why in sorted(problems.items())))
    hosts = sorted({each.host for each in found.values()})
    _log.info(f"  {plural(len(found), 'executor')} on {', '.join(hosts[:5])}{' …' * (len(hosts) > 5)} see {folder}")
    _spread_shuffles(spark)


def _ask(spark: SparkSession, proof: Place, token: str) -> list[Facts]:
    folder = str(proof)

    def answer(_: int) -> str:
        import json
        import time

        from jobs.engine.executor_facts import facts

        time.sleep(_SECONDS)
        return json.dumps(facts(folder, token))

    tasks = 2 * _cores() or _TASKS_BY_CONNECT
    try:
        rows = spark.range(0, tasks, 1, tasks).select(f.udf(answer, "string", useArrow=False)("id")).collect()
    except SPARK_ERRORS as error:
        host = re.search(r"\((\S+) executor \S+\)", str(error))
        raise ConfigurationError(
            f"executor{f' on {host[1]}' if host else ''} cannot run Python as the driver does ({first_line(error)}): "
            "set spark.python to a Python of the driver's version with the same packages, see docs/cluster.md"
        ) from error
    return [Facts(*json.loads(answer)) for (answer,) in set(rows)]


def _problem(found: Facts, proof: Place, token: str) -> str:
    """Return what is wrong with an executor, and the next step; empty if nothing is."""
    mine = packages()
    others = [
        f"{name} {found.packages[name] or 'missing'} (driver: {mine[name]})"
        for name in mine
        if found.packages[name] != mine[name]
    ]
    if others:
        return (
            f"{found.python} has {', '.join(others)}, must have the driver's packages: install them, or set "
            "spark.python to the Python that has them"
        )
    if found.code != digest_of_code():
        return (
            f"the project's code there is {found.code}, must be the driver's, {digest_of_code()}: give spark-submit "
            "--py-files the file that 'recsys pack' writes"
        )
    written = proof / found.executor
    if not found.problem and not (written.exists() and written.read_text() == token):
        return f"what it writes to {proof.parent} is not seen here: {_SHARE}"
    return f"what is written here to {proof.parent} is not seen there ({found.problem}): {_SHARE}" * bool(found.problem)


_SHARE = (
    "'folder' must be one that all machines read and write under the same path, or a URL of an object store for which "
    "all have credentials"
)


def _cores() -> int:
    """Return the number of cores that executors have so far; 0 where Spark Connect does not tell."""
    context = SparkContext._active_spark_context
    return context.defaultParallelism if context else 0


def _spread_shuffles(spark: SparkSession) -> None:
    context = SparkContext._active_spark_context
    if context and not context.getConf().contains("spark.sql.shuffle.partitions"):
        spark.conf.set("spark.sql.shuffle.partitions", PARTITIONS_PER_CORE * _cores())
