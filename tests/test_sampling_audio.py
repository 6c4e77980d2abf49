"""Chunks hear a shot's sound at the times of their latents, whatever the chunks are."""

from dataclasses import replace

import pytest
import torch
from planned import shot_of
from small_transformer import (
    AUDIO,
    CHANNELS,
    COLUMNS,
    ROWS,
    hearing_transformer,
    random,
    small_transformer,
)

from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.planning.chunks import ChunkSettings, plan_chunks
from ltx_ray.planning.geometry import Ratios
from ltx_ray.sampling.carriers import ChunkLatents, Conditioning, SamplingSettings
from ltx_ray.sampling.chunk import denoise_chunk
from ltx_ray.types import Chunk

RATIOS = Ratios()
SETTINGS = SamplingSettings(
    sigmas=(1.0, 0.5, 0.0),
    num_inference_steps=0,
    guidance_scale=2.0,
    audio_guidance_scale=1.0,
    rope="causal",
    overlap_strength=0.5,
    adain_factor=0.25,
    image_strength=1.0,
    coherence_guidance=0.0,
    latents_dtype="float32",
    ratios=RATIOS,
    device="cpu",
)
LATENTS = 14


def conditioning(audio: AudioTrack | None, image: bool = False) -> Conditioning:
    return Conditioning(
        prompt_embeds=random(1, 1, 8, 16),
        prompt_mask=torch.ones(1, 8, dtype=torch.bool),
        negative_embeds=random(2, 1, 8, 16),
        negative_mask=torch.ones(1, 8, dtype=torch.bool),
        image=random(3, 1, CHANNELS, 1, ROWS, COLUMNS) if image else None,
        rows=ROWS,
        columns=COLUMNS,
        fps=24.0,
        audio=audio,
    )


def track(seed: int = 4) -> AudioTrack:
    return AudioTrack(tokens=random(seed, 1, 200, AUDIO), start_s=-1.0)


def chunks_of(overlap_frames: int = 24) -> tuple[Chunk, ...]:
    settings = ChunkSettings(chunk_size=57, overlap_frames=overlap_frames)
    return plan_chunks(shot_of(8 * LATENTS - 7), LATENTS, settings, RATIOS)


def render(transformer: object, given: Conditioning, settings: SamplingSettings = SETTINGS) -> torch.Tensor:
    made: list[ChunkLatents] = []
    for chunk in chunks_of():
        made.append(
            denoise_chunk(transformer, {"shift": 1.0}, given, chunk, made[-1] if made else None, settings)
        )
    assert len(made) == 3
    return torch.cat([latents.final for latents in made], dim=2)


def test_a_model_that_does_not_hear_yet_renders_as_the_stock_model_does() -> None:
    wanted = render(small_transformer(), conditioning(None))
    assert torch.equal(render(hearing_transformer(opened=False), conditioning(track())), wanted)
    assert torch.equal(render(hearing_transformer(), conditioning(None)), wanted)
    assert not torch.allclose(render(hearing_transformer(), conditioning(track())), wanted, atol=1e-2)


def test_audio_guidance_is_the_formula_of_the_three_predictions() -> None:
    """One Euler step of a window, worked out by hand from calls of the transformer."""
    transformer, chunk = hearing_transformer(), chunks_of()[0]
    settings = replace(SETTINGS, sigmas=(1.0, 0.0), guidance_scale=3.0, audio_guidance_scale=2.5)
    given, noise = conditioning(track()), random(5, 1, CHANNELS, chunk.length, ROWS, COLUMNS)
    made = denoise_chunk(transformer, {}, given, chunk, None, settings, noise=noise)
    predictions = []
    for guidance, audio_guidance, audio in ((1.0, 1.0, track()), (0.0, 1.0, track()), (1.0, 1.0, None)):
        alone = replace(settings, guidance_scale=guidance, audio_guidance_scale=audio_guidance)
        latents = denoise_chunk(transformer, {}, conditioning(audio), chunk, None, alone, noise=noise)
        predictions.append(noise - _all(latents))
    c, u, n = predictions
    wanted = noise - (u + 3.0 * (c - u) + 1.5 * (c - n))
    assert torch.allclose(_all(made), wanted, atol=1e-5)
    assert not torch.allclose(c, n, atol=1e-2)


def _all(latents: ChunkLatents) -> torch.Tensor:
    """Final latents of a first chunk and what its tail adds."""
    return torch.cat([latents.final, latents.tail[:, :, 1:]], dim=2)


def test_audio_guidance_of_1_or_without_sound_changes_not_a_bit() -> None:
    guided = replace(SETTINGS, audio_guidance_scale=3.0)
    transformer = hearing_transformer()
    silent = conditioning(None)
    assert torch.equal(render(transformer, silent, guided), render(transformer, silent))
    heard = conditioning(track())
    assert not torch.allclose(render(transformer, heard, guided), render(transformer, heard), atol=1e-2)


class Overheard(torch.nn.Module):
    """The transformer, writing down what it is given to hear."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = hearing_transformer()
        self.contexts: list[object] = []
        self.config, self.dtype = self.inner.config, self.inner.dtype
        self.cache_context = self.inner.cache_context
        self._reset_stateful_cache = self.inner._reset_stateful_cache

    def forward(self, **given: object) -> object:
        self.contexts.append(given.get("audio"))
        return self.inner(**given)


@pytest.mark.parametrize("image", [False, True])
def test_every_latent_that_takes_part_hears_the_time_it_shows(image: bool) -> None:
    numbers = AudioTrack(tokens=torch.arange(200.0)[None, :, None].expand(-1, -1, AUDIO), start_s=-1.0)
    model, before = Overheard(), None
    whole: dict[int, torch.Tensor] = {}
    for chunk in chunks_of():
        model.contexts.clear()
        settings = replace(SETTINGS, guidance_scale=1.0)
        before = denoise_chunk(model, {}, conditioning(numbers, image), chunk, before, settings)
        assert len(model.contexts) == 2
        context = model.contexts[0]
        heard = context.tokens[0, :, 0][context.windows]  # type: ignore[attr-defined]
        shown = [*range(chunk.start, chunk.stop), *range(chunk.start, chunk.start + chunk.tail), *[0] * image]
        assert len(heard) == len(shown)
        for latent, tokens in zip(shown, heard, strict=True):
            assert torch.equal(whole.setdefault(latent, tokens), tokens)
    assert sorted(whole) == list(range(LATENTS))
    # Latent 13 is shown from 4.04 to 4.375 s; the track begins a second before the video.
    assert whole[13].tolist()[8] == pytest.approx((4.2 + 1) * 25, abs=1)


def test_a_click_moves_the_chunks_that_hear_it_and_those_after_them() -> None:
    encoder, transformer = (
        AudioEncoder(latent_channels=AUDIO, hidden_channels=16).eval(),
        hearing_transformer(),
    )
    sound = 0.1 * random(6, 1, 1, 16_000 * 5)
    clicked = sound.clone()
    clicked[..., round(16_000 * 3.9)] += 0.9  # within the last chunk alone
    with torch.no_grad():
        tracks = [AudioTrack(tokens=encoder(waveform)) for waveform in (sound, clicked)]
    before, after = (render(transformer, conditioning(heard)) for heard in tracks)
    moved = (before - after).abs().amax(dim=(0, 1, 3, 4)) > 1e-6
    last = chunks_of()[2]
    assert not moved[: last.final_start].any()
    assert moved[last.final_start + 1 :].all()


def test_a_sound_cut_for_each_chunk_is_the_sound_encoded_once() -> None:
    """What a chunk hears is decided by its times: a longer track around it changes nothing."""
    transformer, chunk = hearing_transformer(), chunks_of()[0]
    long = track()
    short = replace(long, tokens=long.tokens[:, :120])
    assert chunk.length * 8 / 24 + 1 < 120 / 25 - 1
    made = [
        denoise_chunk(transformer, {}, conditioning(heard), chunk, None, SETTINGS).final
        for heard in (long, short)
    ]
    assert torch.equal(*made)
