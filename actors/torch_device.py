"""What the actors that hold a part of the model share: the device, its threads, the checkpoint."""

import torch

from actors.work import StageActor
from ltx_ray.models.checkpoint import resolve
from ltx_ray.run import RunSpec


class TorchActor(StageActor):
    """An actor with a part of the model on the run's device."""

    def __init__(self, run: RunSpec) -> None:
        super().__init__(run)
        # The number of threads decides how sums are split, and so the bits: it is part of the profile.
        torch.set_num_threads(run.config.device.threads)
        self.device = torch.device(run.device)
        self.dtype = getattr(torch, run.sampling.dtype)
        self.checkpoint = resolve(run.checkpoint)
        self.device_name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"

    def _peak_bytes(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return super()._peak_bytes()
