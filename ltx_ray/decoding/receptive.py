"""How far a latent reaches: the halo at which a tile equals the whole decode exactly."""

from collections.abc import Mapping
from typing import Any

from ltx_ray.decoding.layers import Kind, decoder_layers
from ltx_ray.planning.geometry import ceil_div

_CONVOLUTIONS = {Kind.CONV: 1, Kind.RESNET: 2, Kind.UPSAMPLE: 1}


def exact_halo(vae_config: Mapping[str, Any]) -> tuple[int, int]:
    """(cells in space, latents in time) of context beyond which no latent changes a pixel of a tile.

    Follows the first and the last position of a block that its cut edges do not reach: a 3x3x3
    convolution spoils one more position at either edge (a causal one two at the start in time, none at
    the end); an upsampler doubles what is spoiled, but in time it drops the block's first frame. All
    norms of the decoder are per position and its shortcuts are convolutions of size 1: they reach nowhere.
    """
    before, after = (2, 0) if vae_config["decoder_causal"] else (1, 1)
    space = start = stop = 0
    scale = 1
    for layer in decoder_layers(vae_config):
        convolutions = _CONVOLUTIONS[layer.kind]
        space += convolutions
        start += before * convolutions
        stop += after * convolutions
        if layer.kind is Kind.UPSAMPLE:
            space, start, stop = 2 * space, 2 * start - 1, 2 * stop
        scale = layer.out_scale
    # In time a latent's first frame is ratio - 1 frames before its last one, where its block begins.
    return ceil_div(space, scale), max(ceil_div(start + scale - 1, scale), ceil_div(stop, scale))
