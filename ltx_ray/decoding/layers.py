"""The decoder's layers as data, read from a VAE's config, in the order in which they run.

What a tile needs (``receptive``, ``budget``) is computed from this list, so that it follows any LTX config.
The config's tuples stand in the encoder's order: the decoder reads them backwards.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a layer does to its input."""

    CONV = "conv"  # one 3x3x3 convolution
    RESNET = "resnet"  # two of them and a shortcut
    UPSAMPLE = "upsample"  # one of them, then channels become twice the size on all three axes


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; ``scale`` is the number of its input's positions along each axis of a latent cell."""

    kind: Kind
    in_channels: int
    out_channels: int
    scale: int
    residual: bool = False  # an upsampler that also adds its rearranged input

    @property
    def out_scale(self) -> int:
        """Positions of the output along each axis of a latent cell."""
        return self.scale * 2 if self.kind is Kind.UPSAMPLE else self.scale


def decoder_layers(vae_config: Mapping[str, Any]) -> Iterator[Layer]:
    """The decoder's layers in order; ``vae_config`` is that of an ``AutoencoderKLLTXVideo``.

    Mirrors ``LTXVideoDecoder3d.__init__`` and ``LTXVideoUpBlock3d.__init__`` of diffusers 0.42. Every
    upsampler there has the stride (2, 2, 2), so one scale holds for space and time.
    """
    blocks = tuple(reversed(vae_config["decoder_block_out_channels"]))
    scaling = tuple(reversed(vae_config["decoder_spatio_temporal_scaling"]))
    resnets = tuple(reversed(vae_config["decoder_layers_per_block"]))
    residuals = tuple(reversed(vae_config["upsample_residual"]))
    factors = tuple(reversed(vae_config["upsample_factor"]))
    channels, scale = blocks[0], 1
    yield Layer(Kind.CONV, vae_config["latent_channels"], channels, scale)
    yield from _resnets(resnets[0], channels, scale)
    for index, block in enumerate(blocks):
        before, channels = channels // factors[index], block // factors[index]
        if before != channels:
            yield Layer(Kind.RESNET, before, channels, scale)
        if scaling[index]:
            # diffusers gives the upsampler factor x the block's channels and divides them again inside.
            yield Layer(Kind.UPSAMPLE, channels * factors[index], channels, scale, residuals[index])
            scale *= 2
        yield from _resnets(resnets[index + 1], channels, scale)
    yield Layer(Kind.CONV, channels, vae_config["out_channels"] * vae_config["patch_size"] ** 2, scale)


def _resnets(count: int, channels: int, scale: int) -> Iterator[Layer]:
    for _ in range(count):
        yield Layer(Kind.RESNET, channels, channels, scale)
