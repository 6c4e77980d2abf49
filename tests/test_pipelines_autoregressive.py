"""Long videos are chunks of the farm's own making: as many as asked for, each with its own sound."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from planned import settings_of, shot_of
from small_transformer import random
from tiny_pipelines import LONG_CALL, hearing_pipeline

from ltx_ray.decoding.tile import DecodeSettings, to_uint8
from ltx_ray.decoding.whole import decode_shot
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.models.conditioning import encode_prompts
from ltx_ray.models.presets import PRESETS
from ltx_ray.pipelines.autoregressive_pipeline import (
    AutoregressiveLTXVideoPipeline,
    AutoregressiveVideoOutput,
    create_autoregressive_pipeline,
)
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline
from ltx_ray.planning.chunks import ChunkSettings, plan_chunks
from ltx_ray.planning.geometry import Ratios, latents_of
from ltx_ray.planning.plan import plan_shot
from ltx_ray.sampling.carriers import ChunkLatents, Conditioning, SamplingSettings
from ltx_ray.sampling.chunk import denoise_chunk

CALL = {**LONG_CALL, "output_type": "latent"}
CHUNKS = ChunkSettings(chunk_size=33, overlap_frames=8)
HEARD = random(3, 1, 90, 128)


@pytest.fixture(scope="module")
def base() -> LTXVideoPipeline:
    return hearing_pipeline()


@pytest.fixture(scope="module")
def long(base: LTXVideoPipeline) -> AutoregressiveLTXVideoPipeline:
    return create_autoregressive_pipeline(base, chunk_size=33, overlap_frames=8)


def made(long: AutoregressiveLTXVideoPipeline, **changes: Any) -> AutoregressiveVideoOutput:
    return long.generate_long_video(**{**CALL, **changes})


def differ(ours: AutoregressiveVideoOutput, theirs: AutoregressiveVideoOutput) -> bool:
    return not torch.allclose(ours.latents, theirs.latents, atol=1e-3)


def test_360_frames_are_4_chunks_that_follow_one_another_to_the_end(base: LTXVideoPipeline) -> None:
    """The guide's numbers, and its defaults."""
    output = made(create_autoregressive_pipeline(base), total_frames=360, num_inference_steps=1)
    assert output.chunk_boundaries == [(0, 89), (89, 177), (177, 265), (265, 360)]
    assert output.latents.shape == (1, 48, 46, 1, 2)
    assert output.frames is output.latents


@pytest.mark.parametrize(
    ("frames", "chunks", "latents"), [(1, 1, 1), (2, 1, 2), (33, 1, 5), (34, 2, 6), (100, 4, 14)]
)
def test_any_number_of_frames_is_covered_once(
    long: AutoregressiveLTXVideoPipeline, frames: int, chunks: int, latents: int
) -> None:
    output = made(long, total_frames=frames, num_inference_steps=1)
    bounds = output.chunk_boundaries
    assert len(bounds) == chunks
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == frames
    assert output.latents.shape[2] == latents == latents_of(frames, Ratios())


def test_chunks_are_those_of_the_farm_with_the_sound_of_one_long_encoding(
    base: LTXVideoPipeline, long: AutoregressiveLTXVideoPipeline
) -> None:
    """Against the chain of ``denoise_chunk`` by hand, with the whole track and no pipeline."""
    track = AudioTrack(tokens=HEARD, start_s=-0.4)
    given = {
        "guidance_scale": 2.0,
        "audio_guidance_scale": 3.0,
        "negative_prompt": "blur",
        "frame_rate": 30.0,
    }
    output = made(long, audio_latents=track, **given)
    embeds, masks = encode_prompts(base.tokenizer, base.text_encoder, ["a tide", "blur"])
    conditioning = Conditioning(
        prompt_embeds=embeds[:1],
        prompt_mask=masks[:1],
        negative_embeds=embeds[1:],
        negative_mask=masks[1:],
        image=None,
        rows=1,
        columns=2,
        fps=30.0,
        audio=track,
    )
    settings = SamplingSettings(
        sigmas=None,
        num_inference_steps=2,
        guidance_scale=2.0,
        audio_guidance_scale=3.0,
        rope="causal",
        overlap_strength=0.5,
        adain_factor=PRESETS["tiny"].adain_factor,
        image_strength=1.0,
        coherence_guidance=0.0,
        latents_dtype="float32",
        ratios=Ratios(),
        device="cpu",
    )
    previous: ChunkLatents | None = None
    finals = []
    for chunk in plan_chunks(shot_of(60, 64, 32, seed=3, fps=30.0), 9, CHUNKS, Ratios()):
        previous = denoise_chunk(
            base.transformer, base.scheduler.config, conditioning, chunk, previous, settings
        )
        finals.append(previous.final)
    assert len(finals) == 2
    assert torch.equal(output.latents, torch.cat(finals, dim=2))
    assert differ(output, made(long, **given))


def test_frames_are_those_of_the_farms_decoder(
    base: LTXVideoPipeline, long: AutoregressiveLTXVideoPipeline
) -> None:
    output = made(long, output_type="np", height=30, width=62)
    assert output.frames.shape == (1, 60, 30, 62, 3)
    plan = plan_shot(shot_of(60, 62, 30), settings_of(33, 8))
    settings = DecodeSettings(
        decode_timestep=0.05,
        decode_noise_scale=0.025,
        seed=3,
        rows=1,
        columns=2,
        device="cpu",
        ratios=Ratios(),
    )
    whole = to_uint8(decode_shot(base.vae, output.latents, plan.slabs, settings))
    assert np.abs(np.rint(output.frames[0] * 255) - whole[:60, 1:31, 1:63].astype(int)).max() <= 1


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_frames_come_as_from_diffusers_pipelines(
    long: AutoregressiveLTXVideoPipeline, output_type: str
) -> None:
    output = made(long, prompt=["a tide", "a boat"], total_frames=10, output_type=output_type)
    video = output.frames[1]
    if output_type == "pil":
        assert isinstance(video[0], Image.Image)
        assert (len(video), video[0].size) == (10, (64, 32))
    else:
        shape = (2, 10, 32, 64, 3) if output_type == "np" else (2, 10, 3, 32, 64)
        assert output.frames.shape == shape
        assert output.frames.min() >= 0
        assert 0.3 < output.frames.max() <= 1
    assert output.latents.shape[0] == 2


def test_a_list_of_prompts_is_one_for_each_video(long: AutoregressiveLTXVideoPipeline) -> None:
    both = made(long, prompt=["a tide", "a boat"])
    alone = made(long, prompt="a boat", seed=4)
    assert torch.equal(both.latents[1:], alone.latents)
    assert torch.equal(both.latents[:1], made(long).latents)
    assert both.seed == 3


def test_a_list_of_prompts_can_be_one_for_each_chunk(long: AutoregressiveLTXVideoPipeline) -> None:
    changed = made(long, prompt=["a tide", "a boat"], prompt_per="chunk")
    same = made(long, prompt=["a tide", "a tide"], prompt_per="chunk")
    plain = made(long)
    assert torch.equal(same.latents, plain.latents)
    first = plain.chunk_boundaries[0][1]
    latents = latents_of(first, Ratios())
    assert torch.equal(changed.latents[:, :, :latents], plain.latents[:, :, :latents])
    assert not torch.allclose(changed.latents[:, :, latents:], plain.latents[:, :, latents:], atol=1e-3)
    assert torch.equal(made(long, prompt="a tide", prompt_per="chunk").latents, plain.latents)


def test_sounds_are_shared_or_one_for_each_video(long: AutoregressiveLTXVideoPipeline) -> None:
    prompts = ["a tide", "a tide"]
    sounds = torch.cat([HEARD, HEARD.flip(1)])
    each = made(long, prompt=prompts, audio_latents=sounds)
    shared = made(long, prompt=prompts, audio_latents=HEARD)
    assert torch.equal(each.latents[0], shared.latents[0])
    assert not torch.allclose(each.latents[1], shared.latents[1], atol=1e-3)
    assert torch.equal(each.latents[1:], made(long, seed=4, audio_latents=HEARD.flip(1)).latents)


def test_an_image_is_the_first_frame(long: AutoregressiveLTXVideoPipeline, tmp_path: Any) -> None:
    image = Image.fromarray((np.arange(32 * 64 * 3) % 251).astype(np.uint8).reshape(32, 64, 3))
    image.save(tmp_path / "first.png")
    given, named = (made(long, image=source) for source in (image, str(tmp_path / "first.png")))
    assert torch.equal(given.latents, named.latents)
    assert differ(given, made(long))
    other = made(long, image=image, seed=9)
    assert torch.equal(given.latents[:, :, 0], other.latents[:, :, 0]), "held at its full strength"
