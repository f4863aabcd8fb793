import json
import re
import uuid
from datetime import datetime
from pathlib import Path

import pytest

import jobs.engine.lineage
from jobs.engine.lineage import dataset_name
from jobs.engine.nights import night
from jobs.engine.run import Run, Step
from jobs.night.nightly import nightly, steps_of_night
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.config.settings import Settings, load_settings
from recsys.errors import ConfigurationError, InputError
from recsys.tables.night import RANKINGS, USER_HISTORIES
from tests.helpers.posted import Collector, collecting
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS
from tests.helpers.yaml_text import yaml_text

FACETS = {
    "run": {"nominalTime", "processing_engine", "parent", "errorMessage"},
    "job": {"jobType", "documentation"},
    "datasets": {"version", "dataSource", "schema"},
    "outputFacets": {"outputStatistics"},
}


def events_of(server: Collector) -> list[dict]:
    return [json.loads(post.body) for post in server.posts]


def check_event(event: dict) -> None:
    """Check what the specification requires of every event and facet."""
    assert event["eventType"] in ("START", "COMPLETE", "FAIL")
    assert datetime.fromisoformat(event["eventTime"]).utcoffset() is not None
    assert uuid.UUID(event["run"]["runId"])
    assert event["job"]["namespace"]
    assert event["job"]["name"]
    assert re.match("urn:flash-sale-recsys", event["producer"])
    datasets = [*event["inputs"], *event["outputs"]]
    assert all(each["namespace"] and each["name"] for each in datasets)
    found = {"run": [event["run"]["facets"]], "job": [event["job"]["facets"]]}
    found["datasets"] = [each.get("facets", {}) for each in datasets]
    found["outputFacets"] = [each["outputFacets"] for each in event["outputs"] if "outputFacets" in each]
    for kind, named in found.items():
        for facets in named:
            assert set(facets) <= FACETS[kind]
            for facet in facets.values():
                assert facet["_producer"] == event["producer"]
                assert re.fullmatch(
                    r"https://openlineage.io/spec/facets/[\d-]+/(\w+).json#/\$defs/\1", facet["_schemaURL"]
                )


@MLFLOW_WARNS
def test_events_of_a_night_say_what_each_step_read_and_wrote(shop):
    with collecting() as server:
        settings = shop.settings(nights={"lineage": f"{server.url}/api/v1/lineage"})
        run = night(settings)
        nightly(run)
    assert {post.path for post in server.posts} == {"/api/v1/lineage"}
    events = events_of(server)
    for event in events:
        check_event(event)
    first, last = events[0], events[-1]
    assert [(each["eventType"], each["job"]["name"]) for each in (first, last)] == [
        ("START", "nights"),
        ("COMPLETE", "nights"),
    ]
    of_steps = events[1:-1]
    assert [each["eventType"] for each in of_steps] == ["START", "COMPLETE"] * (len(of_steps) // 2)
    done = {each["job"]["name"].removeprefix("nights."): each for each in of_steps[1::2]}
    order = [step.name for step in steps_of_night(trains=True)]
    assert list(done) == [name for name in order if name in done]
    assert {"validate_tables", "build_histories", "train_meta_model", "score_users", "publish_snapshot"} < set(done)
    assert [each["run"]["runId"] for each in of_steps[::2]] == [each["run"]["runId"] for each in of_steps[1::2]]
    folder = Path(settings.folder).resolve()
    for event in of_steps:
        facets = event["run"]["facets"]
        assert facets["parent"]["run"]["runId"] == first["run"]["runId"] == last["run"]["runId"]
        assert facets["parent"]["job"] == {"namespace": folder.as_uri(), "name": "nights"}
        assert datetime.fromisoformat(facets["nominalTime"]["nominalStartTime"]) == AS_OF
    steps = {step.name: step for step in steps_of_night(trains=True)}
    for name, event in done.items():
        declared = [str(folder / "nights" / output) for each in steps[name].inputs for output in each.outputs]
        raw = [each.path for each in settings.source.raw.values()] if name == "validate_tables" else []
        assert [each["name"] for each in event["inputs"]] == [*raw, *declared]
        assert [each["name"] for each in event["outputs"]] == [
            str(folder / "nights" / output) for output in steps[name].outputs
        ]
    (rankings,) = done["score_users"]["outputs"]
    written = run.outputs / "rankings"
    sizes = [path.stat().st_size for path in written.glob("*.parquet")]
    statistics = rankings["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (
        RANKINGS.rows(run.outputs),
        sum(sizes),
        len(sizes),
    )
    assert rankings["facets"]["dataSource"]["uri"] == written.resolve().as_uri()
    (histories, _) = done["build_histories"]["outputs"]
    assert [each["name"] for each in histories["facets"]["schema"]["fields"]] == list(USER_HISTORIES.columns)
    read = next(each for each in done["score_users"]["inputs"] if each["name"].endswith("/fitted_recommenders"))
    wrote = done["fit_recommenders"]["outputs"][0]
    assert read["facets"]["version"]["datasetVersion"] == wrote["facets"]["version"]["datasetVersion"]


def test_raw_tables_are_the_inputs_of_their_validation(tmp_path):
    raw = {
        "clicks": {"pattern": "/data/2026-*/*.csv", "format": "csv"},
        "orders": {"path": "s3a://lake/shop/orders"},
        "offers": {"table": "shop.offers"},
    }
    nights = {"lineage": str(tmp_path / "lineage.jsonl")}
    source = {"sql": "sql", "raw": raw}
    settings = Settings.model_validate({"folder": str(tmp_path), "source": source, "nights": nights})
    step = Step(VALIDATE_TABLES.name, lambda run, out: "read", (), reads=VALIDATE_TABLES.reads)
    Run(settings, tmp_path / "nights" / "n", 0, [], []).do((step,))
    event = json.loads((tmp_path / "lineage.jsonl").read_text().splitlines()[0])
    assert [(each["namespace"], each["name"]) for each in event["inputs"]] == [
        ("file", "/data/2026-*/*.csv"),
        ("s3://lake", "shop/orders"),
        ("spark_catalog", "shop.offers"),
    ]


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("s3://bucket/shop/nights/rankings", ("s3://bucket", "shop/nights/rankings")),
        ("gs://bucket/rankings/", ("gs://bucket", "rankings")),
        ("hdfs://head:8020/raw/events", ("hdfs://head:8020", "raw/events")),
        ("file:///var/lib/recsys/rankings", ("file", "/var/lib/recsys/rankings")),
    ],
)
def test_dataset_is_named_by_its_store_and_path(where, named):
    assert dataset_name(where) == named


@pytest.fixture
def do(tmp_path, monkeypatch):
    """Return a function that runs four steps, which fail if they are to, with lineage to a target."""
    monkeypatch.setattr("jobs.engine.run.code_version", lambda step: "the same")

    def run(target: str, fails: bool = False) -> None:
        def write(run: Run, out: Path) -> str:
            """Write one file."""
            if fails:
                raise InputError("half-way\nthe second line")
            (out / "a.json").write_text("{}")
            return "done"

        settings = {"folder": str(tmp_path), "source": {"sql": "sql", "raw": {}}, "nights": {"lineage": target}}
        steps = tuple(Step(name, write, ("a.json",)) for name in ("a", "b", "c", "d"))
        Run(Settings.model_validate(settings), tmp_path / "nights" / "n", 0, [], []).do(steps)

    return run


def test_step_that_fails_sends_fail_with_its_message(do):
    with collecting() as server, pytest.raises(InputError, match="half-way"):
        do(server.url, fails=True)
    started, failed = events_of(server)
    check_event(failed)
    assert (started["eventType"], failed["eventType"]) == ("START", "FAIL")
    assert started["run"]["runId"] == failed["run"]["runId"]
    assert failed["run"]["facets"]["errorMessage"]["message"] == "half-way"
    assert started["job"]["facets"]["documentation"]["description"] == "Write one file."


def test_events_are_appended_to_a_file(do, tmp_path):
    (tmp_path / "lineage.jsonl").write_text("before\n")
    do(str(tmp_path / "lineage.jsonl"))
    before, *lines = (tmp_path / "lineage.jsonl").read_text().splitlines()
    assert before == "before"
    events = [json.loads(line) for line in lines]
    assert [(each["eventType"], each["job"]["name"]) for each in events] == [
        (kind, f"nights.{step}") for step in "abcd" for kind in ("START", "COMPLETE")
    ]


def test_server_that_refuses_is_reported_once_and_then_left_alone(do, caplog):
    with collecting() as server:
        server.status = 503
        do(server.url)
    assert caplog.text.count("lineage does not reach nights.lineage") == 1
    assert len(server.posts) == jobs.engine.lineage._MOST_FAILURES  # of eight events
    assert f"'{server.url}' (HTTP Error 503" in caplog.text


def test_key_and_namespace_of_the_environment_are_used(do, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "s3cret")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "shop of France")
    with collecting() as server:
        do(server.url)
    assert {post.headers["Authorization"] for post in server.posts} == {"Bearer s3cret"}
    assert {each["job"]["namespace"] for each in events_of(server)} == {"shop of France"}
    assert "s3cret" not in "".join(post.body for post in server.posts)


def test_lineage_to_an_unknown_kind_of_url_is_refused(tmp_path):
    content = {"folder": str(tmp_path), "source": {"sql": "s", "raw": {}}, "nights": {"lineage": "kafka://broker"}}
    (tmp_path / "shop.yaml").write_text(yaml_text(content))
    with pytest.raises(ConfigurationError, match=r"nights.lineage.*must be an http:// or https:// URL"):
        load_settings(tmp_path / "shop.yaml")
