"""The decode stage: one tile of a slab, from final latents to 8-bit pixels."""

from collections.abc import Sequence
from typing import Any

import torch

from actors.torch_device import TorchActor
from actors.work import Made
from ltx_ray.decoding.blend import split_tail
from ltx_ray.decoding.smaller import decode_in_parts, halves
from ltx_ray.decoding.tile import DecodeSettings, to_uint8
from ltx_ray.payload import unpack
from ltx_ray.run import RunSpec
from ltx_ray.types import Frame, Job, Shot, Slab, Tile


class TileDecoder(TorchActor):
    """Holds the VAE's decoder."""

    def __init__(self, run: RunSpec) -> None:
        super().__init__(run)
        self._vae = self.checkpoint.load_vae(self.dtype, self.device)

    @torch.inference_mode()
    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """Inputs: the chunks that hold the slab's latents, in order. Makes the tile's body and its tail."""
        assert isinstance(job.task.work, tuple)
        slab, tile = job.task.work
        assert isinstance(slab, Slab)
        assert isinstance(tile, Tile)
        latents = torch.cat([unpack(self.read(source))["final"] for source in inputs], dim=2)
        settings = decode_settings(self._run, job.shot, job.frame)
        halo = self._run.plan_settings().tiles.halo
        pixels = decode_in_parts(
            self._vae, latents, job.first_latent, slab, tile, settings, job.halvings, halo
        )
        body, tail = split_tail(to_uint8(pixels), slab)
        # A view would keep the whole tile in memory until the next slab is assembled.
        is_cut = job.halvings and halves(tile, settings.ratios.space, halo)
        facts = {"adapted": f"{job.task.key} in up to {2**job.halvings} parts"} if is_cut else {}
        return Made(parts=(body, tail.copy()), facts=facts)


def decode_settings(run: RunSpec, shot: Shot, frame: Frame) -> DecodeSettings:
    """How the tiles of ``shot`` are decoded."""
    return DecodeSettings(
        decode_timestep=run.sampling.decode_timestep or 0.0,
        decode_noise_scale=run.sampling.decode_noise_scale or 0.0,
        seed=shot.seed,
        rows=frame.rows,
        columns=frame.columns,
        device=run.device,
        ratios=run.ratios,
    )
