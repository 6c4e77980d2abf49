"""cluster/kubernetes: held against types of KubeRay, Kubernetes and the Prometheus operator; our promises."""

import copy
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator.v1 import PodMonitor
from ray import __version__ as ray_version
from ray._private import ray_constants
from ray._raylet import RAY_NODE_ACCELERATOR_TYPE_KEY, RAY_NODE_MARKET_TYPE_KEY
from ray.autoscaler._private.constants import AUTOSCALER_METRIC_PORT
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.dashboard.consts import DASHBOARD_METRIC_PORT
from ray.scripts.scripts import start as ray_start
from scaling import launched
from templates import (
    KUBERNETES,
    KUEUE,
    LASTING_CLUSTER,
    POD_MONITOR,
    RAY_JOB,
    documents,
    kuberay_schema,
    of_kind,
)

from cluster.exposition import PORT
from ltx_ray.config import PoolsConfig

KUBERNETES_VERSION = "1.33"
GIB = 2**30
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"


@pytest.fixture
def lasting() -> dict[str, Any]:
    return of_kind(LASTING_CLUSTER, "RayCluster")


@pytest.fixture
def job() -> dict[str, Any]:
    return of_kind(RAY_JOB, "RayJob")


def groups(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Worker groups by name."""
    return {each["groupName"]: each for each in cluster["spec"]["workerGroupSpecs"]}


def pods(cluster: dict[str, Any], job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every pod template, by what it is of."""
    found = {name: group["template"] for name, group in groups(cluster).items()}
    found["head"] = cluster["spec"]["headGroupSpec"]["template"]
    return {**found, "submitter": job["spec"]["submitterPodTemplate"]}


def gib(quantity: str) -> float:
    """GiB of a quantity such as ``16Gi``."""
    return float(quantity.removesuffix("Gi"))


def kueue(job: dict[str, Any]) -> dict[str, Any]:
    """The job as the overlay for Kueue makes it."""
    (overlay,) = documents(KUEUE)
    (patch,) = overlay["patches"]
    assert overlay["resources"] == ["../job"]
    assert patch["target"] == {"kind": job["kind"]}
    made = copy.deepcopy(job)
    change = yaml.safe_load(patch["patch"])
    assert (change["kind"], change["metadata"].pop("name")) == (job["kind"], job["metadata"]["name"])
    assert change.keys() == {"apiVersion", "kind", "metadata"}, "only what stands around the job"
    for key, values in change["metadata"].items():
        made["metadata"][key] = {**made["metadata"].get(key, {}), **values}
    return made


def test_kuberay_knows_every_field(lasting: dict[str, Any], job: dict[str, Any]) -> None:
    for each in (lasting, job, kueue(job)):
        schema = kuberay_schema(each["kind"])
        jsonschema.Draft7Validator(schema).validate(each)
        odd = copy.deepcopy(each)
        odd["spec"]["idleSeconds"] = 5
        with pytest.raises(jsonschema.ValidationError, match="idleSeconds"):
            jsonschema.Draft7Validator(schema).validate(odd)


def test_kubernetes_takes_the_pods_and_the_rest(lasting: dict[str, Any], job: dict[str, Any]) -> None:
    for name, template in pods(lasting, job).items():
        metadata = {**template.get("metadata", {}), "name": name}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)
        odd = copy.deepcopy(pod)
        odd["spec"]["containers"][0]["port"] = 1
        with pytest.raises(kubernetes_validate.ValidationError, match="port"):
            kubernetes_validate.validate(odd, KUBERNETES_VERSION, strict=True)
    for path in (LASTING_CLUSTER, RAY_JOB):
        account = of_kind(path, "ServiceAccount")
        kubernetes_validate.validate(account, KUBERNETES_VERSION, strict=True)
        assert len(documents(path)) == 2


def test_the_prometheus_operator_takes_the_monitor_and_finds_each_port(lasting: dict[str, Any]) -> None:
    (monitor,) = documents(POD_MONITOR)
    taken = PodMonitor.model_validate(monitor).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert taken == monitor, "what it does not know, it leaves out"
    templates = [lasting["spec"]["headGroupSpec"]["template"]]
    templates += [group["template"] for group in groups(lasting).values()]
    for template in templates:
        assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    head = {port["name"]: port["containerPort"] for port in templates[0]["spec"]["containers"][0]["ports"]}
    scraped = [each["port"] for each in monitor["spec"]["podMetricsEndpoints"]]
    assert {port: head[port] for port in scraped} == {
        "metrics": 8080,
        "as-metrics": AUTOSCALER_METRIC_PORT,
        "dash-metrics": DASHBOARD_METRIC_PORT,
        "ltx-metrics": PORT,
    }


def test_the_job_has_the_same_cluster(lasting: dict[str, Any], job: dict[str, Any]) -> None:
    assert job["spec"]["rayClusterSpec"] == lasting["spec"]
    assert job["spec"]["shutdownAfterJobFinishes"], "nodes cost"
    words = shlex.split(job["spec"]["entrypoint"])
    most = sum(group["maxReplicas"] for group in groups(lasting).values())
    assert words[words.index("--gpus") + 1] == str(most), "each node has one"
    assert f"metrics.port={PORT}" in words


def test_ray_starts_what_actors_wait_for(lasting: dict[str, Any]) -> None:
    lasting["metadata"]["namespace"] = "default"
    config = AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(lasting), skip_content_hash=True)
    types = config.get_node_type_configs()
    assert types["headgroup"].resources["CPU"] == 0
    assert config.get_idle_timeout_s() == 300
    gpu, cpu = {"GPU": 1.0, "CPU": 0.4}, {"CPU": 0.1}
    assert launched(config, []) == {}
    assert launched(config, [gpu] * 3 + [cpu] * 5) == {"gpu-spot": 3}
    assert launched(config, [cpu]) == {"gpu-spot": 1}, "the head takes none"
    assert launched(config, [gpu] * 3, failing=("gpu-spot",)) == {"gpu-on-demand": 3}
    on_demand = {RAY_NODE_MARKET_TYPE_KEY: "on-demand"}
    assert launched(config, [gpu] * 2, labels=on_demand) == {"gpu-on-demand": 2}


def test_spot_and_on_demand_differ_in_nothing_else(lasting: dict[str, Any]) -> None:
    spot, other = groups(lasting)["gpu-spot"], groups(lasting)["gpu-on-demand"]
    assert (spot["minReplicas"], other["minReplicas"]) == (0, 0)
    assert spot["priority"] > other["priority"]
    assert spot["labels"].pop(RAY_NODE_MARKET_TYPE_KEY) == "spot"
    assert other["labels"].pop(RAY_NODE_MARKET_TYPE_KEY) == "on-demand"
    assert spot["labels"] == other["labels"] == {RAY_NODE_ACCELERATOR_TYPE_KEY: "L40S"}
    its, others = spot["template"]["spec"], other["template"]["spec"]
    assert its.pop("nodeSelector").keys() == others.pop("nodeSelector").keys()
    tolerated, fewer = its.pop("tolerations"), others.pop("tolerations")
    assert [each for each in tolerated if each in fewer] == fewer
    assert spot["template"] == other["template"]


def test_nobody_gets_in_without_the_token(lasting: dict[str, Any], job: dict[str, Any]) -> None:
    assert lasting["spec"]["authOptions"] == {"mode": "token", "secretName": "ltx-ray-auth"}
    assert lasting["spec"]["rayVersion"] == ray_version, "KubeRay asks for it where there is a token"
    for template in pods(lasting, job).values():
        for variable in template["spec"]["containers"][0].get("env", ()):
            assert not variable["name"].startswith("RAY_AUTH"), "KubeRay sets them, from the Secret"


def test_no_pod_runs_as_root(lasting: dict[str, Any], job: dict[str, Any]) -> None:
    """Such as the `restricted` standard of Kubernetes asks for it."""
    for template in pods(lasting, job).values():
        of_pod = template["spec"]["securityContext"]
        assert of_pod["runAsNonRoot"]
        assert (of_pod["runAsUser"], of_pod["runAsGroup"]) == (1000, 1000), "USER of the Dockerfile"
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        contexts = [each["securityContext"] for each in template["spec"]["containers"]]
        for context in (*contexts, lasting["spec"]["autoscalerOptions"]["securityContext"]):
            assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    for group in groups(lasting).values():
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_pod_that_is_told_to_go_has_time_to_hand_over(lasting: dict[str, Any]) -> None:
    assert hasattr(ray_constants, DRAIN), "Ray reads this variable"
    for group in groups(lasting).values():
        pod = group["template"]["spec"]
        values = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
        drained = float(values[DRAIN])
        assert 60 <= drained <= pod["terminationGracePeriodSeconds"] - 10, "then Kubernetes kills"
        assert pod["terminationGracePeriodSeconds"] <= 120, "AWS gives a spot node no more"


def test_shared_memory_holds_rays_object_store(lasting: dict[str, Any], job: dict[str, Any]) -> None:
    for name, template in pods(lasting, job).items():
        if name == "submitter":
            continue
        (container,) = template["spec"]["containers"]
        (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == "/dev/shm"]
        (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == mount["name"]]
        memory = gib(container["resources"]["limits"]["memory"])
        assert volume["emptyDir"]["medium"] == "Memory"
        assert 0.3 * memory <= gib(volume["emptyDir"]["sizeLimit"]) < 0.5 * memory, "Ray takes 30%"
        if name != "head":
            assert gib(volume["emptyDir"]["sizeLimit"]) * GIB > PoolsConfig().max_decoded_bytes


def test_options_of_ray_start_exist_and_are_of_the_ports(lasting: dict[str, Any]) -> None:
    known = {option for parameter in ray_start.params for option in parameter.opts}
    for group in (lasting["spec"]["headGroupSpec"], *groups(lasting).values()):
        asked = group["rayStartParams"]
        assert {f"--{name}" for name in asked} <= known
        ports = {
            each["name"]: each["containerPort"]
            for each in group["template"]["spec"]["containers"][0]["ports"]
        }
        assert asked["metrics-export-port"] == str(ports["metrics"])


def test_under_kueue_the_job_waits_in_a_queue_and_still_scales(job: dict[str, Any]) -> None:
    made = kueue(job)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert made["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
    assert made["spec"] == job["spec"]
    assert len(made["spec"]["rayClusterSpec"]["workerGroupSpecs"]) <= 6, (
        "with head and submitter eight at most"
    )


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which renders overlays, is not installed"
)
@pytest.mark.parametrize("overlay", ["job", "cluster", "kueue"])
def test_kustomize_makes_of_an_overlay_what_is_said_here(overlay: str) -> None:
    words = ["kubectl", "kustomize", str(KUBERNETES / overlay)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    path: Path = LASTING_CLUSTER if overlay == "cluster" else RAY_JOB
    wanted = {each["kind"]: each for each in documents(path)}
    if overlay == "kueue":
        wanted["RayJob"] = kueue(wanted["RayJob"])
    assert made == wanted
