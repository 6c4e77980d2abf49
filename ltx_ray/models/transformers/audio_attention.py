"""One layer's audio cross-attention: video tokens attend to the sound around their latent frame's time."""

import math

import torch
from torch import Tensor, nn

from ltx_ray.errors import UserError
from ltx_ray.models.audio.alignment import AudioContext

# Rotary frequencies in turns per second: from one turn in four seconds, which no window is long enough to
# wrap, to half a turn per token of 40 ms.
_SLOWEST, _FASTEST = 0.25, 12.5


class AudioCrossAttentionBlock(nn.Module):
    """Video tokens [B, S, hidden_dim] + gate * attention(video tokens -> audio tokens).

    Keys are rotated by their seconds from the middle of the latent whose tokens ask: that is rotary embedding
    (arXiv:2104.09864) of queries and keys by their times, of which only the difference counts.
    """

    def __init__(
        self, hidden_dim: int, num_heads: int = 8, audio_latent_dim: int = 128, dropout: float = 0.1
    ) -> None:
        """``hidden_dim`` must be a multiple of 2 * ``num_heads``; ``dropout`` in [0, 1) acts in training."""
        super().__init__()
        if num_heads < 1 or audio_latent_dim < 1 or hidden_dim < 1 or hidden_dim % (2 * num_heads):
            raise UserError(
                "AudioCrossAttentionBlock needs a hidden_dim that is a multiple of 2 * num_heads and an "
                f"audio_latent_dim of at least 1, got hidden_dim {hidden_dim}, num_heads {num_heads}, "
                f"audio_latent_dim {audio_latent_dim}"
            )
        if not 0 <= dropout < 1:
            raise UserError(f"AudioCrossAttentionBlock needs a dropout in [0, 1), got {dropout}")
        self.num_heads = num_heads
        self.audio_latent_dim = audio_latent_dim
        head_dim = hidden_dim // num_heads
        self.norm = nn.RMSNorm(hidden_dim, eps=1e-6, elementwise_affine=False)
        self.audio_proj = nn.Linear(audio_latent_dim, hidden_dim)
        self.to_q = nn.Linear(hidden_dim, hidden_dim)
        self.to_k = nn.Linear(hidden_dim, hidden_dim)
        self.to_v = nn.Linear(hidden_dim, hidden_dim)
        self.norm_q = nn.RMSNorm(head_dim, eps=1e-6)
        self.norm_k = nn.RMSNorm(head_dim, eps=1e-6)
        self.to_out = nn.Linear(hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Parameter(torch.zeros(hidden_dim))

    def forward(self, hidden_states: Tensor, audio: "AudioContext | Tensor") -> Tensor:
        """The tokens [B, S, hidden_dim], changed by what they hear.

        With an ``AudioContext`` of T windows, S is T times the tokens of a latent frame, frame by frame, and
        each frame hears its window. With plain audio latents [B, L, audio_latent_dim] every video token hears
        all of them, without times. Raises UserError for audio that does not fit.
        """
        tokens = audio if isinstance(audio, Tensor) else audio.tokens
        self._check(hidden_states, tokens, None if isinstance(audio, Tensor) else audio.windows)
        projected = self.audio_proj(tokens.to(hidden_states.dtype))
        keys = self.norm_k(self._heads(self.to_k(projected)))  # [B, L, heads, d]
        values = self._heads(self.to_v(projected))
        if isinstance(audio, Tensor):
            keys, values, frames = keys[:, None], values[:, None], 1
        else:
            keys = _rotated(keys[:, audio.windows], audio.offsets)  # [B, T, K, heads, d]
            values, frames = values[:, audio.windows], audio.windows.shape[0]
        queries = self.norm_q(self._heads(self.to_q(self.norm(hidden_states))))
        batch, count, heads, width = queries.shape
        attended = nn.functional.scaled_dot_product_attention(
            queries.reshape(batch * frames, count // frames, heads, width).transpose(1, 2),
            keys.flatten(0, 1).transpose(1, 2),
            values.flatten(0, 1).transpose(1, 2),
        )
        heard = attended.transpose(1, 2).reshape(batch, count, heads * width)
        changed: Tensor = hidden_states + self.gate * self.dropout(self.to_out(heard))
        return changed

    def _heads(self, tokens: Tensor) -> Tensor:
        """[B, L, heads * d] as [B, L, heads, d]."""
        return tokens.reshape(*tokens.shape[:2], self.num_heads, -1)

    def _check(self, hidden_states: Tensor, tokens: Tensor, index: Tensor | None) -> None:
        if tokens.ndim != 3 or tokens.shape[-1] != self.audio_latent_dim:
            raise UserError(
                f"these audio layers were made for audio latents [B, L, {self.audio_latent_dim}], got "
                f"{tuple(tokens.shape)}: use the AudioEncoder that belongs to the adapter, or give "
                "add_audio_cross_attention_to_transformer its latent_channels as audio_latent_dim"
            )
        if tokens.shape[0] != hidden_states.shape[0]:
            raise UserError(
                f"audio latents must be of one batch with the video tokens, {hidden_states.shape[0]}, "
                f"got {tokens.shape[0]}"
            )
        if index is not None and hidden_states.shape[1] % index.shape[0]:
            raise UserError(
                f"{hidden_states.shape[1]} video tokens cannot be those of {index.shape[0]} latent frames; "
                "make the AudioContext for the frames that take part"
            )


def _rotated(keys: Tensor, offsets: Tensor) -> Tensor:
    """``keys`` [B, T, K, heads, d] rotated by ``offsets`` [T, K] seconds, pairs (2i, 2i + 1) together."""
    pairs = keys.shape[-1] // 2
    steps = torch.linspace(math.log(_SLOWEST), math.log(_FASTEST), pairs, device=keys.device)
    angles = 2 * math.pi * offsets[..., None] * steps.exp()  # [T, K, d / 2]
    cos, sin = angles.cos()[:, :, None], angles.sin()[:, :, None]
    even, odd = keys.float().reshape(*keys.shape[:-1], pairs, 2).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(keys.dtype)
