"""What the transformer is trained on is what the sampler shows it: tokens, times, places, sounds."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from planned import shot_of
from small_transformer import AUDIO, CHANNELS, FPS, RATIOS, hearing_transformer, random

from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.planning.chunks import ChunkSettings, plan_chunks
from ltx_ray.planning.geometry import frames_of
from ltx_ray.sampling.carriers import ChunkLatents, Conditioning, SamplingSettings
from ltx_ray.sampling.chunk import denoise_chunk
from ltx_ray.training.windows import (
    Layout,
    clean_window,
    counted,
    draw_layout,
    layout_audio,
    layout_coordinates,
    window_levels,
    worn_tail,
)
from ltx_ray.types import Chunk

LATENTS, ROWS, COLUMNS = 12, 2, 3
SETTINGS = SamplingSettings(
    sigmas=(1.0, 0.6, 0.3),
    num_inference_steps=0,
    guidance_scale=1.0,
    audio_guidance_scale=1.0,
    rope="causal",
    overlap_strength=0.5,
    adain_factor=0.0,
    image_strength=1.0,
    coherence_guidance=0.0,
    latents_dtype="float32",
    ratios=RATIOS,
    device="cpu",
)


def sampled(
    chunk: Chunk, image: bool, shot: torch.Tensor, settings: SamplingSettings
) -> list[dict[str, Any]]:
    """What the transformer is given at each step when ``chunk`` of the latents ``shot`` is denoised."""
    transformer = hearing_transformer()
    calls: list[dict[str, Any]] = []
    transformer.register_forward_pre_hook(lambda _, args, kwargs: calls.append(kwargs), with_kwargs=True)
    previous = None
    if chunk.index:
        start = chunk.start
        previous = ChunkLatents(
            final=shot[:, :, :start],
            tail=shot[:, :, start : start + chunk.overlap],
            mean=torch.zeros(CHANNELS),
            std=torch.ones(CHANNELS),
        )
    conditioning = Conditioning(
        prompt_embeds=random(1, 1, 4, 16),
        prompt_mask=torch.ones(1, 4, dtype=torch.bool),
        negative_embeds=random(2, 1, 4, 16),
        negative_mask=torch.ones(1, 4, dtype=torch.bool),
        image=shot[:, :, :1] if image else None,
        rows=ROWS,
        columns=COLUMNS,
        fps=FPS,
        audio=AudioTrack(tokens=random(3, 1, 100, AUDIO)),
    )
    denoise_chunk(transformer, {"shift": 1.0}, conditioning, chunk, previous, settings)
    return calls


@pytest.fixture(scope="module")
def shot() -> torch.Tensor:
    return random(5, 1, CHANNELS, LATENTS, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def chunks() -> tuple[Chunk, ...]:
    settings = ChunkSettings(chunk_size=57, overlap_frames=24)
    return plan_chunks(shot_of(frames_of(LATENTS, RATIOS)), LATENTS, settings, RATIOS)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("index", [0, 1])
def test_training_windows_are_the_samplers(
    shot: torch.Tensor, chunks: tuple[Chunk, ...], index: int, strength: float, image: bool
) -> None:
    chunk = chunks[index]
    layout = Layout(start=chunk.start, length=chunk.length, tail=chunk.tail, image=image, strength=strength)
    calls = sampled(chunk, image, shot, replace(SETTINGS, overlap_strength=strength))
    cells = ROWS * COLUMNS
    tokens = (layout.length + layout.extra) * cells
    coordinates = layout_coordinates(layout, ROWS, COLUMNS, FPS, "causal", RATIOS)
    heard = layout_audio(layout, random(3, 1, 100, AUDIO), Fraction(25), FPS, RATIOS)
    for call, sigma in zip(calls, (1.0, 0.6, 0.3), strict=True):
        assert call["hidden_states"].shape == (1, tokens, CHANNELS)
        assert torch.equal(call["video_coords"], coordinates)
        assert torch.equal(call["audio"].offsets, heard.offsets)
        assert torch.equal(call["audio"].tokens[:, call["audio"].windows], heard.tokens[:, heard.windows])
        told, _ = window_levels(layout, torch.tensor([sigma]))
        timestep = call["timestep"].flatten()
        assert torch.allclose(timestep.expand(tokens), 1000 * told[0].repeat_interleave(cells))
    # What is held is there without noise once the first steps are done, as it is trained.
    told, has = window_levels(layout, torch.tensor([0.3]))
    clean = clean_window(shot, layout).flatten(2).transpose(1, 2)
    held = (told[0] < 0.3).repeat_interleave(cells)
    assert torch.equal(has[0][told[0] < 0.3], torch.zeros(int((told[0] < 0.3).sum())))
    last = calls[-1]["hidden_states"]
    distance = (last - clean)[:, held].abs()
    assert held.any() == bool(chunk.index or image)
    assert not held.any() or distance.mean() < 0.15


def test_the_loss_is_of_what_is_free(shot: torch.Tensor) -> None:
    first = Layout(start=0, length=5, tail=0, image=True, strength=0.5)
    assert counted(first) == slice(1, 5)
    later = Layout(start=3, length=5, tail=3, image=True, strength=0.5)
    assert counted(later) == slice(0, 5)
    assert clean_window(shot, later).shape[2] == 9
    assert torch.equal(clean_window(shot, later)[:, :, 5:8], shot[:, :, 3:6])
    assert torch.equal(clean_window(shot, later)[:, :, 8:], shot[:, :, :1])


def test_layouts_stay_within_their_clip_and_cover_all_kinds() -> None:
    draw = np.random.default_rng(0)
    made = [draw_layout(draw, latents, 16) for latents in (2, 3, 6, 8, 21) for _ in range(300)]
    for latents, layout in zip(np.repeat([2, 3, 6, 8, 21], 300), made, strict=True):
        assert layout.start + layout.length <= latents
        assert 2 <= layout.length <= 16
        assert (layout.tail > 0) == (layout.start > 0)
        assert layout.tail < layout.length
    assert {layout.tail for layout in made} == {0, 1, 2, 3, 4}
    assert {layout.image for layout in made} == {False, True}
    assert {layout.strength for layout in made} == {0.5, 1.0}
    assert max(layout.length for layout in made) == 16


def test_a_tail_is_worn_more_or_less_and_nothing_else_is(shot: torch.Tensor) -> None:
    layout = Layout(start=3, length=5, tail=3, image=True, strength=0.5)
    clean = clean_window(shot.expand(64, -1, -1, -1, -1), layout)
    worn = worn_tail(clean, layout, torch.Generator().manual_seed(0))
    changed = (worn - clean)[:, :, 5:8].flatten(1).std(dim=1)
    assert 0 <= changed.min() < 0.05 < 0.2 < changed.max() < 0.3
    assert torch.equal(worn[:, :, :5], clean[:, :, :5])
    assert torch.equal(worn[:, :, 8:], clean[:, :, 8:])
    first = Layout(start=0, length=5, tail=0, image=True, strength=0.5)
    window = clean_window(shot, first)
    assert torch.equal(worn_tail(window, first, torch.Generator()), window)
