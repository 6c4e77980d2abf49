"""A decoder that fits its memory: stands in for a stock VAE's, and decodes in tiles what would not fit whole.

    pipeline.vae.decoder = create_adaptive_decoder(pipeline.vae)

It is diffusers' decoder with the same submodules, weights and state dict. It holds no reference to the VAE,
so there is no cycle, and a pipeline that is saved with it is a stock checkpoint.
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoDecoder3d
from torch import Tensor, nn

from ltx_ray.decoding.accumulate import add_tile
from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES, decoder_bytes_per_cell
from ltx_ray.decoding.layers import decoder_layers
from ltx_ray.decoding.noise import injected_noise
from ltx_ray.errors import ConfigError, ModelError, UserError
from ltx_ray.models.autoencoders.decode_plan import DecodePlan, Tiling, plan_decode
from ltx_ray.models.autoencoders.low_band import (
    coarse_latents,
    low_band_of,
    replace_low_band,
    wavelets_of,
)
from ltx_ray.planning.geometry import Ratios, frames_of
from ltx_ray.planning.tiles import whole_axis
from ltx_ray.types import Interval, Tile

_log = logging.getLogger(__name__)
_SEEDS = 2**53  # as a shot's


def create_adaptive_decoder(
    vae: AutoencoderKLLTXVideo,
    hierarchical_encoder: nn.Module | None = None,
    use_tiling: bool = True,
    *,
    memory_budget: int | None = None,
) -> "AdaptiveVAEDecoder":
    """A decoder with the weights of ``vae``'s, to be set as ``vae.decoder``; ``vae`` itself is not changed.

    ``hierarchical_encoder`` is used by the ``coarse_low_band`` option only. ``use_tiling``: whether to decode
    in tiles what would not fit ``memory_budget``, bytes for the activations of one decode (None: 2 GiB on a
    CPU, 16 GiB on a GPU; weights and the video itself come on top). A decoder that is adaptive already is
    not wrapped again: the new one has its weights and fresh settings. Raises ModelError where ``vae`` is no
    AutoencoderKLLTXVideo with its own decoder, or where offloading hooks are on the decoder.
    """
    if not isinstance(vae, AutoencoderKLLTXVideo) or not isinstance(vae.decoder, LTXVideoDecoder3d):
        got = type(vae).__name__
        if isinstance(vae, AutoencoderKLLTXVideo):
            got += f" with a decoder {type(vae.decoder).__name__}"
        raise ModelError(
            f"vae must be an AutoencoderKLLTXVideo of diffusers with its own decoder, got {got}: "
            "give pipeline.vae of an LTX pipeline"
        )
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    return AdaptiveVAEDecoder(vae.decoder, config, hierarchical_encoder, use_tiling, memory_budget)


class AdaptiveVAEDecoder(LTXVideoDecoder3d):  # type: ignore[misc]
    """``decoder(latents [B, C, T, h, w], temb) -> pixels [B, 3, F, h * ratio, w * ratio]``, as the stock one.

    ``last_plan`` says how the last call was decoded, and why. ``noise_seed`` keys the noise that decoders of
    0.9.1 add inside, so that tiles agree: None draws one from torch's generator for each tiled call, and
    leaves whole decodes to diffusers. The samples of a batch are decoded one by one. While gradients are
    recorded with checkpointing, nothing is tiled.
    """

    def __init__(
        self,
        decoder: LTXVideoDecoder3d,
        vae_config: Mapping[str, Any],
        hierarchical_encoder: nn.Module | None,
        use_tiling: bool,
        memory_budget: int | None,
    ) -> None:
        """Use ``create_adaptive_decoder``; ``vae_config`` is that of the VAE whose decoder is adopted."""
        nn.Module.__init__(self)
        if "forward" in vars(decoder):
            raise ModelError(
                "the decoder must have no offloading hooks yet, got one whose forward was replaced: call "
                "create_adaptive_decoder before enable_sequential_cpu_offload or group offloading"
            )
        for name, value in vars(decoder).items():
            self.__dict__[name] = value.copy() if isinstance(value, dict | set) else value
        scale = list(decoder_layers(vae_config))[-1].scale
        self.vae_config = dict(vae_config)
        self.ratios = Ratios(time=scale * vae_config["patch_size_t"], space=scale * vae_config["patch_size"])
        # In a tuple, so that it is no submodule: its tensors, if any, are none of the checkpoint's.
        self._hierarchical = (hierarchical_encoder,)
        self._coarse_low_band = False
        self._memory_budget: int | None = None
        self.memory_budget = memory_budget
        self.tiling = Tiling(tile_size=None, overlap=None) if use_tiling else None
        self.noise_seed: int | None = None
        self.last_plan: DecodePlan | None = None

    def enable_tiling(self, tile_size: int | None = 512, overlap: int | None = 64) -> None:
        """Tile frames larger than ``tile_size`` pixels, and clips that do not fit ``memory_budget``.

        ``tile_size`` bounds the width and the height of a decoded tile, context included. ``overlap`` is the
        number of pixels that two neighbouring tiles decode both: half of it is blended, the rest is context.
        None for either leaves it to the memory budget (as at the start), and to the renderer's defaults of 4
        cells of context and a ramp of 64 pixels. Raises ConfigError where a tile cannot hold its overlap.
        """
        tiling = Tiling(tile_size=tile_size, overlap=overlap)
        tiling.check(self.ratios.space)
        self.tiling = tiling

    def disable_tiling(self) -> None:
        """Decode everything whole."""
        self.tiling = None

    @property
    def use_tiling(self) -> bool:
        """Whether tiling is enabled."""
        return self.tiling is not None

    @property
    def memory_budget(self) -> int | None:
        """Bytes for the activations of one decode, at least 1; None: by the device."""
        return self._memory_budget

    @memory_budget.setter
    def memory_budget(self, value: int | None) -> None:
        if value is not None and value < 1:
            raise ConfigError(f"memory_budget must be a positive number of bytes or None, got {value}")
        self._memory_budget = value

    @property
    def hierarchical_encoder(self) -> nn.Module | None:
        """What was given to ``create_adaptive_decoder``."""
        return self._hierarchical[0]

    @property
    def coarse_low_band(self) -> bool:
        """Whether tiles take their lowest Haar band from one coarse decode of the whole frame (default: no).

        An experiment: docs/adaptive_decoder.md says what it does to the error. Setting it raises ConfigError
        without a HierarchicalVAEEncoder with wavelets.
        """
        return self._coarse_low_band

    @coarse_low_band.setter
    def coarse_low_band(self, value: bool) -> None:
        if value:
            wavelets_of(self.hierarchical_encoder)
        self._coarse_low_band = value

    def plan(self, latents: Tensor) -> DecodePlan:
        """How ``latents`` ``[B, C, T, h, w]`` would be decoded now. Raises ConfigError as a call does."""
        budget = self.memory_budget or DEFAULT_TILE_BYTES.get(latents.device.type, DEFAULT_TILE_BYTES["cuda"])
        # Checkpointing decodes again in the backward pass, where the noise of a tile is not known any more.
        checkpointed = torch.is_grad_enabled() and self.gradient_checkpointing
        return plan_decode(
            (latents.shape[2], latents.shape[3], latents.shape[4]),
            tiling=None if checkpointed else self.tiling,
            ratios=self.ratios,
            bytes_per_cell=decoder_bytes_per_cell(self.vae_config, latents.element_size()),
            memory_budget=budget,
            off="gradients are checkpointed" if checkpointed else "tiling is off",
        )

    def forward(self, hidden_states: Tensor, temb: Tensor | None = None) -> Tensor:
        """Pixels of denormalised latents ``[B, C, T, h, w]``; ``temb`` is ``[1]`` or ``[B]`` as for stock.

        Raises ConfigError where no tile fits ``memory_budget``, UserError for a ``temb`` of another size.
        """
        plan = self.plan(hidden_states)
        self.last_plan = plan
        _log.info("%s", plan)
        timesteps = self._timesteps(temb, len(hidden_states))
        seed = self.noise_seed
        if seed is None and plan.tiled and any(self.vae_config["decoder_inject_noise"]):
            seed = int(torch.randint(_SEEDS, ()))
        if len(hidden_states) == 1 and not plan.tiled:
            return self._whole(hidden_states, timesteps[0], seed)
        output = self._empty(hidden_states)
        for index, timestep in enumerate(timesteps):
            sample = hidden_states[index : index + 1]
            if plan.tiled:
                low = self._low_band(sample, timestep, seed) if self.coarse_low_band else None
                self._add_tiles(output[index], sample, timestep, seed, plan, low)
            else:
                output[index] = self._whole(sample, timestep, seed)[0]
        return output

    def _timesteps(self, temb: Tensor | None, samples: int) -> list[Tensor | None]:
        """The timestep of each sample."""
        if self.timestep_scale_multiplier is None:
            return [None] * samples
        if temb is None or temb.numel() not in (1, samples):
            got = "none" if temb is None else f"a tensor {list(temb.shape)}"
            raise UserError(
                f"this VAE's decoder wants one timestep, or one for each of {samples} samples, got {got}: "
                "call vae.decode(latents, torch.tensor([0.05]))"
            )
        return list(torch.split(temb.flatten().expand(samples), 1))

    def _empty(self, latents: Tensor) -> Tensor:
        frames = frames_of(latents.shape[2], self.ratios)
        height, width = latents.shape[3] * self.ratios.space, latents.shape[4] * self.ratios.space
        return latents.new_zeros(len(latents), self.vae_config["out_channels"], frames, height, width)

    def _add_tiles(
        self,
        output: Tensor,
        latents: Tensor,
        timestep: Tensor | None,
        seed: int | None,
        plan: DecodePlan,
        low: Tensor | None = None,
    ) -> None:
        """Decode one sample ``[1, C, T, h, w]`` tile by tile into ``output`` ``[3, F, H, W]``."""
        for slab in plan.slabs:
            for tile in slab.tiles:
                # No name holds a tile's pixels while the next one is decoded.
                add_tile(output, self._tile(latents, timestep, seed, slab.t, tile, low), slab.t, tile)

    def _tile(
        self,
        latents: Tensor,
        timestep: Tensor | None,
        seed: int | None,
        t: Interval,
        tile: Tile,
        low: Tensor | None,
    ) -> Tensor:
        """All decoded pixels ``[3, f, h, w]`` of a tile, context included."""
        y, x = tile.y, tile.x
        block = latents[:, :, t.in_start : t.in_stop, y.in_start : y.in_stop, x.in_start : x.in_stop]
        with injected_noise(self.vae_config, seed, latents.shape[3], latents.shape[4], y, x):
            pixels: Tensor = super().forward(block, timestep)[0]
        if low is None:
            return pixels
        return replace_low_band(pixels, low, t, tile, self.ratios, wavelets_of(self.hierarchical_encoder))

    def _low_band(self, latents: Tensor, timestep: Tensor | None, seed: int | None) -> Tensor:
        """The frame's low band ``[3, F, H / 2**n, W / 2**n]``, within the memory budget as well."""
        levels = wavelets_of(self.hierarchical_encoder).compression_levels
        coarse = coarse_latents(latents, levels)
        plan = self.plan(coarse)
        if plan.tiled:
            pixels = self._empty(coarse)[0]
            self._add_tiles(pixels, coarse, timestep, seed, plan)
        else:
            pixels = self._whole(coarse, timestep, seed)[0]
        return low_band_of(pixels, levels, latents.shape[3], latents.shape[4], self.ratios)

    def _whole(self, latents: Tensor, timestep: Tensor | None, seed: int | None) -> Tensor:
        rows, columns = latents.shape[3:]
        y, x = whole_axis(rows, self.ratios), whole_axis(columns, self.ratios)
        with injected_noise(self.vae_config, seed, rows, columns, y, x):
            pixels: Tensor = super().forward(latents, timestep)
        return pixels
