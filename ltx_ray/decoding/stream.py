"""Latents in, chunk by chunk, frames out, slab by slab: the decode stages of a shot within one process.

What is held is the latents that the next slab still needs and the tails of the slab before: memory does not
grow with the length of the video. Tiles, blending and rounding are those of the farm's actors.
"""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ltx_ray.decoding.blend import Canvas, Pixels, blend_slab, split_tail
from ltx_ray.decoding.tile import DecodeSettings, decode_tile, to_uint8
from ltx_ray.types import ShotPlan, Slab

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo


class SlabStream:
    """Decodes the slabs of one shot in order, each as soon as its latents are final."""

    def __init__(
        self,
        vae: "AutoencoderKLLTXVideo",
        plan: ShotPlan,
        settings: DecodeSettings,
        done: Collection[int] = (),
    ) -> None:
        """Slabs in ``done`` are passed over; the last before one that is not is decoded for its tail."""
        self._vae = vae
        self._settings = settings
        self._done = set(done)
        self._canvas = Canvas.of(plan.frame, plan.shot)
        self._slabs = list(plan.slabs)
        self._held: Tensor | None = None
        self._first = 0  # the shot's latent with which ``_held`` begins
        self._tails: list[Pixels] = []

    def push(self, final: Tensor) -> Iterator[tuple[Slab, Iterator[Pixels]]]:
        """Take the next final latents [1, C, n, rows, columns]; yield the slabs that are complete with them.

        With each slab come its frames [height, width, 3] uint8, to be taken before the next slab is.
        """
        self._held = final if self._held is None else torch.cat([self._held, final], dim=2)
        while self._slabs and self._slabs[0].t.in_stop <= self._first + self._held.shape[2]:
            slab = self._slabs.pop(0)
            if slab.index not in self._done:
                bodies, tails = self._decoded(slab)
                yield slab, blend_slab(bodies, self._tails, slab, self._canvas)
                self._tails = tails
            elif self._slabs and self._slabs[0].index not in self._done:
                self._tails = self._decoded(slab)[1]
            if self._slabs:
                passed = self._slabs[0].t.in_start - self._first
                self._held, self._first = self._held[:, :, passed:].clone(), self._first + passed

    def _decoded(self, slab: Slab) -> tuple[list[Pixels], list[Pixels]]:
        """The bodies and the tails of the slab's tiles."""
        assert self._held is not None
        bodies, tails = [], []
        with torch.inference_mode():
            for tile in slab.tiles:
                pixels = decode_tile(self._vae, self._held, self._first, slab, tile, self._settings)
                body, tail = split_tail(to_uint8(pixels), slab)
                bodies.append(body)
                tails.append(tail.copy())
        return bodies, tails
