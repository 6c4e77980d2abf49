"""``ltx-ray plan``: what a manifest will take on so many GPUs, before they are paid for."""

from dataclasses import dataclass
from pathlib import Path

from actors.rehearsal import Bars, Rehearsal, Terms, rehearse
from cluster.capacity import Capacity, Space
from cluster.placement import Sizing
from cluster.sizing import Demand, split
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError, UserError
from ltx_ray.manifest.index import index_manifest, long_rows, shots
from ltx_ray.manifest.read import folder_of
from ltx_ray.planning.timing import Profile
from ltx_ray.run import RunSpec
from ltx_ray.types import Stage

# Of a machine with GPUs, where nobody says otherwise; CPUs are never what a plan is short of.
_GPUS_PER_NODE, _CPUS_PER_GPU = 8, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What the command line asked for."""

    manifest: str
    config: RenderConfig
    profile: str | None  # path of its file
    gpus: tuple[int, ...] = ()  # numbers of GPUs to try
    cpus: int | None = None  # instead: a machine without GPUs
    price: float = 0.0  # of a GPU for an hour
    spot_loss: float = 0.0  # part of the actors at work that is lost in an hour
    start_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one run would go. Times are seconds."""

    gpus: int
    cpus: int
    shots: int  # rows that would be rendered
    rejected: int
    chunks: int
    tasks: int
    makespan: float
    least: float  # no run can be faster: the longest chain, or all work on all GPUs
    gpu_hours: float
    busy: float  # part of the GPU-hours in which a GPU's share was at work; of CPUs: of the actors' time
    cost: float
    longest_shot: str
    longest_chain: float
    peak_decoded_bytes: int
    retries: int
    work: dict[str, float]  # seconds of all tasks of a stage
    stage_busy: dict[str, float]  # part of its actors' time
    actors: dict[str, float]  # on average
    best_split: dict[str, int]  # actors that serve all stages evenly; of GPUs only


def plan(request: PlanRequest) -> list[tuple[Plan, Bars]]:
    """One plan for each number of GPUs. Raises UserError, ConfigError or ManifestError."""
    profile = _read(request.profile)
    if (request.cpus is None) == (not request.gpus):
        raise ConfigError(
            "a plan wants --gpus (or --sweep-gpus), or --cpus for a machine without: one of them"
        )
    if profile.model != request.config.model.name:
        raise UserError(
            f"the profile {request.profile} is of the model {profile.model}, but the run is of "
            f"{request.config.model.name}: make one with `ltx-ray profile` of a run of that model"
        )
    device = "cuda" if request.gpus else "cpu"
    spec = RunSpec.decide(request.config, "memory://plan", device, folder_of(request.manifest))
    return [_plan(request, spec, profile, gpus) for gpus in request.gpus or (0,)]


def _read(path: str | None) -> Profile:
    if not path:
        raise ConfigError(
            "a plan wants --profile FILE, how long tasks take on the machines that it is for: render a few "
            "shots there, and fit it with `ltx-ray profile OUT --write FILE`"
        )
    try:
        return Profile.parse(Path(path).read_bytes(), path)
    except OSError as error:
        raise ConfigError(
            f"--profile must be a file that `ltx-ray profile OUT --write FILE` wrote, got {path}: "
            f"{error.strerror}"
        ) from error


def _capacity(request: PlanRequest, gpus: int) -> Capacity:
    nodes: tuple[Space, ...]
    if request.cpus is not None:
        nodes = (Space(float(request.cpus)),)
    else:
        sizes = [_GPUS_PER_NODE] * (gpus // _GPUS_PER_NODE) + [gpus % _GPUS_PER_NODE]
        nodes = tuple(Space(float(_CPUS_PER_GPU * size), float(size)) for size in sizes if size)
    return Capacity(nodes, nodes)


def _plan(request: PlanRequest, spec: RunSpec, profile: Profile, gpus: int) -> tuple[Plan, Bars]:
    config = request.config
    index = index_manifest(request.manifest, config)
    capacity = _capacity(request, gpus)
    sizing = Sizing(
        device=spec.device,
        threads=config.device.threads,
        config=config.pools.model_copy(update={"max_gpus": float(gpus) or None}),
    )
    placement = sizing.place(capacity)
    first = long_rows(index, placement.sizes[Stage.DENOISE])
    made = rehearse(
        spec,
        shots(request.manifest, config, index, first),
        profile,
        sizing,
        Terms(
            capacity=capacity,
            start_seconds=request.start_seconds,
            losses_per_hour=request.spot_loss,
        ),
        total=index.num_rows,
        cost=index.cost,
        total_cost=index.total_cost,
    )
    if not made.tasks:
        raise UserError(
            f"manifest {request.manifest} has no row that could be rendered: see ltx-ray validate"
        )
    return _described(request, made, placement.gpus, gpus), made.bars


def _described(request: PlanRequest, made: Rehearsal, shares: dict[Stage, float], gpus: int) -> Plan:
    gpu_work = sum(made.work[stage] * shares[stage] for stage in Stage)
    held, ended = sum(made.held.values()), made.summary.progress
    on_gpu = [stage for stage in Stage if shares[stage]]
    demands = {stage: Demand(seconds=max(made.work[stage], 1e-9), share=shares[stage]) for stage in on_gpu}
    return Plan(
        gpus=gpus,
        cpus=request.cpus or 0,
        shots=ended.total - ended.rejected,
        rejected=ended.rejected,
        chunks=made.chunks,
        tasks=made.tasks,
        makespan=made.makespan,
        least=max(made.longest[1], gpu_work / gpus if gpus else 0.0),
        gpu_hours=made.gpu_hours,
        busy=gpu_work / 3600 / made.gpu_hours if made.gpu_hours else sum(made.work.values()) / held,
        cost=made.gpu_hours * request.price,
        longest_shot=made.longest[0],
        longest_chain=made.longest[1],
        peak_decoded_bytes=made.peak_decoded_bytes,
        retries=ended.retries,
        work={stage.value: made.work[stage] for stage in Stage},
        stage_busy={
            stage.value: made.work[stage] / made.held[stage] if made.held[stage] else 0.0 for stage in Stage
        },
        actors={stage.value: made.held[stage] / made.makespan for stage in Stage},
        best_split={stage.value: size for stage, size in split(demands, gpus).items()} if gpus else {},
    )
