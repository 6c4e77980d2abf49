"""What the condition stage computes: text embeddings and image latents, as diffusers' LTX pipelines do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ltx_ray.decoding.tile import normalize
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
    *,
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings [N, max_length, D] in the encoder's dtype and their mask [N, max_length] (bool), N >= 1.

    As ``LTXPipeline._get_t5_prompt_embeds``: padded and truncated to ``max_length`` tokens, and the encoder
    sees no mask. Texts are encoded one at a time: what a text becomes does not depend on its neighbours.
    ``device``: where the encoder computes; None: where its weights lie (offloaded, they lie elsewhere).
    """
    device = text_encoder.device if device is None else device
    embeds, masks = [], []
    for text in texts:
        tokens = tokenized(tokenizer, text, max_length)
        embeds.append(text_encoder(tokens.input_ids.to(device))[0])
        masks.append(tokens.attention_mask.bool().to(device))
    return torch.cat(embeds), torch.cat(masks)


def tokenized(tokenizer: "PreTrainedTokenizerBase", text: str, max_length: int = 128) -> Any:
    """``input_ids`` and ``attention_mask`` of a text, [1, max_length] each, as the encoder is given them."""
    return tokenizer(text, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt")


def encode_image(
    vae: "AutoencoderKLLTXVideo",
    image: npt.NDArray[np.uint8],
    memory_budget: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Normalised latents [1, C, 1, h, w] (float32) of one RGB image [H, W, 3] (uint8).

    H and W must be multiples of the VAE's spatial ratio. As ``LTXI2VLongMultiPromptPipeline`` encodes its
    ``cond_image``: the mode of the posterior, not a sample. What does not fit ``memory_budget`` (bytes; None:
    by the device) is encoded in bands, see ``encode_in_bands``, which says what ``device`` is, too.
    """
    return encode_video(vae, image[None], memory_budget, device=device)


@torch.no_grad()
def encode_video(
    vae: "AutoencoderKLLTXVideo",
    frames: npt.NDArray[np.uint8],
    memory_budget: int | None = None,
    *,
    device: torch.device | str | None = None,
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
    return normalize(encode_in_bands(vae, pixels, memory_budget, device=device).float(), vae)
