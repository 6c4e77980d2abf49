"""What is known of machines, of a Ray and of its jobs: plain data, without Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

Asked = tuple[str, str | None]  # whether ("well", "absent", "bad"), and in words why not


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system, in bytes."""

    path: str
    free: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as its driver names it."""

    name: str
    memory: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine tells of itself (``cluster.node_probe.look``)."""

    hostname: str
    versions: dict[
        str, str | None
    ]  # of python, ltx_ray and the packages that decide the bytes; None: missing
    gpus: tuple[Gpu, ...]  # that the driver sees
    driver: str | None  # version of the GPU driver; None: there is none
    torch_gpus: int | None  # that torch can use; None: there is no GPU to ask for, or torch gave no answer
    disk: Disk  # the fuller one of Ray's folder and the temporary folder
    asks_token: bool | None  # whether Ray here was started with token authentication; None: no Ray
    has_tls: bool  # whether Ray here was started with certificates
    output: str | None = None  # why it cannot use OUT; None: it can, or was not asked
    model: Asked = ("well", None)  # whether it has the checkpoint
    inputs: Mapping[str, str] = field(default_factory=dict)  # files that it cannot read, and why

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Machine":
        """From what ``look`` answered."""
        gpus = tuple(Gpu(**gpu) for gpu in told["gpus"])
        return cls(**{**told, "gpus": gpus, "disk": Disk(**told["disk"]), "model": tuple(told["model"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How far a node's clock is ahead of this machine's, in seconds, and how exactly that is known."""

    ahead: float
    error: float  # half of the time that asking took


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A living node of a Ray."""

    id: str
    address: str  # of its network interface
    gpus: float  # that Ray counts
    object_store: int  # bytes
    machine: Machine | None  # None: it did not answer
    error: str | None = None  # why not
    clock: Clock | None = None
    is_open: bool | None = None  # whether it answers without a token; None: it cannot be reached from here
    accelerator: str | None = None  # type of its GPUs, by Ray's label; None: none, or Ray does not tell

    @property
    def name(self) -> str:
        """As a person finds it: its host, and the beginning of Ray's id of it."""
        return f"{self.machine.hostname if self.machine else self.address}/{self.id[:6]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ray:
    """A Ray, seen from here."""

    address: str  # HOST:PORT of its head
    nodes: tuple[Node, ...]
    is_open: bool | None  # whether its head answers without a token; None: not to be told from here
    dashboard: str | None  # HOST:PORT; None: there is none
    is_dashboard_open: bool | None  # whether it shows jobs without a token; None: not to be told from here

    @property
    def is_private(self) -> bool:
        """Whether nobody but this machine's own users can reach it."""
        return all(is_loopback(node.address) for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the job server knows of a job."""

    id: str  # submission id
    state: str  # "PENDING", "RUNNING", "SUCCEEDED", "FAILED" or "STOPPED"
    message: str  # of the job server; of a failed command the end of what it printed
    began: bool  # whether its command ran
    exit_code: int | None  # of the command; None: it has not ended, or was not seen to
    submitted: float  # seconds since 1970, by the head's clock
    metadata: Mapping[str, str]

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however."""
        return self.state not in ("PENDING", "RUNNING")


def is_loopback(address: str) -> bool:
    """Whether HOST, or HOST:PORT, can be reached from its own machine alone."""
    host = address.rpartition(":")[0] if address.count(":") == 1 or address.startswith("[") else address
    host = host.strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
