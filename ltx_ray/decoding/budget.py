"""How much memory a tile needs while it is decoded, known before anything is loaded."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ltx_ray.decoding.layers import Kind, Layer, decoder_layers

# A tile's activations where nobody names a budget, by the kind of device: several decoders share a CPU's
# memory; a 4K tile of fewer than about 24 x 24 cells decodes its halo more than its core, and cards that
# decode 4K have 24 GB and more.
DEFAULT_TILE_BYTES: Mapping[str, int] = MappingProxyType({"cpu": 2 * 2**30, "cuda": 16 * 2**30})

_FLOAT32_BYTES = 4


def decoder_bytes_per_cell(vae_config: Mapping[str, Any], dtype_bytes: int) -> int:
    """Peak bytes of the decoder's activations for one latent cell: 32 x 32 pixels of 8 frames for LTX.

    The peak is that of the layer with the most live tensors, counted from diffusers' code without autograd.
    Against the allocations of real decodes (the decoders 0.9.0 to 0.9.5 and narrow ones, float32 and
    bfloat16, 16 latents of 12 x 12 cells) it is right within 10 percent. The weights, the latents and the
    workspace of a convolution library come on top (oneDNN on a CPU in float32: half as much again).
    """
    layers = list(decoder_layers(vae_config))
    # The last convolution's patches are taken apart into pixels, with one copy.
    pixels = 2 * _elements(layers[-1].out_channels, layers[-1].scale) * dtype_bytes
    return max(pixels, *(_layer_bytes(layer, dtype_bytes) for layer in layers))


def _elements(channels: int, scale: int) -> int:
    """Values of a tensor that has ``scale`` positions along each of a cell's three axes."""
    return channels * scale**3


def _layer_bytes(layer: Layer, dtype_bytes: int) -> int:
    given = _elements(layer.in_channels, layer.scale) * dtype_bytes
    made = _elements(layer.out_channels, layer.out_scale) * dtype_bytes
    match layer.kind:
        case Kind.UPSAMPLE:
            # Its input, the convolution's output, that rearranged, and the rearranged residual.
            return given + (3 if layer.residual else 2) * made
        case Kind.CONV:
            return 2 * given + made
        case Kind.RESNET:
            # Kept for the sum at the end: its input. In a convolution: what it is given, that padded in
            # time, its output. In a norm: what it is given, and in float32 that (a copy) and its square.
            copies = 1 if dtype_bytes == _FLOAT32_BYTES else 2
            squares = (
                copies * _elements(max(layer.in_channels, layer.out_channels), layer.scale) * _FLOAT32_BYTES
            )
            return given + max(2 * given + made, 3 * made, made + squares)
