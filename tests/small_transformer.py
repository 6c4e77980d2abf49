"""Small random LTX transformers, with and without audio layers, and what they are given, for the tests."""

from typing import Any

import torch
from diffusers import LTXVideoTransformer3DModel
from torch import Tensor

from ltx_ray.models.audio.alignment import AudioContext, AudioTrack, audio_context, latent_span, window_size
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.models.transformers.audio_transformer import AudioLTXVideoTransformer3DModel
from ltx_ray.planning.geometry import Ratios

CHANNELS, WIDTH, AUDIO = 8, 32, 12  # of a latent, of a token within the model, of an audio token
FRAMES, ROWS, COLUMNS = 3, 2, 3  # of the latents
TOKENS = FRAMES * ROWS * COLUMNS
FPS = 24.0
RATIOS = Ratios()


def random(seed: int, *shape: int) -> Tensor:
    """Normal values, a function of ``seed`` alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small_transformer(num_layers: int = 4, seed: int = 0) -> LTXVideoTransformer3DModel:
    """Of diffusers' class, 32 wide, in float32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LTXVideoTransformer3DModel(
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=num_layers,
            caption_channels=16,
        ).eval()


def hearing_transformer(opened: bool = True, **changes: Any) -> AudioLTXVideoTransformer3DModel:
    """``small_transformer()`` with audio layers 1 and 2; ``opened``: their gates are not zero."""
    layers = {"audio_latent_dim": AUDIO, "start_layer": 1, "end_layer": 2, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        adapted = add_audio_cross_attention_to_transformer(small_transformer(), **layers)
    return open_gates(adapted) if opened else adapted


def open_gates(transformer: AudioLTXVideoTransformer3DModel) -> AudioLTXVideoTransformer3DModel:
    """``transformer``, with gates as training might leave them."""
    for index, block in transformer.audio_blocks().items():
        block.gate.data.copy_(random(100 + index, *block.gate.shape))
    return transformer


def inputs(dtype: torch.dtype = torch.float32, batch: int = 1, **changes: Any) -> dict[str, Any]:
    """Arguments of a forward of the stock transformer."""
    values: dict[str, Any] = {
        "hidden_states": random(1, batch, TOKENS, CHANNELS).to(dtype),
        "encoder_hidden_states": random(2, batch, 6, 16).to(dtype),
        "timestep": torch.full((batch,), 500.0),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]] * batch),
        "num_frames": FRAMES,
        "height": ROWS,
        "width": COLUMNS,
        "return_dict": False,
    }
    return values | changes


def sound(seed: int = 3, batch: int = 1, dtype: torch.dtype = torch.float32) -> AudioContext:
    """What the latents of ``inputs`` hear of two seconds of random tokens."""
    track = AudioTrack(tokens=random(seed, batch, 50, AUDIO))
    spans = [latent_span(latent, FPS, RATIOS) for latent in range(FRAMES)]
    context = audio_context(track, spans, window_size(FPS, RATIOS, track.tokens_per_second))
    return context.to("cpu", dtype)
