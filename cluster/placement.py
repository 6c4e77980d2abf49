"""How the stages share what there is: pure functions of the number of CPUs and GPUs and of the config."""

from dataclasses import dataclass

from ltx_ray.config import PoolsConfig
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


def place(cpus: float, gpus: float, device: str, threads: int, config: PoolsConfig) -> Placement:
    """Sizes and shares of all pools. What the config says counts; the rest follows from the machine."""
    cores = max(int(cpus) // threads, 1)
    on_gpu = device == "cuda"
    if on_gpu:
        gpu_shares = _ONE_GPU if gpus < 2 else _MANY_GPUS
        decode_gpus = max(int(gpus) // 4, 1) if gpus >= 2 else 0
        denoisers = 1 if gpus < 2 else max(int(gpus) - decode_gpus, 1)
        decoders = 1 if gpus < 2 else 2 * decode_gpus
    else:
        gpu_shares = {}
        denoisers = decoders = cores
    asked = {
        Stage.CONDITION: config.conditioners,
        Stage.DENOISE: config.denoisers,
        Stage.DECODE: config.decoders,
        Stage.ASSEMBLE: config.assemblers,
        Stage.FINISH: config.finishers,
    }
    fitting = {
        Stage.CONDITION: 1,
        Stage.DENOISE: denoisers,
        Stage.DECODE: decoders,
        Stage.ASSEMBLE: max(cores // 2, 1),
        Stage.FINISH: 1,
    }
    scale = 1.0 if on_gpu else float(threads)
    return Placement(
        sizes={stage: asked[stage] or fitting[stage] for stage in Stage},
        cpus={stage: config.cpu_shares.get(stage.value, _CPU_SHARES[stage] * scale) for stage in Stage},
        gpus={stage: config.gpu_shares.get(stage.value, gpu_shares.get(stage, 0.0)) for stage in Stage},
    )
