"""Audio cross-attention for any LTX transformer, under the names of the integration guide.

    add_audio_cross_attention_to_transformer(pipeline.transformer)      layers 8 to 12, gates at zero

With its gates at zero the transformer predicts what it did before, bit for bit; training opens them.
"""

from diffusers import LTXVideoTransformer3DModel

from ltx_ray.errors import ModelError, UserError
from ltx_ray.models.transformers.audio_attention import AudioCrossAttentionBlock
from ltx_ray.models.transformers.audio_transformer import (
    AudioLayers,
    AudioLTXVideoTransformer3DModel,
    convert,
)

__all__ = ["AudioCrossAttentionBlock", "add_audio_cross_attention_to_transformer"]


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
    zero. Raises ModelError for something that is no such transformer, has audio layers already, lacks a
    layer that is asked for, or has a width that ``num_heads`` does not divide.
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
