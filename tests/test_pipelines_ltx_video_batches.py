"""Batches of ``LTXVideoPipeline`` hear their own sounds, no call leaves a trace, what is saved comes back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig, LTXPipeline
from small_transformer import random
from tiny_pipelines import deaf_pipeline, hearing_pipeline, quiet

from ltx_ray.errors import ModelError, UserError
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_transformer import AudioLTXVideoTransformer3DModel
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

CALL: dict[str, Any] = {
    "height": 32,
    "width": 64,
    "num_frames": 9,
    "frame_rate": 24,
    "num_inference_steps": 2,
    "output_type": "latent",
}
SOUNDS = random(3, 2, 40, 128)
NOISE = random(4, 2, 2 * 1 * 2, 48)
PROMPTS = ["a red boat", "a slow tide"]


@pytest.fixture(scope="module")
def hearing() -> LTXVideoPipeline:
    return hearing_pipeline()


def made(pipeline: LTXVideoPipeline, prompt: Any, **changes: Any) -> torch.Tensor:
    frames: torch.Tensor = pipeline(prompt, **{**CALL, "latents": NOISE, **changes}).frames
    return frames


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("audio_guidance_scale", [1.0, 2.0])
def test_each_prompt_of_a_batch_hears_its_own_sound(
    hearing: LTXVideoPipeline, guidance_scale: float, audio_guidance_scale: float
) -> None:
    scales = {"guidance_scale": guidance_scale, "audio_guidance_scale": audio_guidance_scale}
    both = made(hearing, PROMPTS, audio_latents=SOUNDS, **scales)
    swapped = made(hearing, PROMPTS, audio_latents=SOUNDS.flip(0), **scales)
    for index, prompt in enumerate(PROMPTS):
        one = slice(index, index + 1)
        alone = made(hearing, prompt, latents=NOISE[one], audio_latents=SOUNDS[one], **scales)
        assert torch.allclose(both[one], alone, atol=1e-4)
        assert not torch.allclose(both[one], swapped[one], atol=1e-2)


def test_one_sound_is_heard_by_all_prompts(hearing: LTXVideoPipeline) -> None:
    shared = made(hearing, PROMPTS, audio_latents=SOUNDS[:1])
    assert torch.equal(shared, made(hearing, PROMPTS, audio_latents=SOUNDS[:1].repeat(2, 1, 1)))


def test_all_videos_of_a_prompt_hear_and_sounds_count_videos(hearing: LTXVideoPipeline) -> None:
    several = made(hearing, PROMPTS[0], num_videos_per_prompt=2, audio_latents=SOUNDS)
    assert torch.allclose(several, made(hearing, [PROMPTS[0]] * 2, audio_latents=SOUNDS), atol=1e-5)
    with pytest.raises(UserError, match="one sound, or one for each of 4 videos, got 2"):
        made(
            hearing,
            PROMPTS,
            num_videos_per_prompt=2,
            latents=NOISE.repeat(2, 1, 1),
            audio_latents=SOUNDS,
        )


def test_two_texts_per_video_are_not_taken_for_two_videos(hearing: LTXVideoPipeline) -> None:
    """With guidance the transformer's batch is twice the videos: two sounds for one are one too many."""
    with pytest.raises(UserError, match="one for each of 1 videos, got 2"):
        made(hearing, PROMPTS[0], latents=NOISE[:1], guidance_scale=3.0, audio_latents=SOUNDS)


def test_a_call_leaves_no_trace_on_the_transformer_also_when_it_fails(hearing: LTXVideoPipeline) -> None:
    silent = made(hearing, PROMPTS[0], latents=NOISE[:1])

    def stopped(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    heard = {"audio_latents": SOUNDS[:1], "audio_guidance_scale": 2.0, "latents": NOISE[:1]}
    made(hearing, PROMPTS[0], **heard)
    with pytest.raises(KeyboardInterrupt):
        made(hearing, PROMPTS[0], callback_on_step_end=stopped, **heard)
    with pytest.raises(UserError, match="made for audio latents"):
        made(hearing, PROMPTS[0], **{**heard, "audio_latents": random(0, 1, 9, 7)})
    assert not hearing.transformer._forward_hooks
    assert not hearing.transformer._forward_pre_hooks
    assert torch.equal(made(hearing, PROMPTS[0], latents=NOISE[:1]), silent)


def test_sound_for_a_model_that_cannot_hear_is_told() -> None:
    with pytest.raises(UserError, match=r"call add_audio_cross_attention_to_transformer\(pipeline"):
        made(deaf_pipeline(), PROMPTS[0], latents=NOISE[:1], audio_latents=SOUNDS[:1])


def test_audio_latents_that_are_a_waveform_are_told(hearing: LTXVideoPipeline) -> None:
    for waveform, words in (
        (torch.zeros(1, 16_000), r"got \(1, 16000\)"),
        (np.zeros((1, 9, 128)), "ndarray"),
    ):
        with pytest.raises(UserError, match=words):
            made(hearing, PROMPTS[0], latents=NOISE[:1], audio_latents=waveform)


def test_the_sound_is_heard_at_the_frame_rate_of_the_video(hearing: LTXVideoPipeline) -> None:
    """At 50 frames a second a latent lasts half as long as at 25, and its window is shorter."""
    seen = []
    attention = hearing.transformer.transformer_blocks[8].audio_attn
    handle = attention.register_forward_pre_hook(lambda module, given: seen.append(given[1].windows.shape))
    for rate in (25, 50):
        made(hearing, PROMPTS[0], latents=NOISE[:1], frame_rate=rate, audio_latents=SOUNDS[:1])
    handle.remove()
    assert seen == [(2, 16)] * 2 + [(2, 12)] * 2


@pytest.mark.parametrize("assigned", [True, False])
def test_a_pipeline_that_hears_is_saved_and_loaded_as_any_other(tmp_path: Path, assigned: bool) -> None:
    pipeline = hearing_pipeline()
    if assigned:  # as in the guide; the layers are added in place in any case
        pipeline.transformer = pipeline.transformer
    pipeline.save_pretrained(tmp_path)
    again = quiet(LTXVideoPipeline.from_pretrained(tmp_path))
    assert type(again.transformer) is AudioLTXVideoTransformer3DModel
    heard = {"latents": NOISE[:1], "audio_latents": SOUNDS[:1]}
    assert torch.allclose(made(again, PROMPTS[0], **heard), made(pipeline, PROMPTS[0], **heard), atol=1e-5)


def test_a_pipeline_without_audio_layers_is_saved_as_diffusers_own(tmp_path: Path) -> None:
    pipeline = deaf_pipeline()
    pipeline.save_pretrained(tmp_path)
    again = quiet(LTXPipeline.from_pretrained(tmp_path, dtype=torch.float32))
    assert type(again) is LTXPipeline
    ours, theirs = (made(pipe, PROMPTS[0], latents=NOISE[:1]) for pipe in (pipeline, again))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_an_adapter_brings_the_ears_of_one_pipeline_to_another(tmp_path: Path) -> None:
    pipeline = hearing_pipeline()
    path = AudioAdapter.of(pipeline.transformer, AudioEncoder()).save_pretrained(tmp_path)
    other = deaf_pipeline()
    adapter = AudioAdapter.from_pretrained(path)
    adapter.attach(other.transformer)
    tokens = adapter.encoder(0.1 * random(6, 1, 1, 16_000))
    heard = {"latents": NOISE[:1], "audio_latents": tokens}
    assert torch.equal(made(other, PROMPTS[0], **heard), made(pipeline, PROMPTS[0], **heard))
    with pytest.raises(ModelError, match="has audio layers already"):
        adapter.attach(other.transformer)


def test_a_feature_cache_keeps_the_passes_of_audio_guidance_apart(hearing: LTXVideoPipeline) -> None:
    """A threshold that no step stays below: the cache is asked at each, and changes nothing."""
    heard = {"latents": NOISE[:1], "audio_latents": SOUNDS[:1], "audio_guidance_scale": 2.0}
    plain = made(hearing, PROMPTS[0], **heard)
    hearing.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e-9))
    try:
        assert torch.allclose(made(hearing, PROMPTS[0], **heard), plain, atol=1e-5)
    finally:
        hearing.transformer.disable_cache()
