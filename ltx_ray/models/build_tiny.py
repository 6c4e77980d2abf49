"""The built-in checkpoint before its training, and the form in which it is shipped.

``start`` writes untrained weights in float32, for ``ltx_ray.training.tiny`` to train. ``ship`` writes a
trained checkpoint in bfloat16. The same torch, diffusers and transformers make the same bytes.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXPipeline
from safetensors.torch import load_file

from ltx_ray.models.checkpoint import Checkpoint
from ltx_ray.models.tiny_text import make_text_encoder, make_tokenizer
from ltx_ray.models.tiny_transformer import make_transformer
from ltx_ray.models.tiny_vae import make_vae
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.weight_files import ADAPTER_FILE

# As published with LTX-Video (diffusers, scripts/convert_ltx_to_diffusers.py).
SCHEDULER_CONFIG = {
    "use_dynamic_shifting": True,
    "base_shift": 0.95,
    "max_shift": 2.05,
    "base_image_seq_len": 1024,
    "max_image_seq_len": 4096,
    "shift_terminal": 0.1,
}


# Keys of configs that say where a part was loaded from.
_PLACES = ("_name_or_path", "is_local", "local_files_only")


def start(folder: Path) -> None:
    """Write the untrained checkpoint to ``folder`` in the diffusers format, weights in float32."""
    tokenizer = make_tokenizer()
    pipeline = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER_CONFIG),
        vae=make_vae(seed=1),
        text_encoder=make_text_encoder(len(tokenizer), seed=2),
        tokenizer=tokenizer,
        transformer=make_transformer(seed=3),
    )
    _save(pipeline, folder)


def ship(checkpoint: Checkpoint, adapter: AudioAdapter, card: str, folder: Path) -> None:
    """Write ``checkpoint`` and its audio adapter to ``folder``, in bfloat16, with ``card`` as README.md."""
    tokenizer, text_encoder = checkpoint.load_text_encoder(torch.bfloat16, "cpu")
    pipeline = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER_CONFIG),
        vae=checkpoint.load_vae(torch.bfloat16, "cpu"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=checkpoint.load_transformer(torch.bfloat16, "cpu"),
    )
    _save(pipeline, folder)
    adapter.to(torch.bfloat16).save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def parameters_of(folder: Path) -> dict[str, int]:
    """Parameters of each part of a checkpoint, counted in its files."""
    return {
        path.parent.name if path.name != ADAPTER_FILE else "audio_adapter": sum(
            tensor.numel() for tensor in load_file(path).values()
        )
        for path in sorted(folder.rglob("*.safetensors"))
    }


def _save(pipeline: LTXPipeline, folder: Path) -> None:
    pipeline.save_pretrained(folder, safe_serialization=True)
    # transformers 5 writes a class name that transformers 4 does not know; both know this one.
    _rewrite(folder / "model_index.json", tokenizer=["transformers", "PreTrainedTokenizerFast"])
    _rewrite(folder / "tokenizer" / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    for part in ("scheduler", "text_encoder", "transformer", "vae"):
        for path in (folder / part).glob("*config.json"):
            _rewrite(path)


def _rewrite(path: Path, **values: Any) -> None:
    """Set keys of a JSON object in a file, and take away those that say from where it was loaded."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    kept = {key: value for key, value in content.items() if key not in _PLACES}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
