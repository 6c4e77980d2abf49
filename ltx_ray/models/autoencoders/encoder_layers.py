"""The encoder's layers as data, and from them how far a pixel reaches and what an encode needs in memory.

As ``ltx_ray.decoding.layers``, ``receptive`` and ``budget`` do it for the decoder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod
from typing import Any

from ltx_ray.planning.geometry import ceil_div

_FLOAT32_BYTES = 4
# Strides in (time, space) of the downsamplers of LTXVideo095DownBlock3D.
_STRIDES = {"conv": (2, 2), "spatial": (1, 2), "temporal": (2, 1), "spatiotemporal": (2, 2)}


class Kind(StrEnum):
    """What a layer does to its input."""

    CONV = "conv"  # one 3x3x3 convolution
    RESNET = "resnet"  # two of them and a shortcut
    STRIDED = "strided"  # one of them with strides
    SHUFFLE = "shuffle"  # one of them, then neighbours become channels; beside it their means


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLayer:
    """One layer; scales are positions of its input in a latent cell, strides what it divides them by."""

    kind: Kind
    in_channels: int
    out_channels: int
    time_scale: int
    space_scale: int
    time_stride: int = 1
    space_stride: int = 1
    starts_block: bool = True  # its input is kept until the block's last layer is done


@dataclass(frozen=True, slots=True)
class Reach:
    """How much context makes a block's latents equal to those of the whole encode."""

    space: int  # cells, on every side
    before: int  # latents before a block
    after: int  # latents after it: 0 for a causal encoder


def encoder_layers(vae_config: Mapping[str, Any]) -> Iterator[EncoderLayer]:
    """The encoder's layers in order; ``vae_config`` is that of an ``AutoencoderKLLTXVideo``, complete.

    Mirrors ``LTXVideoEncoder3d.__init__`` and its down blocks of diffusers 0.42.
    """
    steps = list(_steps(vae_config))
    time = prod(step.time_stride for step in steps)
    space = prod(step.space_stride for step in steps)
    for step in steps:
        yield replace(step, time_scale=time, space_scale=space)
        time, space = time // step.time_stride, space // step.space_stride


def encoder_reach(vae_config: Mapping[str, Any]) -> Reach:
    """The exact context of a block of whole cells and latents.

    Follows how many positions at the edges of a block are spoiled. A 3x3x3 convolution spoils one more at
    either edge in space; in time one more at either end, or two at the start where it is causal. Where
    neighbours become one position, it is spoiled if any of them is. All norms are per position.
    In time a block begins with the last frame of its first latent, which the encoder takes for a first frame.
    """
    causal = vae_config["encoder_causal"]
    left, right = (2, 0) if causal else (1, 1)
    space = before = after = 0
    for layer in encoder_layers(vae_config):
        convolutions = 2 if layer.kind is Kind.RESNET else 1
        if layer.kind is Kind.SHUFFLE:
            before += layer.time_stride - 1  # copies of the block's first frame are put before it
        space += convolutions
        before += left * convolutions
        # A strided convolution's last window ends at the block's last frame plus what it pads.
        if layer.kind is Kind.STRIDED and not causal:
            after = after // layer.time_stride + 1
        else:
            after = ceil_div(after + right * convolutions, layer.time_stride)
        space = ceil_div(space, layer.space_stride)
        before = ceil_div(before, layer.time_stride)
    return Reach(space, before, after)


def encoder_bytes_per_cell(vae_config: Mapping[str, Any], dtype_bytes: int, one_frame: bool = False) -> int:
    """Peak bytes of the encoder's activations for one latent cell: 32 x 32 pixels of 8 frames for LTX.

    With ``one_frame``, of an image: a cell of one frame, whose copies in front of causal convolutions weigh
    most. The peak is that of the layer with the most live tensors, counted from diffusers' code without
    autograd, and the pixels. Against the allocations of real encodes it is right for an image, 6 percent too
    much for 16 latents, and more for shorter clips, whose first latent is but a frame. The weights and the
    workspace of a convolution library come on top.
    """
    layers = list(encoder_layers(vae_config))
    first = layers[0]
    frames = 1 if one_frame else first.time_scale
    pixels = first.in_channels * first.space_scale**2 * frames * dtype_bytes
    most = held = 0
    for layer in layers:
        size = layer.in_channels * layer.space_scale**2 * dtype_bytes
        size *= 1 if one_frame else layer.time_scale
        most = max(most, _layer_bytes(layer, dtype_bytes, one_frame) + (0 if layer.starts_block else held))
        held = size if layer.starts_block else held
    return pixels + most


def _steps(config: Mapping[str, Any]) -> Iterator[EncoderLayer]:
    """The layers with their channels and strides; their scales are not known before the last one."""
    widths = config["block_out_channels"]
    later = config["down_block_types"][-1] == "LTXVideo095DownBlock3D"
    channels = widths[0]
    yield _step(Kind.CONV, config["in_channels"] * config["patch_size"] ** 2, channels)
    for index in range(len(widths) - later):
        made = widths[min(index + 1, len(widths) - 1)]
        yield from _down_block(config, index, channels, made)
        channels = made
    yield from _resnets(config["layers_per_block"][-1], channels)
    yield _step(Kind.CONV, channels, config["latent_channels"] + 1)


def _down_block(config: Mapping[str, Any], index: int, channels: int, made: int) -> Iterator[EncoderLayer]:
    count = config["layers_per_block"][index]
    yield from _resnets(count, channels)
    of_095 = config["down_block_types"][index] == "LTXVideo095DownBlock3D"
    how = config["downsample_type"][index] if of_095 else "conv"
    scaling = config["spatio_temporal_scaling"][index]
    if scaling:
        kind = Kind.STRIDED if how == "conv" else Kind.SHUFFLE
        out_channels = channels if how == "conv" else made
        yield _step(kind, channels, out_channels, *_STRIDES[how], starts_block=not count)
    if not of_095 and channels != made:
        yield _step(Kind.RESNET, channels, made, starts_block=not count and not scaling)


def _resnets(count: int, channels: int) -> Iterator[EncoderLayer]:
    for index in range(count):
        yield _step(Kind.RESNET, channels, channels, starts_block=not index)


def _step(
    kind: Kind,
    in_channels: int,
    out_channels: int,
    time_stride: int = 1,
    space_stride: int = 1,
    starts_block: bool = True,
) -> EncoderLayer:
    return EncoderLayer(
        kind=kind,
        in_channels=in_channels,
        out_channels=out_channels,
        time_scale=0,
        space_scale=0,
        time_stride=time_stride,
        space_stride=space_stride,
        starts_block=starts_block,
    )


def _layer_bytes(layer: EncoderLayer, dtype_bytes: int, one_frame: bool) -> int:
    area = layer.space_scale**2
    frames = 1 if one_frame else layer.time_scale
    # A convolution's two frames of padding are copied, and then put before its input in a copy of that;
    # beside many frames both are little.
    padding = 2 if one_frame else 0
    before = layer.time_stride - 1 if one_frame and layer.kind is Kind.SHUFFLE else 0
    frame = layer.in_channels * area * dtype_bytes
    given, copied = frame * frames, frame * (frames + before)
    padded = copied + 2 * padding * frame
    positions = area // layer.space_stride**2 * max(frames // layer.time_stride, 1)
    made = layer.out_channels * positions * dtype_bytes
    match layer.kind:
        case Kind.CONV | Kind.STRIDED:
            return given + padded + made
        case Kind.SHUFFLE:
            # Its input, that with frames put before it, padded; the means and the convolution's output.
            return given + copied + padded + 2 * made
        case Kind.RESNET:
            # Kept for the sum at the end: its input. In a convolution: what it is given, that padded in
            # time, its output. In a norm: what it is given, and in float32 that (a copy) and its square.
            copies = 1 if dtype_bytes == _FLOAT32_BYTES else 2
            values = max(layer.in_channels, layer.out_channels) * area * frames
            return given + max(given + padded + made, 3 * made, made + copies * values * _FLOAT32_BYTES)
