"""Batches of windows: what ``FlowObjective`` is given at each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ltx_ray.training.latents import LatentClips, TextTable
from ltx_ray.training.loop import Batch
from ltx_ray.training.windows import draw_layout

# Streams of random numbers of batches, beside those of the scenes: sizes and layouts, clips.
_STREAM = 0xB2


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSettings:
    """How windows are drawn."""

    tokens: int = 1200  # of a batch, about
    longest: int = 16  # latents of a window: chunk_size 121
    text_dropout: float = 0.12  # part of the windows that are told nothing: the unconditional pass
    seed: int = 0
    processes: int = 1  # so many steps have windows of one size and layout: none waits for a larger one


class WindowBatches(Dataset[Batch]):
    """Batch of step n: windows of one set of clips, in one layout.

    {"latents" [B, C, T, H, W] float32 of whole clips, "layout", "embeds" [B, L, D], "mask" [B, L],
    "sound" [B, S] float32 or None, "sample_rate", "fps", "alike"}. ``shares`` says how often each set is
    drawn, ``alike`` how many clips in a row of a set differ in one word of their prompts alone: they come
    together.
    """

    def __init__(
        self,
        clips: Sequence[LatentClips],
        shares: Sequence[float],
        texts: TextTable,
        steps: int,
        settings: WindowSettings,
        alike: Sequence[int] = (),
    ) -> None:
        self._clips, self._texts, self._steps, self._settings = clips, texts, steps, settings
        self._alike = alike or [1] * len(clips)
        self._shares = np.array(shares) / sum(shares)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        settings = self._settings
        shared = np.random.default_rng([_STREAM, settings.seed, step // settings.processes])
        number = shared.choice(len(self._clips), p=self._shares)
        clips, alike = self._clips[number], self._alike[number]
        count, _, frames, rows, columns = clips.latents.shape
        layout = draw_layout(shared, frames, settings.longest)
        draw = np.random.default_rng([_STREAM + 1, settings.seed, step])
        tokens = (layout.length + layout.extra) * rows * columns
        groups = draw.integers(count // alike, size=max(1, round(settings.tokens / (tokens * alike))))
        is_told = (draw.uniform(size=len(groups)) >= settings.text_dropout).repeat(alike)
        chosen = (groups[:, None] * alike + np.arange(alike)).ravel()
        prompts = [clips.prompts[row] if told else "" for row, told in zip(chosen, is_told, strict=True)]
        embeds, mask = self._texts.of(prompts)
        batch: dict[str, Any] = {
            "latents": clips.latents[chosen].float(),
            "layout": layout,
            "embeds": embeds,
            "mask": mask,
            "sound": clips.heard(chosen),
            "sample_rate": clips.sample_rate,
            "fps": clips.fps,
            "alike": alike,
        }
        return batch
