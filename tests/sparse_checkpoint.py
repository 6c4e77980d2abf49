"""Checkpoints of the published sizes whose weights are holes: true headers, and hardly a byte on the disk."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from small_vae import RELEASED, RELEASED_ENCODERS
from transformers import T5Config, T5EncoderModel

from ltx_ray.models.build_tiny import SCHEDULER_CONFIG
from ltx_ray.models.tiny_text import make_tokenizer

# T5-XXL 1.1, as Lightricks/LTX-Video has it.
T5_XXL = {
    **{"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
    **{"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "2b": {},
    "13b": {"attention_head_dim": 128, "cross_attention_dim": 4096, "num_layers": 48},
}


def sparse_checkpoint(folder: Path, size: str = "2b") -> Path:
    """One with a transformer of ``size``, the VAE of 0.9.5, and T5-XXL."""
    with torch.device("meta"):
        models = {
            "transformer": LTXVideoTransformer3DModel(**TRANSFORMERS[size]),
            "vae": AutoencoderKLLTXVideo(**RELEASED["0.9.5"], **RELEASED_ENCODERS["0.9.5"]),
            "text_encoder": T5EncoderModel(T5Config(**T5_XXL)),
        }
    for part, model in models.items():
        (folder / part).mkdir(parents=True)
        is_text = part == "text_encoder"
        (model.config.save_pretrained if is_text else model.save_config)(folder / part)
        name = "model.safetensors" if is_text else "diffusion_pytorch_model.safetensors"
        _write_holes(folder / part / name, model)
    make_tokenizer().save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER_CONFIG))
    parts = {
        "transformer": ["diffusers", "LTXVideoTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLLTXVideo"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "LTXPipeline", **parts}))
    return folder


def _write_holes(path: Path, model: torch.nn.Module) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, parameter in model.named_parameters():
        stop = end + 2 * parameter.numel()
        header[name] = {"dtype": "BF16", "shape": list(parameter.shape), "data_offsets": [end, stop]}
        end = stop
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
