"""The warm start of a VAE: latents that a block DCT gives, before the encoder finds better ones.

From random weights an autoencoder of this compression stands still: the decoder finds nothing in the latents,
so the encoder puts nothing there. So for the first steps the encoder is taught lowest-frequency coefficients
of each block of 8 frames x 32 x 32 pixels and the decoder decodes these.
"""

import math

import torch
from torch import Tensor

_PLANE = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))  # frequencies in y and x
# Frequencies in t, y and x: 16.
COMPONENTS = (
    *((0, y, x) for y, x in _PLANE),
    *((1, y, x) for y, x in _PLANE),
    *((2, 0, 0), (3, 0, 0), (2, 0, 1), (2, 1, 0)),
)

COLOURS = 3  # of which each has these


def block_dct(clips: Tensor, time: int, space: int) -> Tensor:
    """Coefficients [B, 48, T, H / space, W / space] of ``clips`` [B, 3, F, H, W], F = time * k + 1.

    Latent 0 is that of the first frame, repeated: as the encoder, which pads with it, sees it.
    """
    batch, colours, _, height, width = clips.shape
    padded = torch.cat([clips[:, :, :1].expand(-1, -1, time - 1, -1, -1), clips], dim=2)
    blocks = padded.reshape(batch, colours, -1, time, height // space, space, width // space, space)
    made = [
        torch.einsum("bcktyhxw,t,h,w->bckyx", blocks, _cosine(time, t), _cosine(space, y), _cosine(space, x))
        for t, y, x in COMPONENTS
    ]
    return torch.cat(made, dim=1)


def _cosine(length: int, frequency: int) -> Tensor:
    """A row of the DCT-II, scaled so that a coefficient is of the size of the values it is made of."""
    angles = math.pi * (torch.arange(length) + 0.5) * frequency / length
    return angles.cos() * (math.sqrt(2) if frequency else 1) / length
