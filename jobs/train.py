"""Training as a job: in this process, or as a Ray Train job of several processes on a cluster."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_ray.errors import UserError
from ltx_ray.training.request import TrainRequest, done_by, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Processes that train together, each with batches of its own."""

    count: int = 1
    gpus: bool = False  # one each; False: CPUs
    cpus: int = 1  # of each process


def train(request: TrainRequest, say: Callable[[str], None]) -> dict[str, Any]:
    """Train in this process; what was done, as plain data.

    A signal ends it after the step that is being done, with all saved; ``signal`` is then its number.
    """
    signals: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        return run(request, say, lambda: bool(signals)) | {"signal": signals[0] if signals else None}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_on_ray(
    request: TrainRequest, workers: Workers, address: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train in ``workers`` on the Ray at ``address``; OUTPUT must be a folder that all nodes share.

    Raises UserError where the cluster cannot place the workers, and what the training raises.
    """
    from cluster.connect import connected

    needed = workers.count * workers.cpus
    with connected(address, float(needed + 1)) as seen:
        if workers.gpus and seen.capacity.gpus < workers.count:
            raise UserError(
                f"{workers.count} workers with a GPU each need as many, got {seen.capacity.gpus:g} in the "
                "cluster: ask for fewer --workers"
            )
        say(f"training in {workers.count} processes on Ray ({address}); figures: {request.output}/log.csv")
        _fit(request, workers)
    return done_by(request)


def _fit(request: TrainRequest, workers: Workers) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = {"CPU": float(workers.cpus)} | ({"GPU": 1.0} if workers.gpus else {})
    TorchTrainer(
        _worker,
        train_loop_config=request.to_dict(),
        scaling_config=ScalingConfig(
            num_workers=workers.count, use_gpu=workers.gpus, resources_per_worker=resources
        ),
        run_config=RunConfig(name="train", storage_path=str(Path(request.output) / "ray")),
    ).fit()


def _worker(values: dict[str, Any]) -> None:
    """One process of a Ray Train job. Ray has set up torch.distributed; accelerate finds it."""
    run(TrainRequest.from_dict(values), _say)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
