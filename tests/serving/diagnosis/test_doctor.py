"""Each check of `recsys doctor`, passing and failing."""

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.config.serving import AccessSettings, Caller, ServingSettings, StoreSettings, TlsSettings
from recsys.config.settings import MlflowSettings, Settings
from recsys.console import TextConsole
from recsys.instants import SECOND
from recsys.snapshot.format import LeftOut
from serving.diagnosis import installation_checks, service_checks
from serving.diagnosis.doctor import Finding, diagnose, print_findings
from serving.process.threads import AnswerThreads
from serving.stores.redis_snapshots import push
from tests.helpers.tls_pair import tls_pair
from tests.helpers.waiting import wait_until

TOKEN = "a-token-that-nobody-guesses"
ADMIN = Caller(name="ops", role="admin", token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())
RULES = "schema_version: 1\nrules:\n  - {kind: bury, name: last, match: {sale_id: s01}}\n"
SERVICE_CHECKS = {"health", "page", "latency", "status", "exposures", "clock", "metrics"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def settings_of(shop, tracking_uri: str | None = None, **serving: object) -> Settings:
    """The settings of a shop; by default nothing listens on its port."""
    defaults = {"port": free_port(), "admin_port": None, "metrics_port": None, "workers": 1}
    return Settings(
        folder=str(shop.root.parent),
        source={"sql": "nowhere", "raw": {}},
        mlflow=MlflowSettings(tracking_uri=tracking_uri),
        serving=ServingSettings(**{**defaults, **serving}),
    )


def served(shop, **serving: object) -> Settings:
    """The settings of a running service."""
    server = shop.serve(**{"metrics_port": 0, **serving})
    admin_port = int(server.admin_target.rpartition(":")[2])
    ports = {"port": server.port, "admin_port": admin_port, "metrics_port": server.metrics_port}
    return settings_of(shop, **{**serving, **ports})


def findings_of(shop, settings: Settings, target: str | None = None, token: str | None = None) -> dict[str, Finding]:
    findings = diagnose(settings, target, token, shop.clock)
    assert len({finding.name for finding in findings}) == len(findings)
    for finding in findings:
        assert bool(finding.advice) == (finding.status != "OK"), finding
    return {finding.name: finding for finding in findings}


def statuses(findings: dict[str, Finding], status: str) -> set[str]:
    return {name for name, finding in findings.items() if finding.status == status}


@pytest.fixture
def patient(monkeypatch) -> None:
    """Accept the latency of a busy machine."""
    monkeypatch.setattr(service_checks, "_SLOW_SECONDS", 10.0)


def test_healthy_installation_has_only_ok_findings(shop, night, patient):
    findings = findings_of(shop, served(shop))
    assert statuses(findings, "OK") == set(findings) >= SERVICE_CHECKS
    assert "10 open sales" in findings["page"].found
    assert "for 1 of 1 worker" in findings["metrics"].found


def test_target_of_the_command_overrides_the_configured_port(published):
    running, elsewhere = served(published), free_port()
    settings = running.model_copy(update={"serving": running.serving.model_copy(update={"port": elsewhere})})
    assert findings_of(published, settings)["service"].status == "FAIL"
    assert findings_of(published, settings, f"localhost:{running.serving.port}")["health"].status != "FAIL"


def test_service_that_does_not_run_is_one_finding(published):
    findings = findings_of(published, settings_of(published, metrics_port=free_port()))
    assert statuses(findings, "FAIL") == {"service"}
    assert not SERVICE_CHECKS - {"metrics"} & set(findings)
    assert "recsys serve" in findings["service"].advice
    assert findings["metrics"].status == "WARN"


def test_ports_that_are_switched_off_are_not_checked(published):
    findings = findings_of(published, settings_of(published, port=served(published).serving.port))
    assert "not asked" in findings["status"].found
    assert "not asked" in findings["metrics"].found


def test_service_that_hangs_is_a_failure_after_the_timeout(published, monkeypatch):
    monkeypatch.setattr(service_checks, "_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        findings = findings_of(published, settings_of(published, port=port, metrics_port=port))
    assert (findings["service"].status, findings["metrics"].status) == ("FAIL", "WARN")


def test_service_without_a_snapshot_is_not_ready_and_says_so_once(shop):
    findings = findings_of(shop, served(shop))
    assert statuses(findings, "FAIL") == {"snapshot", "health"}
    assert "page" not in findings
    assert findings["status"].found.endswith("0 open sales, no problem")


def test_problems_of_the_service_are_reported(shop, night):
    shop.clock.set(36)
    settings = served(shop)
    findings = findings_of(shop, settings)
    assert findings["health"].status == "WARN"
    assert findings["status"].status == "WARN"
    assert "recsys nightly" in findings["status"].found


def test_lost_exposures_fail(published):
    (published.root.parent / "exposures").write_text("a file where the folder should be")
    settings = served(published, exposures={"max_queued": 1, "flush_seconds": 0.01})
    finding = findings_of(published, settings)["exposures"]
    assert finding.status == "FAIL"
    assert "0 lost" not in finding.found


def test_clock_that_is_two_seconds_off_is_reported_unless_it_is_a_replay(shop, published):
    settings = served(published)
    ahead = {each.name: each for each in diagnose(settings, clock=lambda: shop.clock() + 2 * SECOND)}
    behind = {each.name: each for each in diagnose(settings, clock=lambda: shop.clock() - 2 * SECOND)}
    assert "2.0 s apart" in ahead["clock"].found
    assert ahead["clock"].status == behind["clock"].status == "WARN"
    replayed = settings.model_copy(update={"serving": settings.serving.model_copy(update={"clock": "replay"})})
    assert statuses(findings_of(shop, replayed), "WARN") >= {"configuration"}
    assert "not compared" in findings_of(shop, replayed)["clock"].found


def test_port_where_something_else_answers_is_no_port_of_metrics(published):
    running = served(published)
    settings = running.model_copy(
        update={"serving": running.serving.model_copy(update={"metrics_port": running.serving.port})}
    )
    finding = findings_of(published, settings)["metrics"]
    assert (finding.status, "gives no metrics of the service" in finding.found) == ("WARN", True)


def test_missing_workers_are_reported(published):
    running = served(published)
    settings = running.model_copy(update={"serving": running.serving.model_copy(update={"workers": 3})})
    finding = findings_of(published, settings)["metrics"]
    assert (finding.status, finding.found.partition(" answers ")[2]) == ("WARN", "for 1 of 3 workers")


def test_slow_pages_are_reported(published, monkeypatch):
    monkeypatch.setattr(service_checks, "_SLOW_SECONDS", 0.0)
    assert findings_of(published, served(published))["latency"].status == "WARN"


class Careless(pb_grpc.RecommendationsServicer, health_pb2_grpc.HealthServicer):
    """Shows two sales at 12 s: one is open from then on, the other until then."""

    def GetTopSales(self, request, context):  # noqa: ARG002, N802
        page = pb.GetTopSalesResponse(snapshot="s", answer_time={"seconds": 12})
        for sale_id, opens, closes in (("opens", 12, 13), ("closes", 11, 12)):
            page.sales.add(sale_id=sale_id, open_time={"seconds": opens}, close_time={"seconds": closes})
        return page

    def Check(self, request, context):  # noqa: ARG002, N802
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


def test_sale_that_is_not_open_fails(published):
    server = grpc.server(AnswerThreads(1, 1))
    pb_grpc.add_RecommendationsServicer_to_server(Careless(), server)
    health_pb2_grpc.add_HealthServicer_to_server(Careless(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        finding = findings_of(published, settings_of(published, port=port))["page"]
    finally:
        server.stop(None).wait()
    assert (finding.status, finding.found) == ("FAIL", "shows closes, not open")


def test_page_with_few_sales_names_the_reason(shop, make_sale):
    shop.publish([make_sale("a")], {})
    finding = findings_of(shop, served(shop))["page"]
    assert finding.status == "WARN"
    assert finding.found.startswith("1 open sale of snapshot")


def test_token_is_required_where_callers_are_configured(published):
    settings = served(published, access=AccessSettings(callers=(ADMIN,)))
    without = findings_of(published, settings)
    assert statuses(without, "FAIL") == {"page", "status"}
    assert "RECSYS_TOKEN" in without["page"].advice
    assert not statuses(findings_of(published, settings, token=TOKEN), "FAIL")


@pytest.mark.parametrize(
    ("host", "secured", "missing"),
    [
        ("127.0.0.1", (), ()),
        ("0.0.0.0", (), ("access.callers", "tls")),
        ("10.0.0.7", ("access",), ("tls",)),
        ("::", ("tls",), ("access.callers",)),
        ("0.0.0.0", ("access", "tls"), ()),
    ],
)
def test_missing_access_control_or_encryption_is_reported(shop, host, secured, missing):
    secure = {"access": AccessSettings(callers=(ADMIN,)), "tls": TlsSettings(certificate="c", key="k")}
    settings = settings_of(shop, host=host, **{key: secure[key] for key in secured})
    finding = installation_checks.doors(settings, 0)
    assert finding.status == ("WARN" if missing else "OK")
    assert all((f"'serving.{key}'" in finding.advice) == (key in missing) for key in ("access.callers", "tls"))


@pytest.mark.parametrize(("days", "expected"), [(30, "OK"), (13.9, "WARN"), (-1, "FAIL")])
def test_certificate_is_reported_before_it_expires(shop, tmp_path, days, expected):
    settings = settings_of(shop, tls=tls_pair(tmp_path / "tls", days))
    finding = installation_checks.certificate(settings, now_here())
    assert finding.status == expected
    assert ("expired" if days < 0 else f"expires in {days:.0f} days") in finding.found


def test_certificate_without_its_key_or_file_fails(shop, tmp_path):
    one, other = tls_pair(tmp_path / "one", 30), tls_pair(tmp_path / "other", 30)
    for tls in (one.model_copy(update={"key": other.key}), one.model_copy(update={"certificate": "nowhere.crt"})):
        finding = installation_checks.certificate(settings_of(shop, tls=tls), now_here())
        assert finding.status == "FAIL"
        assert tls.certificate in finding.found


@pytest.mark.parametrize(("mutual", "signed_by"), [(False, "recsys.test"), (False, "authority"), (True, "recsys.test")])
def test_service_with_tls_is_checked_by_its_own_certificate(published, tmp_path, mutual, signed_by):
    tls = tls_pair(tmp_path / "tls", 30, signed_by)
    tls = tls.model_copy(update={"client_authority": tls.certificate if mutual else None})
    findings = findings_of(published, served(published, tls=tls, access=AccessSettings(callers=(ADMIN,))), token=TOKEN)
    assert not statuses(findings, "FAIL")
    assert set(findings) >= SERVICE_CHECKS


def now_here() -> int:
    return int(datetime.now(UTC).timestamp() * SECOND)


def test_folder_that_is_missing_fails(shop):
    shutil.rmtree(shop.root.parent)
    findings = findings_of(shop, settings_of(shop))
    assert {"folder", "disk", "snapshot"} <= statuses(findings, "FAIL")


def test_folder_that_cannot_be_written_fails(shop, monkeypatch):
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(installation_checks.tempfile, "TemporaryFile", refuse)
    finding = installation_checks.folder(settings_of(shop), 0)
    assert (finding.status, finding.found) == ("FAIL", f"{shop.root.parent}: Permission denied")


# An hour of 2 workers, each at most 10 requests/s by each of 3 websites: 216,000 exposures of 840 bytes, 0.18 GB.
@pytest.mark.parametrize(("free", "expected"), [(1.07e9, "FAIL"), (1.08e9, "WARN"), (1.25e9, "WARN"), (1.26e9, "OK")])
def test_disk_must_have_room_for_an_hour_of_exposures(shop, monkeypatch, free, expected):
    websites = [ADMIN.model_copy(update={"name": name, "role": "website"}) for name in "abc"]
    access = AccessSettings(callers=(ADMIN, *websites))
    settings = settings_of(shop, workers=2, port=1, limits={"max_per_second": 10.0}, access=access)
    monkeypatch.setattr(installation_checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free)))
    finding = installation_checks.disk(settings, 0)
    assert finding.status == expected
    assert finding.found.endswith("should be 1.3 GB")


def test_disk_must_have_room_for_another_snapshot(shop, make_sale):
    shop.publish([make_sale("a", images=("x" * 100_000_000,))], {})
    assert installation_checks.disk(settings_of(shop), 0).found.endswith("should be 1.2 GB")


@pytest.mark.parametrize(("hours", "expected"), [(0, "OK"), (29.9, "OK"), (30, "WARN"), (35.9, "WARN"), (36, "FAIL")])
def test_snapshot_must_cover_the_present(shop, make_sale, hours, expected):
    shop.publish([make_sale("a")], {})
    shop.clock.set(hours)
    assert installation_checks.snapshot(settings_of(shop), shop.clock()).status == expected
    assert installation_checks.snapshot(settings_of(shop, clock="replay"), shop.clock()).status == "OK"


def test_snapshot_of_the_past_fails_with_the_keys_that_replay_it(shop, make_sale):
    shop.publish([make_sale("a")], {})
    shop.clock.set(36 + 100_563)
    found = installation_checks.snapshot(settings_of(shop), shop.clock())
    assert found.found.endswith("intact; 100,599 h old, its horizon ended 100,563 h ago")
    assert "'as_of: 2026-03-01T00:00:00Z' and 'serving.clock: replay' for data of the past" in found.advice


@pytest.mark.parametrize("rule", ["sale_open", "events_recent"])
def test_night_that_found_data_of_the_past_is_what_doctor_tells(shop, make_sale, rule):
    folder = Path(settings_of(shop).folder) / "nights/20261129T000000Z"
    folder.mkdir(parents=True)
    counts = [
        {"rule": {"name": "price_valid"}, "broken": 3, "examples": ["{}"]},
        {"rule": {"name": rule}, "broken": 9, "examples": ["the last event is of 2011-12-09: set 'as_of: …'"]},
    ]
    (folder / "refused_rule_counts.json").write_text(json.dumps(counts))
    assert installation_checks.snapshot(settings_of(shop), 0).advice == counts[1]["examples"][0]
    shop.publish([make_sale("a")], {})  # without an open sale pages are empty
    finding = installation_checks.snapshot(settings_of(shop), shop.clock())
    assert (finding.status, finding.advice) == ("WARN", counts[1]["examples"][0])
    counts[1]["broken"] = 0
    (folder / "refused_rule_counts.json").write_text(json.dumps(counts))
    assert installation_checks.snapshot(settings_of(shop), shop.clock()).status == "OK"


def test_snapshot_with_a_flipped_bit_fails(shop, make_sale):
    file = shop.root / shop.publish([make_sale("a")], {}) / "sales.json"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    finding = installation_checks.snapshot(settings_of(shop), 0)
    assert finding.status == "FAIL"
    assert "sha256" in finding.found
    assert "recsys nightly" in finding.advice


def test_snapshot_without_the_default_policy_fails(shop, make_sale):
    shop.publish([make_sale("a")], {}, policies=("collaborative",))
    finding = installation_checks.snapshot(settings_of(shop), shop.clock())
    assert (finding.status, "has collaborative, popularity, not meta" in finding.found) == ("FAIL", True)


def test_snapshot_whose_default_policy_the_night_could_not_rank_by_is_served(shop, make_sale):
    shop.publish([make_sale("a")], {}, policies=(), missing_policies=("meta",))
    assert installation_checks.snapshot(settings_of(shop), shop.clock()).status == "OK"


def test_what_the_night_left_out_is_reported_and_warned_of_where_pages_suffer(shop, make_sale):
    unsure = LeftOut(what="check of the ranking", why="2 pages", until="there are more", degrades_pages=False)
    without = LeftOut(what="policy meta", why="no champion", until="there is one")
    assert installation_checks.night(settings_of(shop), 0)[1:3] == ("OK", "not checked: no snapshot on this machine")
    shop.publish([make_sale("a")], {})
    assert installation_checks.night(settings_of(shop), 0) == ("night", "OK", "nothing was left out", "")
    shop.publish([make_sale("a")], {}, left_out=[unsure], fingerprint="2b3c4d5e")
    assert installation_checks.night(settings_of(shop), 0)[1:3] == ("OK", "without check of the ranking: 2 pages")
    shop.publish([make_sale("a")], {}, left_out=[unsure, without], fingerprint="3c4d5e6f")
    assert installation_checks.night(settings_of(shop), 0)[1:] == (
        "WARN",
        "without check of the ranking: 2 pages; without policy meta: no champion",
        "policy meta: until there is one",
    )


def test_snapshot_without_a_ranker_is_reported(shop, make_sale):
    shop.publish([make_sale("a")], {})
    assert installation_checks.ranker(settings_of(shop), 0).status == "WARN"


def test_rules_that_would_be_refused_fail(shop, tmp_path):
    file, settings = tmp_path / "home.yaml", settings_of(shop, rules=str(tmp_path / "home.yaml"))
    for text, expected in [(None, "FAIL"), (RULES, "OK"), (RULES.replace("bury", "burn"), "FAIL")]:
        if text:
            file.write_text(text)
        assert installation_checks.rules(settings, 0).status == expected


EXPERIMENTS = """
schema_version: 1
default: {policy: meta}
experiments:
  - key: recency
    status: running
    start: 2026-03-01T00:00:00Z
    end: 2026-03-08T00:00:00Z
    variants: [{key: control, weight: 0.5, policy: meta}, {key: other, weight: 0.5, policy: popularity}]
    analysis: {primary: [{name: purchases, type: mean, column: purchases}]}
"""


def test_experiments_must_be_valid_servable_and_in_force(shop, make_sale, tmp_path):
    shop.publish([make_sale("a")], {})
    source, in_force = tmp_path / "conf" / "home.yaml", shop.root.parent / "experiments" / "in_force" / "home.yaml"
    source.parent.mkdir()
    settings = settings_of(shop, experiments=str(source.parent))

    def found(text: str) -> tuple[str, str]:
        source.write_text(text)
        return installation_checks.experiments(settings, shop.clock())[1:3]

    assert found("experiments: [")[0] == "FAIL"
    status, text = found(EXPERIMENTS.replace("popularity", "collaborative"))
    assert (status, "collaborative" in text) == ("WARN", True)
    status, text = found(EXPERIMENTS)
    assert (status, "is not in force" in text) == ("WARN", True)
    in_force.parent.mkdir(parents=True)
    in_force.write_text(EXPERIMENTS)
    assert found(EXPERIMENTS) == ("OK", "1 file in force; running: recency")


@pytest.mark.parametrize("log", ["exposures", "recorded_events"])
def test_logs_must_be_collected_each_day(shop, log):
    folder = shop.root.parent / log
    folder.mkdir(parents=True)
    assert installation_checks.logs(settings_of(shop), 0).found == "no log file waits"
    for name, hours in (("old.jsonl", 25), ("new.jsonl", 1), ("being_written.jsonl.open", 99)):
        age(folder / name, hours)
    found = installation_checks.logs(settings_of(shop), 0)
    assert (found.status, found.found) == ("OK", "2 log files waiting, the oldest for 25 h")
    age(folder / "old.jsonl", 26.1)
    assert installation_checks.logs(settings_of(shop), 0).status == "WARN"


def age(file: Path, hours: float) -> None:
    """Make a file that was last written some hours ago."""
    file.touch()
    at = datetime.now(UTC).timestamp() - 3600 * hours
    os.utime(file, (at, at))


@pytest.fixture
def redis_url(tmp_path) -> Iterator[str]:
    """A Redis server for this test alone."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server: apt-get install redis-server")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port))
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def answers(port: int) -> bool:
    with redis.Redis(port=port) as client, suppress(redis.ConnectionError):
        return client.ping()
    return False


def test_redis_must_serve_what_was_published_here(shop, make_sale, redis_url):
    store = StoreSettings(kind="redis", url=redis_url)
    settings = settings_of(shop, store=store)
    assert installation_checks.snapshot(settings, 0).status == "OK"  # it comes from Redis
    assert installation_checks.redis(settings, 0).status == "FAIL"  # nothing is there
    shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]})
    first = push(store, shop.root, lambda *_: None)
    assert installation_checks.redis(settings, 0) == Finding("redis", "OK", f"serves {first}")
    second = shop.publish([make_sale("b")], {}, fingerprint="bbbbbbbb")
    finding = installation_checks.redis(settings, 0)
    assert (finding.status, finding.found) == (
        "WARN",
        f"serves {first}, but the current snapshot on this machine is {second}",
    )


def test_redis_that_is_out_of_reach_or_hangs_fails(shop, monkeypatch):
    monkeypatch.setattr(installation_checks, "_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for port in (free_port(), mute.getsockname()[1]):
            store = StoreSettings(kind="redis", url=f"redis://127.0.0.1:{port}/0")
            assert installation_checks.redis(settings_of(shop, store=store), 0).status == "FAIL"


def test_mlflow_is_checked_only_where_it_is_a_server(shop):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert "accepts connections" in installation_checks.mlflow(settings_of(shop, address), 0).found
    for uri, expected in [
        (address, "WARN"),
        ("http://127.0.0.1:99999", "WARN"),
        ("sqlite:///a.db", "OK"),
        (None, "OK"),
    ]:
        assert installation_checks.mlflow(settings_of(shop, uri), 0).status == expected


def test_check_that_fails_itself_does_not_prevent_the_others(shop, monkeypatch):
    monkeypatch.setattr(installation_checks.snapshot_store, "current", lambda _: 1 / 0)
    findings = findings_of(shop, settings_of(shop))
    assert statuses(findings, "FAIL") == {"disk", "snapshot", "night", "ranker", "service"}
    assert "ZeroDivisionError" in findings["snapshot"].found


def test_findings_are_printed_with_their_next_steps():
    console = TextConsole(file=io.StringIO(), width=80)
    findings = [Finding("disk", "OK", "79.8 GB free [bold]"), Finding("rules", "FAIL", "broken", "correct them")]
    print_findings(findings, console)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[1:] == [
        "OK    disk   79.8 GB free [bold]",
        "FAIL  rules  broken",
        "             → correct them",
        "1 OK, 0 WARN, 1 FAIL",
    ]
