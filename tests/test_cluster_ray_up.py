"""ray_cluster.yaml: what Ray makes of it, and what `ray up` would do on AWS, to the last command."""

import copy
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from ray._raylet import RAY_NODE_ACCELERATOR_TYPE_KEY, RAY_NODE_MARKET_TYPE_KEY
from ray.autoscaler._private import commands as ray_up
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.ray_installer import RayInstaller
from ray.core.generated.instance_manager_pb2 import Instance
from scaling import launched
from templates import RAY_CLUSTER, ROLES, documents, items

from ltx_ray.config import PoolsConfig

HEAD_IP = "10.0.0.10"
TOKEN = "the-token-of-this-test"
GIB = 2**30


@pytest.fixture
def config() -> dict[str, Any]:
    (found,) = documents(RAY_CLUSTER)
    return found


def test_ray_takes_it_and_adds_no_command_of_its_own(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    for key in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert prepared[key] == [], "Ray's defaults would install another Ray"
    with pytest.raises(Exception, match="idle_minutes"):
        validate_config({**prepared, "idle_minutes": 5})


def test_the_head_does_no_work_and_gpu_nodes_come_and_go(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert config["idle_timeout_minutes"] > 0
    for each in types.values():
        assert each["min_workers"] == 0
        assert each["resources"]["GPU"] == 1
    markets = {name: each["labels"][RAY_NODE_MARKET_TYPE_KEY] for name, each in types.items()}
    assert markets == {"gpu-spot": "spot", "gpu-on-demand": "on-demand"}
    assert types["gpu-spot"]["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert types["gpu-spot"]["node_config"] == types["gpu-on-demand"]["node_config"], "one kind of GPU"
    assert len({each["labels"][RAY_NODE_ACCELERATOR_TYPE_KEY] for each in types.values()}) == 1


def test_gpus_that_are_waited_for_start_spot_nodes_then_others_and_never_a_second_head(
    config: dict[str, Any],
) -> None:
    scaling = AutoscalingConfig(config, skip_content_hash=True)
    gpu, cpu = {"GPU": 1.0, "CPU": 0.4}, {"CPU": 0.1}
    assert launched(scaling, []) == {}
    assert launched(scaling, [gpu] * 3 + [cpu] * 5) == {"gpu-spot": 3}
    assert launched(scaling, [cpu]) == {"gpu-spot": 1}, "the head takes none"
    assert launched(scaling, [gpu] * 3, failing=("gpu-spot",)) == {"gpu-on-demand": 3}
    on_demand = {RAY_NODE_MARKET_TYPE_KEY: "on-demand"}
    assert launched(scaling, [gpu] * 2, labels=on_demand) == {"gpu-on-demand": 2}
    most = launched(scaling, [gpu] * 100)
    assert sum(most.values()) == config["max_workers"]


@dataclass
class Terminal:
    """Where ``ray up`` runs ssh and rsync: here they go nowhere, and a machine's usual answers come back."""

    asked: list[list[str]] = field(default_factory=list)

    def check_call(self, words: list[str], *_: Any, **__: Any) -> None:
        self.asked.append(words)

    def check_output(self, words: list[str], *_: Any, **__: Any) -> bytes:
        self.asked.append(words)
        answers = {
            "command -v docker": "/usr/bin/docker",
            ".Config.Env": '["HOME=/home/ray"]',
            ".State.Running": "false",
            ".Runtimes": "runc nvidia-container-runtime",
            "printenv HOME": "/home/ray",
        }
        (answer,) = [text for asked, text in answers.items() if asked in words[-1]]
        return answer.encode()

    def of(self, what: str) -> str:
        """The one command that has this in it, unwrapped from the shells around it."""
        (found,) = {text for words in self.asked if what in (text := _innermost(words[-1]))}
        return found

    @property
    def copied(self) -> list[tuple[str, str]]:
        """From where rsync copied to where on the node."""
        return [(words[-2], words[-1].partition(":")[2]) for words in self.asked if words[0] == "rsync"]


def _innermost(text: str) -> str:
    """The command within ``bash -c '... && (COMMAND)'``, as often as it is wrapped so."""
    words = shlex.split(text)
    inner = words[-1] if words else ""
    if inner == text or "(" not in inner:
        return text
    return _innermost(inner[inner.index("(") + 1 : inner.rindex(")")].strip())


@dataclass(frozen=True)
class Played:
    """What `ray up` did."""

    head: Terminal
    worker: Terminal
    ec2: Any
    config: dict[str, Any]  # resolved
    home: Path


@pytest.fixture(scope="module")
def played(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """`ray up`, then its first GPU node, on an EC2 that is simulated: moto's, which checks every request as
    EC2's API describes it."""
    home = tmp_path_factory.mktemp("home")
    secrets = home / ".ltx-ray/secrets"
    secrets.mkdir(parents=True)
    (secrets / "ray_token").write_text(TOKEN)
    (config,) = documents(RAY_CLUSTER)
    region = config["provider"]["region"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))  # the SSH key is made there
        patch.setenv("AWS_DEFAULT_REGION", region)
        boto3.client("cloudformation").create_stack(
            StackName="ltx-ray",
            TemplateBody=ROLES.read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": "Bucket", "ParameterValue": "my-bucket"}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        config = AWSNodeProvider.bootstrap_config(prepare_config(config))
        head, worker = Terminal(), Terminal()
        ray_up.get_or_create_head_node(config, str(RAY_CLUSTER), False, False, True, None, _runner=head)
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        _first_worker(config, provider, worker, secrets)
        yield Played(head, worker, boto3.client("ec2"), config, home)


def _first_worker(config: dict[str, Any], provider: Any, terminal: Terminal, secrets: Path) -> None:
    """What the head's autoscaler does when an actor waits for a GPU."""
    _, file = ray_up._set_up_config_for_head_node(copy.deepcopy(config), provider, False)
    on_head = json.loads(Path(file.name).read_text(encoding="utf-8"))
    assert on_head["file_mounts"] == {"/home/ray/secrets": "/home/ray/secrets"}
    on_head["file_mounts"] = {"/home/ray/secrets": str(secrets)}  # this machine is not the head
    scaling = AutoscalingConfig(on_head)
    made = provider.create_node(scaling.get_cloud_node_config("gpu-spot"), {"ray-node-name": "worker"}, 1)
    instance = Instance(instance_id="one", instance_type="gpu-spot", cloud_instance_id=next(iter(made)))
    provider.non_terminated_nodes({})
    RayInstaller(provider, scaling, process_runner=terminal).install_ray(instance, HEAD_IP)


def instances(played: Played) -> dict[str, dict[str, Any]]:
    """What runs on EC2, by type."""
    found = played.ec2.describe_instances()["Reservations"]
    return {each["InstanceType"]: each for group in found for each in group["Instances"]}


def test_ec2_starts_a_head_on_demand_and_a_spot_worker_each_with_the_role_made_for_it(played: Played) -> None:
    started = instances(played)
    head, worker = started["m7i.2xlarge"], started["g6e.4xlarge"]
    assert "InstanceLifecycle" not in head
    assert worker["InstanceLifecycle"] == "spot"
    assert head["IamInstanceProfile"]["Arn"].endswith("/ltx-ray-head")
    assert worker["IamInstanceProfile"]["Arn"].endswith("/ltx-ray-worker")


def test_nodes_are_what_their_instance_types_are(played: Played) -> None:
    """What the template says of CPUs, GPUs and accelerators is what AWS says of the instance types."""
    for each in played.config["available_node_types"].values():
        kind = each["node_config"]["InstanceType"]
        (known,) = played.ec2.describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
        if gpus := known.get("GpuInfo"):
            assert each["resources"]["CPU"] == known["VCpuInfo"]["DefaultVCpus"]
            assert each["resources"]["GPU"] == sum(gpu["Count"] for gpu in gpus["Gpus"])
            assert each["labels"][RAY_NODE_ACCELERATOR_TYPE_KEY] == gpus["Gpus"][0]["Name"]


def test_only_ssh_is_reached_from_outside(played: Played) -> None:
    (group,) = {each["SecurityGroups"][0]["GroupId"] for each in instances(played).values()}
    (found,) = played.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    from_outside = [rule for rule in found["IpPermissions"] if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in from_outside] == [(22, 22)]


def test_the_token_goes_from_your_folder_to_the_head_and_from_it_to_workers(played: Played) -> None:
    mount = "/tmp/ray_tmp_mount/ltx-ray/home/ray/secrets/"
    assert (f"{played.home}/.ltx-ray/secrets/", mount) in played.head.copied
    assert mount in [where for _, where in played.worker.copied]
    for terminal in (played.head, played.worker):
        container = shlex.split(terminal.of("docker run"))
        assert "RAY_AUTH_MODE=token" in container
        assert "RAY_AUTH_TOKEN_PATH=/home/ray/secrets/ray_token" in container
        assert any(word.endswith("/home/ray/secrets:/home/ray/secrets") for word in container)
    everything = json.dumps([played.head.asked, played.worker.asked, played.config])
    assert TOKEN not in everything


def test_only_workers_have_gpus_and_both_have_room_for_rays_object_store(played: Played) -> None:
    for terminal, kind in ((played.head, "m7i.2xlarge"), (played.worker, "g6e.4xlarge")):
        container = terminal.of("docker run")
        assert ("--gpus all" in container) == (terminal is played.worker)
        (known,) = played.ec2.describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
        memory = known["MemoryInfo"]["SizeInMiB"] * 2**20
        (shared,) = [word.partition("=")[2] for word in container.split() if word.startswith("--shm-size")]
        size = int(shared.removesuffix("gb")) * GIB
        assert 0.3 * memory <= size < 0.5 * memory, "Ray takes 30%"
    assert size > PoolsConfig().max_decoded_bytes, "doctor asks for as much"


def test_ray_starts_closed_without_cpus_on_the_head_and_with_labels_on_workers(played: Played) -> None:
    head = played.head.of("ray start --head")
    assert """export RAY_OVERRIDE_RESOURCES='"'"'{"CPU":0}'"'"';""" in head
    assert "RAY_enable_autoscaler_v2=1" in head
    assert "--dashboard-host=127.0.0.1" in head
    assert "--metrics-export-port=8080" in head
    worker = played.worker.of("ray start --address")
    assert f"export RAY_HEAD_IP={HEAD_IP}" in worker
    assert '"ray.io/market-type":"spot"' in worker
    assert '"ray.io/accelerator-type":"L40S"' in worker
    assert '"GPU":1' in worker
    assert "--metrics-export-port=8080" in worker
    assert "python -P -m cluster.spot_notice" in played.worker.of("spot_notice")


def test_the_roles_are_valid_and_the_head_may_give_workers_theirs() -> None:
    from cfnlint import lint_file

    assert lint_file(ROLES) == []
    text = ROLES.read_text(encoding="utf-8")
    (config,) = documents(RAY_CLUSTER)
    named = [value["Name"] for key, value in items(config) if key == "IamInstanceProfile"]
    assert {f"InstanceProfileName: {name}" in text for name in named} == {True}
    assert f"Default: {config['cluster_name']}\n" in text
    assert "iam:PassRole" in text
