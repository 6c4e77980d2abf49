"""``LTXVideoPipeline`` is diffusers' pipeline bit for bit without sound, and hears where there is some."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXPipeline
from small_transformer import random
from tiny_pipelines import deaf_pipeline, hearing_pipeline, quiet

from ltx_ray.checkpoints import tiny_path
from ltx_ray.errors import UserError
from ltx_ray.models.audio.alignment import AudioTrack, audio_context, latent_span, window_size
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline
from ltx_ray.planning.geometry import Ratios
from ltx_ray.sampling.schedule import sigma_schedule

CALL: dict[str, Any] = {
    "prompt": "a guitarist on stage",
    "negative_prompt": "blurry",
    "height": 64,
    "width": 96,
    "num_frames": 17,
    "frame_rate": 24,
    "num_inference_steps": 2,
    "guidance_scale": 3.0,
    "decode_timestep": 0.05,
    "decode_noise_scale": 0.025,
}
HEARD = random(3, 1, 40, 128)


@pytest.fixture(scope="module")
def stock() -> LTXPipeline:
    return quiet(LTXPipeline.from_pretrained(tiny_path(), dtype=torch.float32))


@pytest.fixture(scope="module")
def deaf() -> LTXVideoPipeline:
    return deaf_pipeline()


@pytest.fixture(scope="module")
def hearing() -> LTXVideoPipeline:
    return hearing_pipeline()


def made(pipeline: Any, seed: int = 0, output_type: str = "np", **changes: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return pipeline(**{**CALL, **changes}, generator=generator, output_type=output_type).frames


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "latent"])
def test_without_sound_it_is_diffusers_pipeline_bit_for_bit(
    stock: LTXPipeline, hearing: LTXVideoPipeline, output_type: str
) -> None:
    ours, theirs = (made(pipeline, output_type=output_type) for pipeline in (hearing, stock))
    if output_type == "pil":
        ours, theirs = ([np.stack(video) for video in frames] for frames in (ours, theirs))
    assert type(ours) is type(theirs)
    assert np.array_equal(ours, theirs)


def test_arguments_that_it_does_not_know_itself_reach_diffusers_pipeline(
    stock: LTXPipeline, deaf: LTXVideoPipeline
) -> None:
    options = {
        "guidance_rescale": 0.3,
        "num_videos_per_prompt": 2,
        "max_sequence_length": 16,
        "output_type": "latent",
        "num_frames": 9,
    }
    ours, theirs = (made(pipeline, **options) for pipeline in (deaf, stock))
    assert ours.shape[0] == 2
    assert torch.equal(ours, theirs)
    with pytest.raises(TypeError, match="swing"):
        made(deaf, swing=3)
    (frames,) = deaf(**CALL, generator=torch.Generator().manual_seed(0), return_dict=False, output_type="np")
    assert np.array_equal(frames, made(stock))


def test_its_defaults_are_those_of_diffusers_pipeline() -> None:
    ours = inspect.signature(LTXVideoPipeline.__call__).parameters
    theirs = inspect.signature(LTXPipeline.__call__).parameters
    for name in ours.keys() & theirs.keys() - {"self"}:
        assert ours[name].default == theirs[name].default, name


@pytest.mark.parametrize("output_type", ["np", "pt", "pil"])
def test_odd_sizes_and_lengths_are_the_centre_and_the_beginning_of_what_the_model_makes(
    deaf: LTXVideoPipeline, output_type: str
) -> None:
    cut, whole = (
        made(deaf, output_type=output_type, height=height, width=width, num_frames=frames)[0]
        for height, width, frames in ((50, 66, 11), (64, 96, 17))
    )
    assert len(whole) == 17
    assert len(cut) == 11
    if output_type == "pil":
        assert cut[0].size == (66, 50)
        cut, whole = (np.stack(video) for video in (cut, whole))
    rows, columns = slice(7, 57), slice(15, 81)
    wanted = whole[:11, :, rows, columns] if output_type == "pt" else whole[:11, rows, columns]
    assert np.array_equal(cut, wanted)


def test_latents_come_whole(deaf: LTXVideoPipeline) -> None:
    cut, whole = (
        made(deaf, output_type="latent", height=height, width=width, num_frames=frames)
        for height, width, frames in ((50, 66, 11), (64, 96, 17))
    )
    assert torch.equal(cut, whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 65}, "width must be even"),
        ({"height": 0}, "height must be"),
        ({"num_frames": 0}, "at least 1"),
    ],
)
def test_impossible_sizes_are_told(deaf: LTXVideoPipeline, change: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        made(deaf, **change)


def test_a_model_with_gates_at_zero_hears_nothing(stock: LTXPipeline) -> None:
    pipeline = deaf_pipeline()
    add_audio_cross_attention_to_transformer(pipeline.transformer)
    assert np.array_equal(made(pipeline, audio_latents=HEARD), made(stock))
    # The pass without sound is at half the batch, in which sums are rounded otherwise.
    guided = made(pipeline, audio_latents=HEARD, audio_guidance_scale=4.0)
    assert np.allclose(guided, made(stock), atol=1e-4)


def test_open_gates_let_the_sound_into_the_video(hearing: LTXVideoPipeline) -> None:
    silent, one, other = (made(hearing, audio_latents=heard) for heard in (None, HEARD, HEARD.flip(1)))
    assert np.abs(one - silent).mean() > 5e-4
    assert np.abs(one - other).mean() > 5e-4


def test_a_track_says_when_its_sound_begins(hearing: LTXVideoPipeline) -> None:
    plain = made(hearing, audio_latents=HEARD)
    assert np.array_equal(made(hearing, audio_latents=AudioTrack(tokens=HEARD)), plain)
    early = torch.cat([random(4, 1, 25, 128), HEARD], dim=1)
    # In the same times the same sound: but for the first windows, which now hear a beginning.
    held = torch.cat([HEARD[:, :1].expand(-1, 25, -1), HEARD], dim=1)
    assert np.allclose(made(hearing, audio_latents=AudioTrack(tokens=held, start_s=-1.0)), plain, atol=1e-4)
    assert not np.allclose(
        made(hearing, audio_latents=AudioTrack(tokens=early, start_s=-1.0)), plain, atol=1e-4
    )


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_audio_guidance_is_the_formula_of_the_three_predictions(
    hearing: LTXVideoPipeline, guidance_scale: float
) -> None:
    """Against Euler steps by hand, of predictions of the transformer alone."""
    noise = random(5, 1, 3 * 2 * 3, 48)
    latents = made(
        hearing,
        latents=noise,
        guidance_scale=guidance_scale,
        audio_latents=HEARD,
        audio_guidance_scale=2.5,
        output_type="latent",
    )
    embeds, mask, negative_embeds, negative_mask = hearing.encode_prompt(
        CALL["prompt"], CALL["negative_prompt"], True
    )
    spans = [latent_span(latent, 24, Ratios()) for latent in range(3)]
    context = audio_context(AudioTrack(tokens=HEARD), spans, window_size(24, Ratios(), 25.0))

    def predicted(x: torch.Tensor, step: int, embeds: torch.Tensor, mask: torch.Tensor, audio: Any) -> Any:
        return hearing.transformer(
            hidden_states=x,
            encoder_hidden_states=embeds,
            timestep=hearing.scheduler.timesteps[step : step + 1],
            encoder_attention_mask=mask,
            num_frames=3,
            height=2,
            width=3,
            rope_interpolation_scale=(8 / 24, 32, 32),
            return_dict=False,
            audio=audio,
        )[0]

    x, sigmas = noise, hearing.scheduler.sigmas
    with torch.no_grad():
        for step in range(2):
            c = predicted(x, step, embeds, mask, context)
            u = predicted(x, step, negative_embeds, negative_mask, context)
            n = predicted(x, step, embeds, mask, None)
            assert (c - n).abs().mean() > 0.01
            guided = u + guidance_scale * (c - u) + 1.5 * (c - n)
            x = x + (sigmas[step + 1] - sigmas[step]) * guided
    assert torch.allclose(latents, x, atol=1e-4)


def test_guidance_that_is_rescaled_together_with_audio_guidance_is_told(hearing: LTXVideoPipeline) -> None:
    """diffusers rescales to the deviation of the conditional prediction, which audio guidance replaces."""
    rescaled = {"guidance_rescale": 0.5, "audio_latents": HEARD}
    with pytest.raises(UserError, match=r"guidance_rescale must be 0 .*, got 0\.5 and 2\.0"):
        made(hearing, audio_guidance_scale=2.0, **rescaled)
    assert np.isfinite(made(hearing, **rescaled)).all()


def test_audio_guidance_of_1_or_without_sound_costs_nothing(hearing: LTXVideoPipeline) -> None:
    def passes(**changes: Any) -> int:
        count = 0

        def counted(*_: Any) -> None:
            nonlocal count
            count += 1

        handle = hearing.transformer.proj_out.register_forward_hook(counted)
        made(hearing, output_type="latent", **changes)
        handle.remove()
        return count

    assert passes(audio_latents=HEARD) == passes(audio_guidance_scale=3.0) == passes() == 2
    assert passes(audio_latents=HEARD, audio_guidance_scale=3.0) == 4


def test_noise_levels_that_break_down_in_diffusers_are_those_of_the_farm(hearing: LTXVideoPipeline) -> None:
    """One step, and as many tokens as 4K has: here a scheduler to which 18 are as many."""
    assert np.isfinite(made(hearing, num_inference_steps=1)).all()
    usual = hearing.scheduler
    strained = {"base_image_seq_len": 1, "max_image_seq_len": 2}
    hearing.scheduler = type(usual).from_config({**usual.config, **strained})
    try:
        config = dict(hearing.scheduler.config)
        assert np.isfinite(made(hearing)).all()
        wanted = sigma_schedule(config, 2, 18, None)
        assert hearing.scheduler.sigmas.tolist() == pytest.approx(wanted)
        assert dict(hearing.scheduler.config) == config
        with pytest.raises(IndexError):  # else there is nothing left to mend
            made(quiet(LTXPipeline(**hearing.components)))
    finally:
        hearing.scheduler = usual
