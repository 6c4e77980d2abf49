"""diffusers' LTX transformer with audio cross-attention at the end of some of its blocks.

A subclass, not a wrapper: the names of the base weights stay what they are, so that LoRA files, layerwise
casting, compilation of repeated blocks and feature caches find them. Audio travels as an argument to the
blocks, never as state, so that gradient checkpointing recomputes each pass with its own sound.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import LTXVideoTransformer3DModel, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformerBlock
from diffusers.utils.peft_utils import apply_lora_scale
from torch import Tensor

from ltx_ray.errors import ModelError
from ltx_ray.models.audio.alignment import AudioContext
from ltx_ray.models.transformers.audio_attention import AudioCrossAttentionBlock

# A pipeline of diffusers that is saved with such a transformer names this module, and looks in it for the
# base class that says how its parts are loaded.
__all__ = [
    "NO_AUDIO_LAYERS",
    "AudioLTXVideoTransformer3DModel",
    "AudioLTXVideoTransformerBlock",
    "AudioLayers",
    "ModelMixin",
    "add_blocks",
    "make_blocks",
    "uncompiled",
]

NO_AUDIO_LAYERS = (
    "audio_latents need a transformer with audio layers: call "
    "add_audio_cross_attention_to_transformer(pipeline.transformer), or attach an AudioAdapter"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioLayers:
    """Which layers hear, and how their attention is made."""

    audio_latent_dim: int = 128  # channels of an audio token
    start_layer: int = 8  # 0-based
    end_layer: int = 12  # included
    num_heads: int = 8
    dropout: float = 0.1


class AudioLTXVideoTransformerBlock(LTXVideoTransformerBlock):  # type: ignore[misc]
    """A block whose output goes through audio cross-attention where there is audio."""

    audio_attn: AudioCrossAttentionBlock

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        encoder_attention_mask: Tensor | None = None,
        audio: AudioContext | None = None,
    ) -> Tensor:
        """Video tokens [B, S, D] -> [B, S, D]."""
        made: Tensor = super().forward(
            hidden_states, encoder_hidden_states, temb, image_rotary_emb, encoder_attention_mask
        )
        return made if audio is None else self.audio_attn(made, audio)


TransformerBlockRegistry.register(
    AudioLTXVideoTransformerBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)


class AudioLTXVideoTransformer3DModel(LTXVideoTransformer3DModel):  # type: ignore[misc]
    """``LTXVideoTransformer3DModel`` whose ``forward`` also takes ``audio``.

    Made of a stock one by ``add_audio_cross_attention_to_transformer``, or loaded by ``from_pretrained``
    from what ``save_pretrained`` wrote.
    """

    _repeated_blocks = ("LTXVideoTransformerBlock", "AudioLTXVideoTransformerBlock")

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 128,
        out_channels: int = 128,
        patch_size: int = 1,
        patch_size_t: int = 1,
        num_attention_heads: int = 32,
        attention_head_dim: int = 64,
        cross_attention_dim: int = 2048,
        num_layers: int = 28,
        activation_fn: str = "gelu-approximate",
        qk_norm: str = "rms_norm_across_heads",
        norm_elementwise_affine: bool = False,
        norm_eps: float = 1e-6,
        caption_channels: int = 4096,
        attention_bias: bool = True,
        attention_out_bias: bool = True,
        audio_layers: dict[str, Any] | None = None,
    ) -> None:
        """``audio_layers``: the fields of ``AudioLayers``; all else as in the base class."""
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            patch_size=patch_size,
            patch_size_t=patch_size_t,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            cross_attention_dim=cross_attention_dim,
            num_layers=num_layers,
            activation_fn=activation_fn,
            qk_norm=qk_norm,
            norm_elementwise_affine=norm_elementwise_affine,
            norm_eps=norm_eps,
            caption_channels=caption_channels,
            attention_bias=attention_bias,
            attention_out_bias=attention_out_bias,
        )
        add_blocks(self, make_blocks(self, AudioLayers(**(audio_layers or {}))))

    @property
    def audio_layers(self) -> AudioLayers:
        """Which layers hear."""
        return AudioLayers(**self.config.audio_layers)

    def audio_blocks(self) -> dict[int, AudioCrossAttentionBlock]:
        """The audio cross-attention of each layer that has one, by the layer's index."""
        return {
            index: block.audio_attn
            for index, block in enumerate(self.transformer_blocks)
            if isinstance(block, AudioLTXVideoTransformerBlock)
        }

    @apply_lora_scale("attention_kwargs")  # type: ignore[untyped-decorator]
    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor,
        encoder_attention_mask: Tensor,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        rope_interpolation_scale: tuple[float, float, float] | Tensor | None = None,
        video_coords: Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
        *,
        audio: AudioContext | None = None,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """As in the base class; ``audio`` None is the base model.

        The rest mirrors ``LTXVideoTransformer3DModel.forward`` of diffusers 0.42, which has no place for one
        more argument to its blocks; a test holds the two together, bit for bit.
        """
        if audio is not None:
            _check_tokens(hidden_states.shape[1], num_frames, height, width, video_coords)
        rotary = self.rope(hidden_states, num_frames, height, width, rope_interpolation_scale, video_coords)
        if encoder_attention_mask is not None and encoder_attention_mask.ndim == 2:
            bias = (1 - encoder_attention_mask.to(hidden_states.dtype)) * -10000.0
            encoder_attention_mask = bias.unsqueeze(1)
        batch = hidden_states.size(0)
        hidden = self.proj_in(hidden_states)
        temb, embedded = self.time_embed(timestep.flatten(), batch_size=batch, hidden_dtype=hidden.dtype)
        temb, embedded = (value.view(batch, -1, value.size(-1)) for value in (temb, embedded))
        text = self.caption_projection(encoder_hidden_states).view(batch, -1, hidden.size(-1))
        for block in self.transformer_blocks:
            given = [text, temb, rotary, encoder_attention_mask]
            if isinstance(block, AudioLTXVideoTransformerBlock):
                given.append(audio)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden = self._gradient_checkpointing_func(block, hidden, *given)
            else:
                hidden = block(hidden, *given)
        shift, scale = (self.scale_shift_table[None, None] + embedded[:, :, None]).unbind(dim=2)
        output = self.proj_out(self.norm_out(hidden) * (1 + scale) + shift)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)


def uncompiled(transformer: Any) -> Any:
    """The transformer within what ``torch.compile`` makes of it, or itself."""
    return getattr(transformer, "_orig_mod", transformer)


def _check_range(transformer: Any, layers: AudioLayers) -> None:
    count = len(transformer.transformer_blocks)
    if not 0 <= layers.start_layer <= layers.end_layer < count:
        raise ModelError(
            f"start_layer and end_layer must name layers 0 to {count - 1} of this transformer of {count} "
            f"layers, in order, got {layers.start_layer} to {layers.end_layer}"
        )


def make_blocks(transformer: Any, layers: AudioLayers) -> dict[int, AudioCrossAttentionBlock]:
    """New audio cross-attention for each layer; all are made before the first is put in, so that a wrong
    argument leaves the transformer as it was. Raises ModelError or UserError."""
    _check_range(transformer, layers)
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    return {
        index: AudioCrossAttentionBlock(width, layers.num_heads, layers.audio_latent_dim, layers.dropout)
        for index in range(layers.start_layer, layers.end_layer + 1)
    }


def add_blocks(transformer: Any, made: dict[int, AudioCrossAttentionBlock]) -> None:
    """Put what ``make_blocks`` made into its layers, on the transformer's device and in its dtype."""
    like = transformer.proj_in.weight
    for index, attention in made.items():
        block = transformer.transformer_blocks[index]
        block.__class__ = AudioLTXVideoTransformerBlock
        # ``dtype``, not that of the weight, which may be stored in fewer bits than it works in.
        block.audio_attn = attention.to(like.device, transformer.dtype).train(transformer.training)
        block.audio_attn.requires_grad_(like.requires_grad)


def _check_tokens(
    tokens: int,
    num_frames: int | None,
    height: int | None,
    width: int | None,
    coordinates: Tensor | None,
) -> None:
    """Raise ModelError for a part of the tokens: it would be taken for fewer tokens in each latent frame."""
    wanted = None if coordinates is None else coordinates.shape[-1]
    if wanted is None and num_frames and height and width:
        wanted = num_frames * height * width
    if wanted is not None and tokens != wanted:
        raise ModelError(
            f"audio layers need all {wanted} video tokens of a window, got {tokens}: they do not work with "
            "context parallelism, which gives each device a part"
        )
