"""Lineage of runs: OpenLineage events that say which step read which tables, and what it wrote.

The events are plain JSON by the specification of openlineage.io, which Marquez, DataHub and others read.
"""

import json
import logging
import os
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from recsys.config.pipeline import RawTable
from recsys.instants import from_micros
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place, absolute
from recsys.tables.parts import PARTS, first_schema, parts_of

API_KEY = "OPENLINEAGE_API_KEY"
"""Environment variable with the key that a server of events asks for; the name is OpenLineage's own."""
NAMESPACE = "OPENLINEAGE_NAMESPACE"
"""Environment variable with the namespace of the jobs, OpenLineage's own too; without it, the shop's folder."""
_SPECIFICATION = "https://openlineage.io/spec"
_PRODUCT = "flash-sale-recsys"
_TIMEOUT_SECONDS = 5.0
_MOST_FAILURES = 3  # in a row: a night must not wait for 30 time-outs

Json = dict[str, Any]
_log = logging.getLogger(__name__)


class StepTables(NamedTuple):
    """What a step reads and writes."""

    step: str
    about: str
    """What it does, in a sentence."""
    raw: tuple[RawTable, ...]
    inputs: dict[str, str]
    """Version of each output of earlier steps that it reads: the digest of all that it was made from."""
    outputs: tuple[str, ...]
    version: str
    """Version of its outputs."""
    written: Callable[[], Outputs]
    """Returns where its outputs are, once they are true."""


class Lineage:
    """The events of one run of steps, posted to a server or appended to a file; a failure is reported once.

    Each step is a run of job `<kind>.<step>`, whose parent is a run of job `<kind>`, such as `nights`.
    """

    def __init__(self, target: str | None, folder: Place, as_of: int) -> None:
        """Prepare the events of a run.

        Args:
            target: URL that events are posted to, or a file; no events without.
            folder: The run's folder, `<shop's folder>/<kind>/<instant>`.
            as_of: The run's instant, microseconds UTC.
        """
        self._target = target
        self._tables = absolute(folder.parent)
        self._namespace = os.environ.get(NAMESPACE) or _uri(self._tables.parent)
        self._kind, self._run_id = self._tables.name, str(uuid.uuid4())
        self._as_of = from_micros(as_of)
        self._failures = 0

    @contextmanager
    def of_run(self) -> Iterator[None]:
        """Send START, and COMPLETE or FAIL, of the run that the steps within belong to."""
        with self._events(lambda _: self._event(self._run_id, self._kind)):
            yield

    @contextmanager
    def of_step(self, tables: StepTables) -> Iterator[None]:
        """Send START of a step that is run within and, once its outputs are true, COMPLETE; FAIL otherwise."""
        run_id = str(uuid.uuid4())
        with self._events(lambda is_done: self._event_of_step(run_id, tables, is_done)):
            yield

    @contextmanager
    def _events(self, event: Callable[[bool], Json]) -> Iterator[None]:
        """Send the first and the last event of what is done within; each is made when it is due, done or not."""
        if self._target is None:
            yield
            return
        self._send("START", lambda: event(False))
        try:
            yield
        except BaseException as error:
            message = str(error).partition("\n")[0] or repr(error)
            self._send("FAIL", lambda: _with_error(event(False), message))
            raise
        self._send("COMPLETE", lambda: event(True))

    def _send(self, event_type: str, event: Callable[[], Json]) -> None:
        """Send an event; whatever is wrong with it or its way must not stop the run."""
        assert self._target is not None
        if self._failures >= _MOST_FAILURES:
            return
        try:
            head = {"eventType": event_type, "eventTime": datetime.now(UTC).isoformat(), "producer": producer()}
            _deliver(json.dumps({**head, **event()}), self._target)
            self._failures = 0
        except Exception as error:
            _log.debug("no event of the lineage", exc_info=True)
            if not self._failures:
                _log.warning(f"    lineage does not reach nights.lineage == '{self._target}' ({error})")
            self._failures += 1

    def _event(self, run_id: str, job: str) -> Json:
        nominal = facet("NominalTimeRunFacet", "1-0-1", nominalStartTime=self._as_of.isoformat())
        kind = facet("JobTypeJobFacet", "2-0-4", processingType="BATCH", integration="SPARK", jobType="JOB")
        return {
            "run": {"runId": run_id, "facets": {"nominalTime": nominal, "processing_engine": _engine()}},
            "job": {"namespace": self._namespace, "name": job, "facets": {"jobType": kind}},
            "inputs": [],
            "outputs": [],
        }

    def _event_of_step(self, run_id: str, tables: StepTables, is_done: bool) -> Json:
        event = self._event(run_id, f"{self._kind}.{tables.step}")
        parent = {"run": {"runId": self._run_id}, "job": {"namespace": self._namespace, "name": self._kind}}
        event["run"]["facets"]["parent"] = facet("ParentRunFacet", "1-2-0", **parent)
        event["job"]["facets"]["documentation"] = facet("DocumentationJobFacet", "1-1-0", description=tables.about)
        event["inputs"] = [_raw_dataset(table) for table in tables.raw]
        event["inputs"] += [self._dataset(name, version) for name, version in tables.inputs.items()]
        event["outputs"] = [self._dataset(name, tables.version) for name in tables.outputs]
        if is_done:
            outputs = tables.written()
            for dataset, name in zip(event["outputs"], tables.outputs, strict=True):
                _describe(dataset, outputs / name)
        return event

    def _dataset(self, output: str, made_from: str) -> Json:
        """Return an output by its name, which is the same on each night, with its version."""
        namespace, name = dataset_name(str(self._tables / output))
        version = facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=made_from)
        return {"namespace": namespace, "name": name, "facets": {"version": version}}


def dataset_name(where: str) -> tuple[str, str]:
    """Return a path or URL as OpenLineage names it: a namespace, and a name in it."""
    if "://" not in where or where.startswith("file://"):
        return "file", str(Path(where.removeprefix("file://")).resolve())
    url = urlsplit(where.replace("s3a://", "s3://", 1))
    return f"{url.scheme}://{url.netloc}", url.path.strip("/")


def _describe(dataset: Json, written: Place) -> None:
    """Add the place of an output that is there and, if it is a table, its columns, rows and bytes."""
    source = facet("DatasourceDatasetFacet", "1-0-1", name=dataset["name"], uri=_uri(written))
    dataset["facets"]["dataSource"] = source
    if (written / PARTS).exists():
        parts = parts_of(written)
        sums = {"rowCount": sum(part.rows for part in parts), "size": sum(part.bytes for part in parts)}
        counts = facet("OutputStatisticsOutputDatasetFacet", "1-0-2", **sums, fileCount=len(parts))
        dataset["outputFacets"] = {"outputStatistics": counts}
        columns = [{"name": each.name, "type": str(each.type)} for each in first_schema(written)] if parts else []
        dataset["facets"]["schema"] = facet("SchemaDatasetFacet", "1-2-0", fields=columns)


def facet(name: str, schema_version: str, /, **values: Any) -> Json:
    """Return a facet: values whose meaning the specification's file of that name and version states."""
    schema = f"{_SPECIFICATION}/facets/{schema_version}/{name}.json#/$defs/{name}"
    return {"_producer": producer(), "_schemaURL": schema, **values}


def producer() -> str:
    """Return the URI that names this version of the project in events."""
    try:
        return f"urn:{_PRODUCT}:{version(_PRODUCT)}"
    except PackageNotFoundError:  # the code came as a zip file
        return f"urn:{_PRODUCT}"


def _raw_dataset(table: RawTable) -> Json:
    if table.table is not None:
        return {"namespace": "spark_catalog", "name": table.table}
    namespace, name = dataset_name(table.path or table.pattern or "")
    return {"namespace": namespace, "name": name}


def _with_error(event: Json, message: str) -> Json:
    event["run"]["facets"]["errorMessage"] = facet(
        "ErrorMessageRunFacet", "1-0-1", message=message, programmingLanguage="PYTHON"
    )
    return event


def _engine() -> Json:
    return facet("ProcessingEngineRunFacet", "1-1-1", name="spark", version=version("pyspark"))


def _uri(where: Place) -> str:
    return where.as_uri() if isinstance(where, Path) else str(where)


def _deliver(event: str, target: str) -> None:
    if not target.startswith(("http://", "https://")):
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(f"{event}\n")
        return
    key = os.environ.get(API_KEY)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(target, event.encode(), headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
        pass
