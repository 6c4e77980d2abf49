"""Make the built-in checkpoint: ``python -m ltx_ray.models.build_tiny OUTPUT_FOLDER``.

The weights are untrained. The same torch, diffusers and transformers make the same bytes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXPipeline

from ltx_ray.models.tiny_text import make_text_encoder, make_tokenizer
from ltx_ray.models.tiny_transformer import make_transformer
from ltx_ray.models.tiny_vae import make_vae

# As published with LTX-Video (diffusers, scripts/convert_ltx_to_diffusers.py).
SCHEDULER_CONFIG = {
    "use_dynamic_shifting": True,
    "base_shift": 0.95,
    "max_shift": 2.05,
    "base_image_seq_len": 1024,
    "max_image_seq_len": 4096,
    "shift_terminal": 0.1,
}

_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
---
# tiny

A miniature LTX-Video for tests and laptops: the stock diffusers classes, the real compression of
32 x 32 pixels x 8 frames, 48 latent channels, a transformer of 13 layers x 160, a T5 encoder of 2 layers x 64
and a byte-level tokenizer.

**The weights are untrained.** They are random, made so that videos are smooth moving blobs of colour
that differ by seed and by prompt. They show nothing of what a prompt says.

Made by `python -m ltx_ray.models.build_tiny FOLDER`; load it with `LTXPipeline.from_pretrained(FOLDER)`.
"""


def build(folder: Path) -> None:
    """Write the checkpoint to ``folder`` in the diffusers format, weights in bfloat16 safetensors."""
    tokenizer = make_tokenizer()
    pipeline = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER_CONFIG),
        vae=make_vae(seed=1).to(torch.bfloat16),
        text_encoder=make_text_encoder(len(tokenizer), seed=2).to(torch.bfloat16),
        tokenizer=tokenizer,
        transformer=make_transformer(seed=3).to(torch.bfloat16),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    # transformers 5 writes a class name that transformers 4 does not know; both know this one.
    _rewrite(folder / "model_index.json", tokenizer=["transformers", "PreTrainedTokenizerFast"])
    _rewrite(folder / "tokenizer" / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    (folder / "README.md").write_text(_CARD, encoding="utf-8")


def _rewrite(path: Path, **values: Any) -> None:
    """Set keys of a JSON object in a file."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Build into the folder named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m ltx_ray.models.build_tiny", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the checkpoint is written")
    folder = parser.parse_args().folder
    build(folder)
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main()
