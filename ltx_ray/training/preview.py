"""What a transformer in training makes: a few clips, sampled as the farm samples them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltx_ray.decoding.tile import denormalize
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.models.checkpoint import Checkpoint
from ltx_ray.models.presets import find_preset
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.planning.geometry import frames_of
from ltx_ray.sampling.carriers import Conditioning, SamplingSettings
from ltx_ray.sampling.chunk import denoise_chunk
from ltx_ray.training.contact_sheet import contact_sheet
from ltx_ray.training.latents import LatentClips, TextTable
from ltx_ray.types import Chunk

_STEPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Draws the first ``count`` clips of a set: asked for by their prompts and sounds, from noise."""

    checkpoint: Checkpoint
    clips: LatentClips
    texts: TextTable
    onsets: Sequence[Sequence[float]] = ()  # seconds, marked in the sheet
    count: int = 6
    longest: int = 7  # latents

    def __call__(self, transformer: Any, adapter: AudioAdapter | None, path: Path) -> dict[str, float]:
        """Write the sheet; returns the mean brightness and how far frames differ, as a first sign of life."""
        device = next(transformer.parameters()).device
        vae = self.checkpoint.load_vae(torch.float32, device)
        clips = [self._made(transformer, adapter, vae, index, device) for index in range(self._shown)]
        marks = [[round(second * self.clips.fps + 0.4999) for second in row] for row in self.onsets]
        contact_sheet(clips, path, columns=14, marks=marks[: len(clips)] if marks else None)
        moving = torch.stack([clip.diff(dim=1).abs().mean() for clip in clips]).mean()
        return {"brightness": float(torch.stack(clips).mean()), "motion": float(moving)}

    @property
    def _shown(self) -> int:
        return min(self.count, len(self.clips.prompts))

    def _made(
        self, transformer: Any, adapter: AudioAdapter | None, vae: Any, index: int, device: torch.device
    ) -> Tensor:
        """A clip [3, F, H, W] on the CPU."""
        ratios = self.checkpoint.ratios()
        preset = find_preset(self.checkpoint)
        latents, rows, columns = self.clips.latents.shape[2:]
        length = min(latents, self.longest)
        embeds, mask = self.texts.of([self.clips.prompts[index], ""])
        conditioning = Conditioning(
            prompt_embeds=embeds[:1],
            prompt_mask=mask[:1],
            negative_embeds=embeds[1:],
            negative_mask=mask[1:],
            image=None,
            rows=rows,
            columns=columns,
            fps=self.clips.fps,
            audio=self._track(adapter, index),
        )
        settings = SamplingSettings(
            sigmas=None,
            num_inference_steps=_STEPS,
            guidance_scale=preset.guidance_scale,
            audio_guidance_scale=1.0,
            rope=preset.rope,
            overlap_strength=0.5,
            adain_factor=0.0,
            image_strength=1.0,
            coherence_guidance=0.0,
            latents_dtype="float32",
            ratios=ratios,
            device=str(device),
        )
        chunk = Chunk(
            index=0,
            start=0,
            length=length,
            overlap=0,
            tail=0,
            next_overlap=0,
            next_tail=0,
            seed=index,
            prompt=0,
            start_s=0.0,
            stop_s=frames_of(length, ratios) / self.clips.fps,
        )
        made = denoise_chunk(
            transformer, self.checkpoint.scheduler_config(), conditioning, chunk, None, settings
        )
        latent = made.final.to(device)
        timestep = (
            None if preset.decode_timestep is None else torch.tensor([preset.decode_timestep]).to(latent)
        )
        with torch.no_grad():
            shown: Tensor = vae.decode(denormalize(latent, vae), timestep).sample[0]
        return shown.clamp(-1, 1).cpu()

    @torch.no_grad()
    def _track(self, adapter: AudioAdapter | None, index: int) -> AudioTrack | None:
        sound = self.clips.heard([index])
        if adapter is None or sound is None:
            return None
        tokens = adapter.encoder(sound[:, None], self.clips.sample_rate)
        return AudioTrack(
            tokens=tokens.float().cpu(), tokens_per_second=float(adapter.encoder.tokens_per_second)
        )
