"""The files in deploy/ are consistent with each other and with the code: settings, ports, metrics, packages."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import redis
import yaml
from cryptography.x509.oid import ExtendedKeyUsageOID
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from recommendations.v1 import recommendations_pb2 as pb

from cli.commands import night
from deploy.lock import locked
from deploy.ship_segments import ship
from jobs.engine.step_metrics import METRICS
from recsys.config.serving import ServingSettings
from recsys.config.settings import Settings, load_settings
from recsys.logs.log_files import LogFile
from recsys.logs.records import EXPOSURES
from recsys.snapshot import store as snapshot_store
from serving.api.access import credentials
from serving.process.threads import AnswerThreads
from serving.telemetry.metrics import Metrics
from tests.helpers.paths import ROOT
from tests.helpers.ranked_shop import RankedShop
from tests.helpers.tls_pair import tls_pair
from tests.helpers.waiting import wait_until

DEPLOY = ROOT / "deploy"


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = {
    (each["kind"], each["metadata"]["name"]): each
    for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
}
JOBS = list(yaml.safe_load_all((DEPLOY / "kubernetes_jobs.yaml").read_text()))
POD = MANIFESTS["Deployment", "recsys"]["spec"]["template"]["spec"]
POD_LABELS = MANIFESTS["Deployment", "recsys"]["spec"]["template"]["metadata"]["labels"]
CONTAINER = POD["containers"][0]
DASHBOARD = json.loads((DEPLOY / "grafana_dashboard.json").read_text())
ALERTS = [rule for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
REQUIREMENTS = [line for line in (DEPLOY / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
PORTS = {ServingSettings.model_fields[name].default for name in ("port", "admin_port", "metrics_port")}
NO_TOKEN = {digit * 64 for digit in "01"}


def dockerfile(name: str = "Dockerfile") -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, without comments and with continued lines joined."""
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined]


def unpacked(text: str, folder: Path, name: str) -> Path:
    """Write a configuration of a container with its paths changed to those of this machine; return its path."""
    path = folder / name
    path.write_text(text.replace("/app/", f"{ROOT}/").replace("/etc/recsys/cluster/", f"{folder}/"))
    return path


def is_locked(settings: Settings) -> bool:
    return {caller.token_sha256 for caller in settings.serving.access.callers} == NO_TOKEN


def test_production_configuration_is_closed_and_starts_on_all_addresses():
    settings = load_settings(ROOT / "conf" / "production.yaml")
    serving = settings.serving
    assert (serving.host, serving.clock, serving.store.kind, serving.log.format) == (
        "0.0.0.0",
        "system",
        "redis",
        "json",
    )
    assert serving.tls is not None
    assert is_locked(settings)
    assert {serving.port, serving.admin_port, serving.metrics_port} == PORTS
    assert (ROOT / serving.rules).is_file()


@pytest.mark.parametrize("clock", ["replay", "system"])
def test_configuration_of_compose_loads(tmp_path, clock):
    text = COMPOSE["configs"]["shop"]["content"].replace("${RECSYS_CLOCK:-replay}", clock)
    text = text.replace("${REDIS_PASSWORD:?see the first lines of compose.yaml}", "s3cret")
    serving = load_settings(unpacked(text, tmp_path, "shop.yaml")).serving
    assert "$" not in text
    assert (serving.clock, serving.tls, serving.access.callers) == (clock, None, ())
    assert serving.store.url == "redis://:s3cret@redis:6379/0"


def test_service_of_compose_without_tls_is_published_on_this_machine_only():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 6
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert {int(port.rpartition(":")[2]) for port in COMPOSE["services"]["service"]["ports"]} == PORTS


def test_compose_refers_only_to_what_exists():
    services, stages = COMPOSE["services"], {text.split()[-1] for name, text in dockerfile() if name == "FROM"}
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert {config["source"] for config in service.get("configs", [])} <= set(COMPOSE["configs"])
        assert service.get("build", {"target": "service"})["target"] in stages
        for source in (volume.partition(":")[0] for volume in service.get("volumes", []) if volume[0] != "$"):
            assert source in COMPOSE["volumes"] if source.isalpha() else (DEPLOY / source).is_file()
        for need, how in service.get("depends_on", {}).items():
            is_watched = "healthcheck" in services[need] or services[need]["image"] == "recsys-service"
            assert how["condition"] != "service_healthy" or is_watched


def test_every_image_has_a_version():
    images = [text.split()[0] for name, text in dockerfile() if name == "FROM"]
    images += [service["image"] for service in COMPOSE["services"].values()]
    images += [each["image"] for each in [CONTAINER, *POD["initContainers"]]]
    for image in set(images) - {"base", "recsys-service", "recsys-mlflow"}:
        assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)+(-slim)?|redis:7\.\d", image), image
    assert CONTAINER["image"] == f"recsys:{PROJECT['project']['version']}"


def test_jobs_of_kubernetes_run_commands_that_exist_by_the_services_configuration():
    jobs = {each["metadata"]["name"]: each for each in JOBS if each["kind"] == "CronJob"}
    commands = {each.__name__ for each in (night.nightly, night.refresh)}
    assert jobs.keys() == {f"recsys-{name}" for name in commands}
    volumes = {each["metadata"]["name"] for each in JOBS if each["kind"] == "PersistentVolumeClaim"}
    for name, job in jobs.items():
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["command"] == ["recsys", name.removeprefix("recsys-"), *CONTAINER["command"][2:]]
        assert container["image"] == f"recsys-jobs:{PROJECT['project']['version']}"
        state, *configured = reversed(pod["volumes"])
        assert state["persistentVolumeClaim"]["claimName"] in volumes
        assert all(each in POD["volumes"] for each in configured)
        assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


@pytest.mark.parametrize("name", ["nightly", "refresh"])
def test_timer_of_a_job_starts_a_command_that_exists(name):
    assert "OnCalendar=" in (DEPLOY / f"recsys-job@{name}.timer").read_text()
    assert hasattr(night, name)
    unit = (DEPLOY / "recsys-job@.service").read_text()
    service = (DEPLOY / "recsys.service").read_text()
    for line in ("User=recsys", "WorkingDirectory=/opt/recsys", "StateDirectory=recsys"):
        assert f"\n{line}\n" in unit
        assert f"\n{line}\n" in service
    started = re.search("ExecStart=(.*)", service)[1].replace(" serve ", " %i ")
    assert f"\nExecStart={started}\n" in unit


def test_no_part_of_compose_starts_without_a_password_of_its_own():
    services = COMPOSE["services"]
    for part, variable in {"redis": "REDISCLI_AUTH", "mlflow": "MLFLOW_PASSWORD"}.items():
        assert services[part]["environment"][variable].endswith("_PASSWORD:?}")
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:?}"
    assert "GF_AUTH_ANONYMOUS_ENABLED" not in services["grafana"]["environment"]


def test_redis_of_compose_answers_to_its_password_alone(tmp_path):
    if not shutil.which("redis-server"):
        pytest.skip("the command of compose.yaml is run by Redis: apt-get install redis-server")
    shell, option, line = COMPOSE["services"]["redis"]["command"]
    socket = tmp_path / "redis.socket"
    ours = f"redis-server - --port 0 --unixsocket {socket} --dir {tmp_path}"
    line = line.replace("$$", "$").replace("redis-server -", ours, 1)
    environment = {**os.environ, "REDISCLI_AUTH": "s3cret"}
    with subprocess.Popen([shell, option, line], env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(socket.exists)
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(unix_socket_path=str(socket)).ping()
            assert redis.Redis(unix_socket_path=str(socket), password="s3cret").ping()
        finally:
            server.terminate()


def test_policy_of_kubernetes_opens_the_ports_to_labelled_callers_only():
    policy, labels = MANIFESTS["NetworkPolicy", "recsys"]["spec"], POD_LABELS
    names = {port["name"] for port in CONTAINER["ports"]}
    opened: dict[str, list[str]] = {name: [] for name in names}
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    for rule in policy["ingress"]:
        (source,) = rule["from"]
        for port in rule["ports"]:
            opened[port["port"]].append(next(iter(source.values()))["matchLabels"]["recsys-client"])
    assert opened == {"grpc": ["website", "staff"], "admin": ["staff"], "metrics": ["metrics"]}


@pytest.mark.parametrize("unit", ["recsys.service", "recsys-console.service"])
def test_unit_leaves_little_of_the_machine_open(unit):
    if not shutil.which("systemd-analyze"):
        pytest.skip("the unit is judged by systemd-analyze: apt-get install systemd")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(DEPLOY / unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert float(re.search(rf"exposure level for {re.escape(unit)}: ([\d.]+)", judged.stdout)[1]) < 2  # 8.5 without


def test_image_runs_as_unprivileged_user_and_its_command_receives_sigterm():
    instructions = dockerfile()
    last = instructions[max(i for i, (name, _) in enumerate(instructions) if name == "FROM") :]
    assert last[0][1].endswith("AS service")
    assert dict(last)["USER"] == str(POD["securityContext"]["runAsUser"]) != "0"
    assert json.loads(dict(last)["CMD"])[:2] == ["recsys", "serve"]
    assert {int(port) for port in dict(last)["EXPOSE"].split()} == PORTS
    for source in (text.split()[:-1] for name, text in instructions if name == "COPY"):
        assert all(list(ROOT.glob(each)) for each in source), source


def test_image_holds_every_package():
    python_files = [
        path for top in ("cli", "demo_shop", "jobs", "recsys", "serving") for path in (ROOT / top).rglob("*.py")
    ]
    packages = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in python_files}
    assert packages <= set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.spark"])
def test_images_that_install_the_project_copy_all_of_its_packages(name):
    packages = {each.partition(".")[0] for each in PROJECT["tool"]["setuptools"]["packages"]} - {"recommendations"}
    copied: set[str] = set()
    installed = 0
    for instruction, text in dockerfile(name):
        if instruction == "FROM":
            copied = set()
        if instruction == "COPY" and not text.startswith("--from"):
            sources = text.split()[:-1]
            assert [source for source in sources if not list(ROOT.glob(source))] == []
            copied.update(sources)
        if instruction == "RUN" and text.startswith("pip install") and re.search(r" \"?\.(\[[\w,]+\])?\"?$", text):
            assert packages | {"proto"} <= copied
            installed += 1
    assert installed == {"Dockerfile": 2, "Dockerfile.spark": 1}[name]
    ignored = (DEPLOY / f"{name}.dockerignore").read_text().split()
    assert {f"!{each}" for each in (*packages, "proto", "conf")} <= set(ignored)


def test_spark_of_the_image_is_that_of_the_drivers_pyspark():
    (version,) = (text.partition("=")[2] for name, text in dockerfile("Dockerfile.spark") if name == "ARG")
    assert f"pyspark=={version}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_requirements_of_the_image_are_dependencies_of_the_package_with_a_pinned_version():
    declared = {re.match(r"[\w-]+", each)[0] for each in PROJECT["project"]["dependencies"]}
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert set(REQUIREMENTS) <= declared
    assert set(REQUIREMENTS) <= pins


ALONE = """
import re, sys
from importlib import metadata
from pathlib import Path
from packaging.requirements import Requirement

def key(name):
    return re.sub("[-_.]+", "-", name).lower()

names, wanted = set(), sys.argv[1].split()
while wanted:
    name = key(wanted.pop())
    if name not in names:
        names.add(name)
        needs = [Requirement(need) for need in metadata.requires(name) or []]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
owners = metadata.packages_distributions()
hidden = {top for top, dists in owners.items() if not {key(dist) for dist in dists} & {*names, "flash-sale-recsys"}}

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden - sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, Hide())
import cli.main
from recsys.config.settings import load_settings
from cli.commands import night
from deploy.lock import locked
from deploy.ship_segments import ship
from recsys.config.serving import ServingSettings
import serving.diagnosis.doctor, serving.stores.redis, serving.process.workers
from serving.client import top_sales
from serving.process.server import start_server

assert "torch" in hidden and "pyspark" in hidden
load_settings(Path("conf/production.yaml"))
settings = ServingSettings(port=0, admin_port=0, metrics_port=0, workers=1, clock="replay", replay_start_hours=1.0)
with start_server(settings, Path(sys.argv[2])) as server:
    page = top_sales(server.target, "", timeout=30, session=[sys.argv[3]])
    print(len(page.sales), page.uses_session)
"""


def test_service_ranks_a_session_with_only_the_requirements_of_the_image(tmp_path):
    shop = RankedShop.made(tmp_path / "ranker")
    name = shop.write(tmp_path / "snapshots")
    snapshot_store.publish(tmp_path / "snapshots", name, shop.sales[0].opens_at)
    command = [sys.executable, "-c", ALONE, " ".join(REQUIREMENTS), str(tmp_path), shop.sales[0].sale_id]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.returncode) == (["10", "True"], 0), done.stderr


def test_lock_holds_the_hash_of_each_package_but_the_project_and_refuses_one_without():
    def package(name: str, **download: object) -> dict:
        return {"metadata": {"name": name, "version": "1.0"}, "download_info": {"url": f"file:///{name}", **download}}

    of_index = {"archive_info": {"hashes": {"sha256": "ab" * 32}}}
    report = {"install": [package("numpy", **of_index), package("Flask", **of_index), package("shop", dir_info={})]}
    assert locked(report) == [f"Flask==1.0 --hash=sha256:{'ab' * 32}", f"numpy==1.0 --hash=sha256:{'ab' * 32}"]
    report["install"].append(package("odd", archive_info={}))
    with pytest.raises(SystemExit, match=r"odd 1.0 at file:///odd has no SHA-256: install it from an index"):
        locked(report)


def test_configuration_of_kubernetes_loads(tmp_path):
    cluster = MANIFESTS["ConfigMap", "recsys"]["data"]
    secret = MANIFESTS["Secret", "recsys-access"]["stringData"]
    for name, text in {**cluster, **secret}.items():
        unpacked(text, tmp_path, name)
    settings = load_settings(tmp_path / "shop.yaml")
    assert is_locked(settings)
    assert settings.serving.tls is not None
    assert Path(settings.serving.rules).parent == tmp_path
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert CONTAINER["command"][-1] == f"{mounts['access']}/shop.yaml"
    assert settings.folder == mounts["state"]
    assert Path(settings.serving.tls.certificate).parent == Path(mounts["tls"])


def test_pods_have_the_time_to_drain():
    settings = load_settings(ROOT / "conf" / "production.yaml").serving
    until_no_new_connection = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] > until_no_new_connection + settings.drain_seconds + 10
    assert settings.drain_seconds < int(COMPOSE["services"]["service"]["stop_grace_period"].removesuffix("s"))
    unit = (DEPLOY / "recsys.service").read_text()
    assert settings.drain_seconds < int(re.search(r"TimeoutStopSec=(\d+)", unit)[1])


def test_manifests_agree_on_ports_labels_and_volumes():
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    labels = POD_LABELS
    assert set(ports.values()) == PORTS
    for name in ("recsys", "recsys-admin"):
        service = MANIFESTS["Service", name]["spec"]
        assert service["selector"] == labels
        assert all(ports[port["targetPort"]] == port["port"] for port in service["ports"])
    assert MANIFESTS["PodDisruptionBudget", "recsys"]["spec"]["selector"]["matchLabels"] == labels
    volumes = {volume["name"] for volume in POD["volumes"]}
    for container in (CONTAINER, *POD["initContainers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert container["securityContext"]["readOnlyRootFilesystem"]
    assert POD["volumes"][0]["configMap"]["name"] == MANIFESTS["ConfigMap", "recsys"]["metadata"]["name"]
    assert MANIFESTS["Deployment", "recsys"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*panels, *(alert["expr"] for alert in ALERTS)]


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The metrics of the service and of steps by the names that Prometheus sees, with their labels."""
    collectors = Metrics().registry._names_to_collectors
    of_service = {name: set(collector._labelnames) for name, collector in collectors.items()}
    return of_service | {name: {"step"} for name in METRICS}


@pytest.mark.parametrize("expression", expressions())
def test_dashboard_and_alerts_use_only_existing_metrics(expression, exported):
    names = re.findall(r"\brecsys_\w+", expression)
    assert names
    assert set(names) <= set(exported)
    labels = re.findall(r"[{,](\w+)=~?\"", expression)
    labels += [label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(", ")]
    assert set(labels) <= {"instance", "le", "job"}.union(*(exported[name] for name in names))
    assert all(expression.count(left) == expression.count(right) for left, right in ("()", "{}", "[]"))


@pytest.mark.parametrize("expression", expressions())
def test_counters_are_used_only_in_rates(expression):
    for name in re.findall(r"\brecsys_\w+_(?:total|bucket)\b", expression):
        assert expression.count(name) == expression.count(f"rate({name}") + expression.count(f"increase({name}")


def test_fallbacks_in_alerts_are_those_of_the_service():
    named = {value for text in expressions() for value in re.findall(r'fallback="(\w+)"', text)}
    assert {f"FALLBACK_LEVEL_{level.upper()}" for level in named} < set(pb.FallbackLevel.keys())
    assert named == {"none", "any_open"}


def test_counters_that_alerts_and_panels_read_exist_before_the_first_event(exported):
    """A rate needs a value before the first event: of the labels that no configuration names, all exist as 0."""
    metrics = Metrics()
    metrics.expect("GetTopSales")
    samples = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    read = {name for text in expressions() for name in re.findall(r"\brecsys_\w+_(?:total|bucket)\b", text)}
    assert read - samples == {"recsys_answers_total", "recsys_answer_seconds_bucket"}


def test_alerts_tell_that_there_are_no_metrics_at_all():
    assert any(alert["expr"] == "absent(recsys_workers)" for alert in ALERTS)


def test_every_alert_has_a_severity_and_a_section_in_the_manual():
    manual = (ROOT / "docs" / "operations.md").read_text()
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"].endswith(".")
        assert f"`{alert['alert']}`" in manual, alert["alert"]


def test_prometheus_scrapes_the_service_of_compose_and_reads_the_alerts():
    content = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    (job,) = content["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"service:{ServingSettings.model_fields['metrics_port'].default}"]}]
    assert all((DEPLOY / file).is_file() for file in content["rule_files"])
    assert not any("job" in alert["expr"] for alert in ALERTS)  # any name of the job will do


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        taken |= cells


def test_finished_log_files_and_those_of_dead_writers_are_shipped_once(tmp_path):
    folder, volume = tmp_path / "shop", tmp_path / "logs"
    (folder / EXPOSURES).mkdir(parents=True)
    (folder / EXPOSURES / "left.jsonl.open").write_text("by a dead writer\n")
    writing, done = (LogFile(folder / EXPOSURES, name) for name in ("writing", "done"))
    for log_file in (writing, done):
        log_file.write(b"a line\n")
    done.finish()
    assert ship(folder, volume, "pod-1") == 2
    shipped = {path.name: path.read_text() for path in (volume / EXPOSURES).iterdir()}
    assert shipped == {"pod-1-done.jsonl": "a line\n", "pod-1-left.jsonl": "by a dead writer\n"}
    assert [path.name for path in (folder / EXPOSURES).iterdir()] == ["writing.jsonl.open"]
    assert ship(folder, volume, "pod-1") == 0
    writing.finish()
    assert ship(folder, volume, "pod-1") == 1


def test_nothing_is_lost_if_the_volume_cannot_be_written(tmp_path):
    folder, volume = tmp_path / "shop", tmp_path / "logs"
    (folder / EXPOSURES).mkdir(parents=True)
    (folder / EXPOSURES / "done.jsonl").write_text("a line\n")
    volume.write_text("a file where the volume should be")
    with pytest.raises(OSError, match="logs"):
        ship(folder, volume, "pod-1")
    assert (folder / EXPOSURES / "done.jsonl").read_text() == "a line\n"


@pytest.fixture
def ports(tmp_path) -> Iterator[tuple[int, int]]:
    """Ports of a server that is ready but not fresh: one without TLS, one that requires client certificates.

    Its own certificate is for servers only, the probe's for clients only.
    """
    tls = tls_pair(tmp_path / "tls", 30, use=ExtendedKeyUsageOID.SERVER_AUTH)
    probe = tls_pair(tmp_path / "probe", 30, use=ExtendedKeyUsageOID.CLIENT_AUTH)
    checks = health.HealthServicer(experimental_non_blocking=True)
    checks.set("", health_pb2.HealthCheckResponse.SERVING)
    checks.set("fresh", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = grpc.server(AnswerThreads(1, 1))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    mutual = credentials(tls.model_copy(update={"client_authority": probe.certificate}))
    listening = server.add_insecure_port("127.0.0.1:0"), server.add_secure_port("127.0.0.1:0", mutual)
    server.start()
    yield listening
    server.stop(None).wait()


def test_healthcheck_reports_by_its_exit_code(ports, tmp_path):
    plain, mutual = (f"127.0.0.1:{port}" for port in ports)
    trust = ["--authority", str(tmp_path / "tls" / "tls.crt"), "--name", "recsys.test"]
    probe = ["--certificate", str(tmp_path / "probe" / "tls.crt"), "--key", str(tmp_path / "probe" / "tls.key")]
    assert healthcheck(plain) == (0, f"{plain}: SERVING")
    assert healthcheck(plain, "--service", "fresh") == (1, f"{plain}: NOT_SERVING")
    assert healthcheck(plain, "--service", "other")[0] == 1
    assert healthcheck(plain, *trust)[0] == 1
    assert healthcheck(mutual, *trust)[0] == 1
    assert healthcheck(mutual, *trust, *probe) == (0, f"{mutual}: SERVING")
    assert healthcheck(mutual, *probe)[0] == healthcheck(mutual, *trust, *probe[:2])[0] == 2


def healthcheck(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(DEPLOY / "healthcheck.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.strip()
