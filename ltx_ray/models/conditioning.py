"""What the condition stage computes: text embeddings and image latents, as diffusers' LTX pipelines do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ltx_ray.models.autoencoders.band_encoding import encode_in_bands

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo
    from transformers import PreTrainedTokenizerBase, T5EncoderModel


@torch.no_grad()
def encode_prompts(
    tokenizer: "PreTrainedTokenizerBase",
    text_encoder: "T5EncoderModel",
    texts: Sequence[str],
    max_length: int = 128,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings [N, max_length, D] in the encoder's dtype and their mask [N, max_length] (bool), N >= 1.

    As ``LTXPipeline._get_t5_prompt_embeds``: padded and truncated to ``max_length`` tokens, and the encoder
    sees no mask. Texts are encoded one at a time: what a text becomes does not depend on its neighbours.
    """
    embeds, masks = [], []
    for text in texts:
        tokens = tokenizer(
            text, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt"
        )
        embeds.append(text_encoder(tokens.input_ids.to(text_encoder.device))[0])
        masks.append(tokens.attention_mask.bool().to(text_encoder.device))
    return torch.cat(embeds), torch.cat(masks)


def encode_image(
    vae: "AutoencoderKLLTXVideo", image: npt.NDArray[np.uint8], memory_budget: int | None = None
) -> torch.Tensor:
    """Normalised latents [1, C, 1, h, w] (float32) of one RGB image [H, W, 3] (uint8).

    H and W must be multiples of the VAE's spatial ratio. As ``LTXI2VLongMultiPromptPipeline`` encodes its
    ``cond_image``: the mode of the posterior, not a sample. What does not fit ``memory_budget`` (bytes; None:
    by the device) is encoded in bands, see ``encode_in_bands``.
    """
    return encode_video(vae, image[None], memory_budget)


@torch.no_grad()
def encode_video(
    vae: "AutoencoderKLLTXVideo", frames: npt.NDArray[np.uint8], memory_budget: int | None = None
) -> torch.Tensor:
    """Normalised latents [1, C, T, h, w] (float32) of RGB frames [F, H, W, 3] (uint8), F = 8k + 1.

    Otherwise as ``encode_image``. Raises UserError where the frames do not stand on the VAE's grid.
    """
    count, height, width, colours = frames.shape
    pixels = torch.empty(1, colours, count, height, width, dtype=vae.dtype)
    for index, frame in enumerate(frames):
        # In this order of operations, as VideoProcessor.preprocess: equal to the last bit.
        values = torch.from_numpy(np.ascontiguousarray(frame)).float() / 255 * 2 - 1
        pixels[0, :, index] = values.permute(2, 0, 1)
    latents = encode_in_bands(vae, pixels, memory_budget).float()
    mean, std = _statistics(vae, latents)
    scale: float = vae.config.scaling_factor
    return (latents - mean) * scale / std


def denormalize(latents: torch.Tensor, vae: "AutoencoderKLLTXVideo") -> torch.Tensor:
    """Latents [B, C, T, h, w] as the transformer has them -> as the VAE's decoder wants them, same dtype."""
    mean, std = _statistics(vae, latents)
    scale: float = vae.config.scaling_factor
    return latents * std / scale + mean


def _statistics(vae: "AutoencoderKLLTXVideo", latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each latent channel, [1, C, 1, 1, 1], where and as ``latents`` are."""
    mean: torch.Tensor = vae.latents_mean.view(1, -1, 1, 1, 1).to(latents)
    std: torch.Tensor = vae.latents_std.view(1, -1, 1, 1, 1).to(latents)
    return mean, std
