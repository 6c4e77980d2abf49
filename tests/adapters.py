"""Audio adapters for tests: untrained weights, but with open gates, so that the sound moves the picture."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer


def open_gates(transformer: Any, std: float = 0.5, seed: int = 5) -> None:
    """Give every audio layer a random gate."""
    draw = torch.Generator().manual_seed(seed)
    for block in transformer.audio_blocks().values():
        nn.init.normal_(block.gate, std=std, generator=draw)


def tiny_adapter(path: Path, seed: int = 5) -> Path:
    """An adapter file for the built-in checkpoint, a function of ``seed`` alone."""
    transformer = resolve("tiny").load_transformer(torch.float32, "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        add_audio_cross_attention_to_transformer(transformer)
    open_gates(transformer, seed=seed)
    return Path(AudioAdapter.of(transformer, AudioEncoder()).save_pretrained(path))
