"""Clips as the transformer is trained on them: latents, text embeddings and sounds, encoded once.

    FOLDER/<fingerprint>/latents.safetensors  latents [N, C, T, H, W] float16, normalised; sounds [N, S] int16
    FOLDER/<fingerprint>/prompts.json         the prompt of each clip, frame and sample rates

The text encoder of a real model is larger than its transformer: it is loaded, used and dropped here.
"""

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ltx_ray.decoding.tile import normalize
from ltx_ray.models.checkpoint import Checkpoint
from ltx_ray.models.conditioning import encode_prompts
from ltx_ray.training.clips import Clip, ClipSource

_BATCH = 8  # clips that are encoded together
_FULL_SCALE = 32767  # of the int16 in which sounds are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentClips:
    """Encoded clips of one size."""

    latents: Tensor  # [N, C, T, H, W] float16, normalised
    sounds: Tensor | None  # [N, S] int16; None: the clips have none
    sample_rate: int
    fps: float
    prompts: list[str]  # of N

    def heard(self, rows: Any) -> Tensor | None:
        """Sounds [len(rows), S] in -1..1 of the clips ``rows``; None where they have none."""
        return None if self.sounds is None else self.sounds[rows].float() / _FULL_SCALE


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """Embeddings of prompts, without the padding that all have in common."""

    index: dict[str, int]
    embeds: Tensor  # [P, L, D]
    masks: Tensor  # [P, L] bool

    def of(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings [B, L, D] and masks [B, L] of ``prompts``."""
        rows = torch.tensor([self.index[prompt] for prompt in prompts])
        return self.embeds[rows], self.masks[rows]


def encode_clips(
    checkpoint: Checkpoint,
    sources: Sequence[ClipSource],
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
) -> list[LatentClips]:
    """The clips of each source, encoded by the checkpoint's VAE; what is in ``folder`` is not made again."""
    vae: Any = None
    made = []
    encoder = checkpoint.part_hash("vae")[:16]
    for source in sources:
        place = folder / f"{source.fingerprint}-{encoder}"
        if not (place / "prompts.json").exists():
            if vae is None:
                vae = checkpoint.load_vae(torch.float32, device).to(memory_format=torch.channels_last_3d)
            say(f"encoding {len(source)} clips into {place}")
            _encode(vae, source, place, device)
        made.append(_loaded(place))
    return made


def encode_texts(
    checkpoint: Checkpoint, prompts: Sequence[str], device: torch.device, dtype: torch.dtype
) -> TextTable:
    """Embeddings of the distinct ``prompts`` and of the empty one, which text dropout puts in their place."""
    unique = sorted({"", *prompts})
    tokenizer, encoder = checkpoint.load_text_encoder(dtype, device)
    embeds, masks = encode_prompts(tokenizer, encoder, unique)
    del encoder
    gc.collect()
    longest = int(masks.sum(1).max())
    return TextTable(
        index={prompt: row for row, prompt in enumerate(unique)},
        embeds=embeds[:, :longest].cpu().clone(),
        masks=masks[:, :longest].cpu().clone(),
    )


@torch.no_grad()
def _encode(vae: Any, source: ClipSource, place: Path, device: torch.device) -> None:
    latents, sounds, prompts = [], [], []
    first: Clip | None = None
    for begin in range(0, len(source), _BATCH):
        clips = [source[index] for index in range(begin, min(begin + _BATCH, len(source)))]
        first = first or clips[0]
        pixels = torch.stack([clip.pixels for clip in clips]).to(device)
        raw = vae.encode(pixels.contiguous(memory_format=torch.channels_last_3d)).latent_dist.mode().float()
        latents.append(normalize(raw, vae).half().cpu())
        sounds += [clip.sound for clip in clips]
        prompts += [clip.prompt for clip in clips]
    assert first is not None
    tensors = {"latents": torch.cat(latents).contiguous()}
    if any(sound is not None for sound in sounds):
        silence = torch.zeros(round(first.pixels.shape[1] / first.fps * first.sample_rate))
        whole = torch.stack([silence if sound is None else sound for sound in sounds])
        tensors["sounds"] = (whole.clamp(-1, 1) * _FULL_SCALE).round().to(torch.int16)
    place.mkdir(parents=True, exist_ok=True)
    save_file(tensors, place / "latents.safetensors")
    facts = {"sample_rate": first.sample_rate, "fps": first.fps, "prompts": prompts}
    (place / "prompts.json").write_text(json.dumps(facts), encoding="utf-8")


def _loaded(place: Path) -> LatentClips:
    tensors = load_file(place / "latents.safetensors")
    facts = json.loads((place / "prompts.json").read_text(encoding="utf-8"))
    return LatentClips(
        latents=tensors["latents"],
        sounds=tensors.get("sounds"),
        sample_rate=facts["sample_rate"],
        fps=facts["fps"],
        prompts=facts["prompts"],
    )
