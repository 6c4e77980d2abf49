"""How the stages share what there is: pure functions of the number of CPUs and GPUs and of the config."""

from dataclasses import dataclass

from cluster.capacity import Capacity, Seen, Space
from ltx_ray.config import Bounds, PoolsConfig, RenderConfig
from ltx_ray.errors import ConfigError
from ltx_ray.types import Stage

# Shares of a CPU where stages run on CPUs: a denoiser or decoder is busy with one thread, the others seldom.
# They are small, because the stages of a shot take turns and the machine shares its cores out itself.
_CPU_SHARES = {
    Stage.CONDITION: 0.1,
    Stage.DENOISE: 0.4,
    Stage.DECODE: 0.3,
    Stage.ASSEMBLE: 0.1,
    Stage.FINISH: 0.1,
}
# Shares of GPUs by number of GPUs: on one, the stages take turns; from two on, denoisers have GPUs of their
# own and decoders and the text encoder share what is left.
_ONE_GPU = {Stage.CONDITION: 0.1, Stage.DENOISE: 0.6, Stage.DECODE: 0.3}
_MANY_GPUS = {Stage.CONDITION: 0.2, Stage.DENOISE: 1.0, Stage.DECODE: 0.4}


@dataclass(frozen=True, slots=True)
class Placement:
    """Most actors of each stage, and what each of them takes."""

    sizes: dict[Stage, int]
    cpus: dict[Stage, float]
    gpus: dict[Stage, float]

    @property
    def total_cpus(self) -> float:
        """Logical CPUs that all actors take together."""
        return sum(self.sizes[stage] * self.cpus[stage] for stage in Stage)

    def space(self, stage: Stage) -> Space:
        """What one actor of ``stage`` takes of a node."""
        return Space(self.cpus[stage], self.gpus[stage])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What the sizes of the pools follow from, apart from the cluster; it travels by pickle."""

    device: str
    threads: int  # of one actor, on a CPU
    config: PoolsConfig

    def place(self, capacity: Capacity) -> Placement:
        """Sizes and shares on a cluster that has, or may come to have, so much."""
        return place(capacity.cpus, self.gpus(capacity), self.device, self.threads, self.config)

    def gpus(self, capacity: Capacity) -> float:
        """That all stages together may take."""
        return self.config.max_gpus or capacity.gpus

    def bounds(self, stage: Stage) -> Bounds | None:
        """What the config says of a stage's size."""
        return bounds(self.config)[stage]


def bounds(config: PoolsConfig) -> dict[Stage, Bounds | None]:
    """The sizes that the config names; None: it leaves that to the cluster."""
    return {
        Stage.CONDITION: config.conditioners,
        Stage.DENOISE: config.denoisers,
        Stage.DECODE: config.decoders,
        Stage.ASSEMBLE: config.assemblers,
        Stage.FINISH: config.finishers,
    }


def place(cpus: float, gpus: float, device: str, threads: int, config: PoolsConfig) -> Placement:
    """Sizes and shares of all pools. What the config says counts; the rest follows from the machine."""
    cores = max(int(cpus) // threads, 1)
    seldom = max(cores // 8, 1)  # of what a shot needs but once
    on_gpu = device == "cuda"
    if on_gpu:
        gpu_shares = _ONE_GPU if gpus < 2 else _MANY_GPUS
        decode_gpus = max(int(gpus) // 4, 1) if gpus >= 2 else 0
        denoisers = 1 if gpus < 2 else max(int(gpus) - decode_gpus, 1)
        conditioners = max(int(gpus) // 64, 1)  # at first all denoisers wait for them
        decoders = 1 if gpus < 2 else 2 * decode_gpus
    else:
        gpu_shares = {}
        denoisers = decoders = cores
        conditioners = seldom
    fitting = {
        Stage.CONDITION: conditioners,
        Stage.DENOISE: denoisers,
        Stage.DECODE: decoders,
        Stage.ASSEMBLE: max(cores // 2, 1),
        Stage.FINISH: seldom,
    }
    asked = {stage: each.most for stage, each in bounds(config).items() if each}
    scale = 1.0 if on_gpu else float(threads)
    return Placement(
        sizes={stage: asked.get(stage, fitting[stage]) for stage in Stage},
        cpus={stage: config.cpu_shares.get(stage.value, _CPU_SHARES[stage] * scale) for stage in Stage},
        gpus={stage: config.gpu_shares.get(stage.value, gpu_shares.get(stage, 0.0)) for stage in Stage},
    )


def device_of(config: RenderConfig, gpus: float) -> str:
    """``cpu`` or ``cuda``, where there are so many GPUs now. Raises ConfigError for one that is not there."""
    will_come = config.pools.max_gpus is not None
    if config.device.kind == "cuda" and not (gpus or will_come):
        raise ConfigError(
            "device.kind is cuda, but there is no GPU: set it to auto or cpu, add GPUs, or set "
            "pools.max_gpus (--gpus) on a cluster that adds them when they are wanted"
        )
    if config.device.kind != "auto":
        return config.device.kind
    return "cuda" if gpus or will_come else "cpu"


def accelerator_of(config: RenderConfig, seen: Seen, kept: str | None = None) -> str | None:
    """The type of GPU that a run uses, among those that there are: a shot must not change it on its way, for
    other types round differently. ``kept``: the one on which OUT was begun. None: it is not known yet, the
    first GPU that is found decides; or Ray does not tell types. Raises ConfigError where it is not clear."""
    asked, there = config.device.accelerator, seen.accelerators
    if config.device.kind == "cpu":
        return asked
    if kept and config.reproducible:
        if asked not in (kept, None):
            raise ConfigError(_other_type(kept, f"device.accelerator is {asked}"))
        if there and kept not in there and config.pools.max_gpus is None:
            raise ConfigError(_other_type(kept, f"the cluster has {', '.join(sorted(there))}"))
        return kept
    if asked or len(there) < 2:
        return asked or next(iter(there), None)
    raise ConfigError(
        f"the cluster has GPUs of several types ({', '.join(sorted(there))}), which may round "
        "differently: name the one to use with device.accelerator"
    )


def _other_type(kept: str, found: str) -> str:
    return (
        f"--output was begun on GPUs of the type {kept}, and {found}: other types may round differently, so "
        f"add GPUs of that type, or give another --output, or set reproducible=false"
    )
