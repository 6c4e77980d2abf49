"""A decoder that fits its memory: stands in for a stock VAE's, and decodes in tiles what would not fit whole.

    pipeline.vae.decoder = create_adaptive_decoder(pipeline.vae)

It is diffusers' decoder with the same submodules, weights and state dict. It holds no reference to the VAE,
so there is no cycle, and a pipeline that is saved with it is a stock checkpoint.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKLLTXVideo
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoDecoder3d
from torch import Tensor, nn

from ltx_ray.decoding.accumulate import TileSum
from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES, decoder_bytes_per_cell
from ltx_ray.decoding.layers import decoder_layers
from ltx_ray.decoding.noise import injected_noise
from ltx_ray.decoding.tile import is_tile
from ltx_ray.errors import ConfigError, ModelError, UserError
from ltx_ray.models.autoencoders.decode_plan import DecodePlan, Tiling, plan_decode
from ltx_ray.models.autoencoders.low_band import coarse_latents, low_band_of, replace_low_band, wavelets_of
from ltx_ray.planning.geometry import Ratios, frames_of
from ltx_ray.planning.tiles import whole_axis
from ltx_ray.types import Interval, Tile

_log = logging.getLogger(__name__)
_SEEDS = 2**53  # as a shot's


class _Sample(NamedTuple):
    latents: Tensor  # [1, C, T, h, w]
    timestep: Tensor | None  # [1]
    seed: int | None  # of the noise inside the decoder


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
    leaves whole decodes to diffusers. The samples of a batch are decoded one by one. Nothing is tiled while
    gradients are recorded with checkpointing, nor what ``decode_tile`` decodes, whose noise is left alone.
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
        off = self._why_off()
        return plan_decode(
            (latents.shape[2], latents.shape[3], latents.shape[4]),
            tiling=None if off else self.tiling,
            ratios=self.ratios,
            bytes_per_cell=decoder_bytes_per_cell(self.vae_config, latents.element_size()),
            memory_budget=budget,
            off=off or "tiling is off",
        )

    def _why_off(self) -> str | None:
        """Why nothing may be cut now, whatever the settings are."""
        if is_tile():
            return "it is a tile already"
        # Checkpointing decodes again in the backward pass, where the noise of a tile is not known any more.
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return "gradients are checkpointed"
        return None

    def forward(self, hidden_states: Tensor, temb: Tensor | None = None) -> Tensor:
        """Pixels of denormalised latents ``[B, C, T, h, w]``; ``temb`` is ``[1]`` or ``[B]`` as for stock.

        Raises ConfigError where no tile fits ``memory_budget``, UserError for a ``temb`` of another size.
        """
        plan = self.last_plan = self.plan(hidden_states)
        _log.info("%s", plan)
        seed = None if is_tile() else self.noise_seed
        if seed is None and plan.tiled and any(self.vae_config["decoder_inject_noise"]):
            seed = int(torch.randint(_SEEDS, ()))
        samples = self._samples(hidden_states, temb, seed)
        if len(samples) == 1 and not plan.tiled:
            return self._whole(samples[0])
        output = self._empty(hidden_states)
        for index, sample in enumerate(samples):
            low = self._low_band(sample) if plan.tiled and self.coarse_low_band else None
            self._decode_into(output[index], sample, plan, low)
        return output

    def _samples(self, latents: Tensor, temb: Tensor | None, seed: int | None) -> list[_Sample]:
        """The samples of a batch, each with its timestep."""
        count = len(latents)
        steps: Sequence[Tensor | None] = [None] * count
        if self.timestep_scale_multiplier is not None:
            if temb is None or temb.numel() not in (1, count):
                got = "none" if temb is None else f"a tensor {list(temb.shape)}"
                raise UserError(
                    f"this VAE's decoder wants one timestep, or one for each of {count} samples, got {got}: "
                    "call vae.decode(latents, torch.tensor([0.05]))"
                )
            steps = torch.split(temb.flatten().expand(count), 1)
        return [_Sample(latents[index : index + 1], step, seed) for index, step in enumerate(steps)]

    def _empty(self, latents: Tensor) -> Tensor:
        frames = frames_of(latents.shape[2], self.ratios)
        height, width = latents.shape[3] * self.ratios.space, latents.shape[4] * self.ratios.space
        return latents.new_empty(len(latents), self.vae_config["out_channels"], frames, height, width)

    def _decode_into(self, output: Tensor, sample: _Sample, plan: DecodePlan, low: Tensor | None) -> None:
        """Decode one sample as planned into ``output`` ``[3, F, H, W]``."""
        if not plan.tiled:
            output[:] = self._whole(sample)[0]
        added = TileSum(output)
        for slab in plan.slabs:
            for tile in slab.tiles:
                # No name holds a tile's pixels while the next one is decoded.
                added.add(self._tile(sample, slab.t, tile, low), slab.t, tile)

    def _tile(self, sample: _Sample, t: Interval, tile: Tile, low: Tensor | None) -> Tensor:
        """All decoded pixels ``[3, f, h, w]`` of a tile, context included."""
        latents, y, x = sample.latents, tile.y, tile.x
        block = latents[:, :, t.in_start : t.in_stop, y.in_start : y.in_stop, x.in_start : x.in_stop]
        with injected_noise(self.vae_config, sample.seed, latents.shape[3], latents.shape[4], y, x):
            pixels: Tensor = super().forward(block, sample.timestep)[0]
        if low is None:
            return pixels
        return replace_low_band(pixels, low, t, tile, self.ratios, wavelets_of(self.hierarchical_encoder))

    def _low_band(self, sample: _Sample) -> Tensor:
        """The frame's low band ``[3, F, H / 2**n, W / 2**n]``, within the memory budget as well."""
        levels = wavelets_of(self.hierarchical_encoder).compression_levels
        coarse = sample._replace(latents=coarse_latents(sample.latents, levels))
        pixels = self._empty(coarse.latents)[0]
        self._decode_into(pixels, coarse, self.plan(coarse.latents), None)
        return low_band_of(pixels, levels, sample.latents.shape[3], sample.latents.shape[4], self.ratios)

    def _whole(self, sample: _Sample) -> Tensor:
        rows, columns = sample.latents.shape[3:]
        y, x = whole_axis(rows, self.ratios), whole_axis(columns, self.ratios)
        with injected_noise(self.vae_config, sample.seed, rows, columns, y, x):
            pixels: Tensor = super().forward(sample.latents, sample.timestep)
        return pixels
