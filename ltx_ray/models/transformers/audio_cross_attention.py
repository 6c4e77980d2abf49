"""Audio cross-attention for any LTX transformer, under the names of the integration guide.

    add_audio_cross_attention_to_transformer(pipeline.transformer)      layers 8 to 12, gates at zero

With its gates at zero the transformer predicts what it did before, bit for bit; training opens them.
"""

from dataclasses import asdict
from typing import Any

import torch
from diffusers import LTXVideoTransformer3DModel
from torch import nn

from ltx_ray.errors import ModelError, UserError
from ltx_ray.models.transformers.audio_attention import AudioCrossAttentionBlock
from ltx_ray.models.transformers.audio_transformer import (
    AudioLayers,
    AudioLTXVideoTransformer3DModel,
    add_blocks,
    make_blocks,
    uncompiled,
)

__all__ = ["AudioCrossAttentionBlock", "add_audio_cross_attention_to_transformer", "convert", "without_audio"]

_AUDIO_LAYER = ".audio_attn."  # in the names of weights


def add_audio_cross_attention_to_transformer(
    transformer: LTXVideoTransformer3DModel,
    audio_latent_dim: int = 128,
    start_layer: int = 8,
    end_layer: int = 12,
    *,
    num_heads: int = 8,
    dropout: float = 0.1,
) -> AudioLTXVideoTransformer3DModel:
    """Give the layers ``start_layer`` .. ``end_layer`` (0-based, both included) audio cross-attention.

    Works in place, on any diffusers ``LTXVideoTransformer3DModel``, and returns the same object, whose
    ``forward`` now takes ``audio``. The new weights have the transformer's device and dtype, and gates of
    zero. Raises ModelError for something that is no such transformer, has audio layers already, is
    offloaded, cached or compiled as a whole (that comes after), lacks a layer that is asked for, or has a
    width that ``num_heads`` does not divide.
    """
    layers = AudioLayers(
        audio_latent_dim=audio_latent_dim,
        start_layer=start_layer,
        end_layer=end_layer,
        num_heads=num_heads,
        dropout=dropout,
    )
    try:
        return convert(transformer, layers)
    except UserError as error:
        raise ModelError(f"audio cross-attention cannot be added: {error}") from error


def convert(transformer: Any, layers: AudioLayers) -> AudioLTXVideoTransformer3DModel:
    """Turn a stock transformer, in place, into one with audio layers. Raises ModelError, and then leaves it
    as it was."""
    _check(transformer)
    made = make_blocks(transformer, layers)
    # Its class says what it does; a bound method on the instance would be copied with the wrong self.
    transformer.__class__ = AudioLTXVideoTransformer3DModel
    transformer.register_to_config(audio_layers=asdict(layers))
    add_blocks(transformer, made)
    adapted: AudioLTXVideoTransformer3DModel = transformer
    return adapted


def without_audio(transformer: LTXVideoTransformer3DModel) -> LTXVideoTransformer3DModel:
    """A stock transformer with the base weights of one with audio layers; a stock one as it is."""
    if not isinstance(transformer, AudioLTXVideoTransformer3DModel):
        return transformer
    config = {
        name: value
        for name, value in transformer.config.items()
        if name != "audio_layers" and not name.startswith("_")
    }
    weights = {name: value for name, value in transformer.state_dict().items() if _AUDIO_LAYER not in name}
    with torch.device("meta"):
        stock = LTXVideoTransformer3DModel(**config)
    stock.load_state_dict(weights, assign=True)
    return stock


def _check(transformer: Any) -> None:
    """Raise ModelError for a transformer to which no audio layers can be added."""
    if uncompiled(transformer) is not transformer:
        raise ModelError(
            "audio layers are added before torch.compile, got a transformer that is compiled: load it anew, "
            "add the layers, then compile it"
        )
    if not isinstance(transformer, LTXVideoTransformer3DModel):
        raise ModelError(f"expected an LTXVideoTransformer3DModel of diffusers, got {type(transformer)}")
    if isinstance(transformer, AudioLTXVideoTransformer3DModel):
        has = transformer.audio_layers
        raise ModelError(
            f"the transformer has audio layers already, {has.start_layer} to {has.end_layer}: "
            "load it anew to add others"
        )
    modules: list[nn.Module] = [transformer, *transformer.transformer_blocks]
    # Hooks are bound to the forward that they replaced, and offloading to the weights that it found.
    if any("forward" in vars(module) for module in modules):
        raise ModelError(
            "the transformer must have no hooks yet, got one whose forward was replaced by offloading or a "
            "feature cache: add the audio layers before enable_model_cpu_offload, "
            "enable_sequential_cpu_offload, group offloading or enable_cache"
        )
    if any(weight.is_meta for weight in transformer.parameters()):
        raise ModelError(
            "the transformer must have its weights, got some on the device meta: add the audio layers after "
            "the weights are loaded and before they are offloaded"
        )
