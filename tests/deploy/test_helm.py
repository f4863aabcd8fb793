"""The chart of deploy/helm, rendered by Helm itself and checked by the schemas of Kubernetes."""

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from recsys.config.settings import load_settings
from tests.helpers.paths import ROOT

pytest.importorskip("helm_python", reason="needs the package helm-python-sdk")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

CHART = ROOT / "deploy" / "helm" / "recsys"
KUBERNETES = "1.29"
Manifests = dict[tuple[str, str], dict[str, Any]]
ON_S3 = {"folder": "s3://bucket/shop", "bucket": {"secret": "recsys-bucket"}}
VARIANTS = {
    "default": {},
    "object store": ON_S3,
    "Spark on Kubernetes": {**ON_S3, "spark": {"enabled": True, "conf": {"spark.sql.shuffle.partitions": "64"}}},
    "scaled": {"service": {"autoscaling": {"enabled": True}, "storageClass": "fast"}},
    "of what exists": {
        "access": {"secret": "my-access"},
        "logs": {"claim": "my-logs"},
        "jobs": {"claim": "my-jobs", "refresh": {"enabled": False}},
        "networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 6380}]}]},
        "serviceAccount": {"name": "recsys-s3"},
        "images": {"pullSecrets": [{"name": "registry"}]},
    },
    "service alone": {"jobs": {"enabled": False}, "networkPolicy": {"enabled": False}},
}


def render(*values: dict[str, Any]) -> list[Any]:
    """Return the texts of the chart's templates for each of the values, or the text of Helm's error."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/helpers/helm_render.py"), str(CHART)],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def manifests(texts: list[str]) -> Manifests:
    found = [each for text in texts for each in yaml.safe_load_all(text) if each]
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in found}
    assert len(by_name) == len(found)
    return by_name


@pytest.fixture(scope="module")
def rendered() -> dict[str, Manifests]:
    return dict(zip(VARIANTS, map(manifests, render(*VARIANTS.values())), strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_manifests_are_valid_in_kubernetes(rendered, variant):
    assert rendered[variant]
    for manifest in rendered[variant].values():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def with_parsed_texts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with the files that it holds parsed, whose keys may be in any order."""
    for key in {"data", "stringData"} & manifest.keys():
        manifest[key] = {name: yaml.safe_load(text) for name, text in manifest[key].items()}
    return manifest


def test_default_values_give_the_plain_manifests(rendered):
    files = [(ROOT / "deploy" / name).read_text() for name in ("kubernetes.yaml", "kubernetes_jobs.yaml")]
    plain = {key: with_parsed_texts(each) for key, each in manifests(files).items()}
    chart = {key: with_parsed_texts(each) for key, each in manifests(render({})[0]).items()}
    annotations = chart["Deployment", "recsys"]["spec"]["template"]["metadata"]["annotations"]
    assert len(annotations.pop("checksum/settings")) == 64
    assert chart == plain


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return (spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec)["template"]["spec"]


def test_every_container_knows_the_keys_of_the_object_store_and_its_disk(rendered):
    found = rendered["object store"]
    settings = yaml.safe_load(found["ConfigMap", "recsys"]["data"]["cluster.yaml"])
    assert (settings["folder"], settings["disk"]) == ("s3://bucket/shop", "/var/lib/recsys")
    pods = [pod_of(each) for (kind, _), each in found.items() if kind in ("Deployment", "CronJob")]
    containers = [each for pod in pods for each in (*pod["containers"], *pod.get("initContainers", ()))]
    assert len(containers) == 4
    for container in containers:
        assert container["envFrom"] == [{"secretRef": {"name": "recsys-bucket"}}]
        assert {"name": "state", "mountPath": "/var/lib/recsys"} in container["volumeMounts"]


def test_logs_are_moved_to_the_shops_folder_where_it_is_in_an_object_store(rendered):
    found = rendered["object store"]
    (shipper,) = pod_of(found["Deployment", "recsys"])["initContainers"]
    assert shipper["command"][-2:] == ["/var/lib/recsys", "s3://bucket/shop"]
    assert ("PersistentVolumeClaim", "recsys-logs") not in found


def test_every_volume_that_is_mounted_is_defined(rendered):
    for found in rendered.values():
        for (kind, _), manifest in found.items():
            if kind in ("Deployment", "CronJob"):
                pod = pod_of(manifest)
                mounted = {
                    m["name"]
                    for each in (*pod["containers"], *pod.get("initContainers", ()))
                    for m in each["volumeMounts"]
                }
                assert mounted == {volume["name"] for volume in pod["volumes"]}
                claims = {
                    v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
                }
                assert claims <= {name for kind, name in found if kind == "PersistentVolumeClaim"} | {
                    "my-logs",
                    "my-jobs",
                }


def test_driver_on_kubernetes_is_found_by_its_executors_and_may_start_them(rendered):
    found = rendered["Spark on Kubernetes"]
    night, service = found["CronJob", "recsys-nightly"], found["Service", "recsys-driver"]["spec"]
    labels = night["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    files = found["ConfigMap", "recsys"]["data"]
    conf = yaml.safe_load(files["night.yaml"])["spark"]["conf"]
    assert conf["spark.driver.host"] == "recsys-driver.shop.svc"
    ports = {conf["spark.driver.port"], conf["spark.driver.blockManager.port"]}
    assert ports == {str(each["port"]) for each in service["ports"]}
    assert conf["spark.sql.shuffle.partitions"] == "64"
    pod = pod_of(night)
    (container,) = pod["containers"]
    assert {str(each["containerPort"]) for each in container["ports"]} == ports
    assert container["image"] == conf["spark.kubernetes.container.image"]
    account = pod["serviceAccountName"]
    binding = found["RoleBinding", account]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert ("ServiceAccount", account) in found
    assert {"pods", "configmaps"} < set(
        found[binding["roleRef"]["kind"], binding["roleRef"]["name"]]["rules"][0]["resources"]
    )
    executor = yaml.safe_load(files["executor.yaml"])
    kubernetes_validate.validate(
        {**executor, "spec": {**executor["spec"], "containers": [executor["spec"]["containers"][0] | {"image": "x"}]}},
        KUBERNETES,
        strict=True,
    )
    assert executor["spec"]["containers"][0]["envFrom"] == container["envFrom"]
    mounted = next(each for each in container["volumeMounts"] if each["name"] == "cluster")["mountPath"]
    assert conf["spark.kubernetes.executor.podTemplateFile"] == f"{mounted}/executor.yaml"
    assert container["command"][-1] == f"{mounted}/night.yaml"


def test_configuration_of_the_night_loads(rendered, tmp_path):
    found = rendered["Spark on Kubernetes"]
    texts = found["ConfigMap", "recsys"]["data"] | found["Secret", "recsys-access"]["stringData"]
    for name, text in texts.items():
        for folder in ("cluster", "access"):
            text = text.replace(f"/etc/recsys/{folder}/", f"{tmp_path}/")
        (tmp_path / name).write_text(text.replace("/app/", f"{ROOT}/"))
    settings = load_settings(tmp_path / "night.yaml")
    assert (settings.spark.master, settings.disk) == ("k8s://https://kubernetes.default.svc", "/var/lib/recsys")
    assert settings.serving.store.kind == "redis"


def test_number_of_pods_is_left_to_the_autoscaler(rendered):
    found = rendered["scaled"]
    assert "replicas" not in found["Deployment", "recsys"]["spec"]
    assert found["HorizontalPodAutoscaler", "recsys"]["spec"]["scaleTargetRef"]["name"] == "recsys"
    assert rendered["default"]["Deployment", "recsys"]["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"service": {"replica": 3}}, "replica"),
        ({"folder": "bucket/shop"}, "folder"),
        ({"images": {"service": "recsys"}}, "images"),
        ({"jobs": {"nightly": {"schedule": "daily"}}}, "schedule"),
        ({"spark": {"enabled": True}}, "must be a URL with spark.enabled"),
    ],
    ids=str,
)
def test_wrong_value_is_refused_by_its_name(values, message):
    (answer,) = render(values)
    assert isinstance(answer, str), answer
    assert message in answer


def test_each_value_has_a_rule_in_the_schema_and_a_use_in_a_template(rendered):
    schema, values = (
        json.loads((CHART / "values.schema.json").read_text()),
        yaml.safe_load((CHART / "values.yaml").read_text()),
    )
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())

    def check(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        for key, value in values.items():
            rule = schema["properties"][key]
            if "properties" in rule and rule.get("additionalProperties") is False and key not in ("resources",):
                check(rule, value, f"{path}.{key}")
            else:
                assert f"{path}.{key}" in templates, f"{path}.{key}"

    check(schema, values, ".Values")
