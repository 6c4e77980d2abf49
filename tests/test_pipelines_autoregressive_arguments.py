"""What a caller of a long video gives, is told, and is refused."""

import io
import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from PIL import Image
from small_transformer import random
from tiny_pipelines import LONG_CALL, deaf_pipeline, hearing_pipeline, quiet

from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError, UserError
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.models.autoencoders.encoder_layers import encoder_bytes_per_cell
from ltx_ray.models.autoencoders.vae_hierarchical import HierarchicalVAEEncoder
from ltx_ray.pipelines.autoregressive_pipeline import (
    AutoregressiveLTXVideoPipeline,
    AutoregressiveVideoOutput,
    create_autoregressive_pipeline,
)
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline
from ltx_ray.run import RunSpec

CALL = {**LONG_CALL, "output_type": "latent"}
HEARD = random(3, 1, 90, 128)


@pytest.fixture(scope="module")
def base() -> LTXVideoPipeline:
    return hearing_pipeline()


@pytest.fixture(scope="module")
def long(base: LTXVideoPipeline) -> AutoregressiveLTXVideoPipeline:
    return create_autoregressive_pipeline(base, chunk_size=33, overlap_frames=8)


def made(long: AutoregressiveLTXVideoPipeline, **changes: Any) -> AutoregressiveVideoOutput:
    return long.generate_long_video(**{**CALL, **changes})


def test_seed_and_generator_decide_the_video(long: AutoregressiveLTXVideoPipeline) -> None:
    assert torch.equal(made(long).latents, made(long).latents)
    assert not torch.allclose(made(long, seed=4).latents, made(long).latents, atol=1e-3)

    def drawn(seed: int) -> AutoregressiveVideoOutput:
        return made(long, seed=None, generator=torch.Generator().manual_seed(seed))

    one = drawn(1)
    assert torch.equal(one.latents, drawn(1).latents)
    assert torch.equal(one.latents, made(long, seed=one.seed).latents)
    assert drawn(2).seed != one.seed
    assert made(long, seed=None).seed != made(long, seed=None).seed


def test_every_step_and_every_chunk_is_told(long: AutoregressiveLTXVideoPipeline) -> None:
    told: list[Any] = []
    output = made(
        long,
        prompt=["a", "b"],
        callback_on_step_end=lambda pipe, step, t, where: told.append((pipe, step, t, where)),
        callback_on_chunk_end=lambda pipe, chunk, what: told.append((pipe, chunk, what)),
    )
    assert all(entry[0] is long for entry in told)
    steps = [(e[3]["video"], e[3]["chunk_index"], e[1]) for e in told if len(e) == 4]
    assert steps == [(video, chunk, step) for video in (0, 1) for chunk in (0, 1) for step in (0, 1)]
    assert {entry[3]["num_chunks"] for entry in told if len(entry) == 4} == {2}
    times = [entry[2] for entry in told if len(entry) == 4][:2]
    assert 1000 >= times[0] > times[1] > 0
    chunks = [entry[1:] for entry in told if len(entry) == 3]
    assert [(what["video"], index) for index, what in chunks] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [what["boundary"] for _, what in chunks[:2]] == output.chunk_boundaries
    joined = torch.cat([what["latents"] for _, what in chunks[2:]], dim=2)
    assert torch.equal(joined, output.latents[1:])
    assert [len(entry) for entry in told][:3] == [4, 4, 3], "a chunk is told after its steps"


def test_the_progress_bar_counts_all_steps_of_a_video(
    base: LTXVideoPipeline, long: AutoregressiveLTXVideoPipeline
) -> None:
    shown = io.StringIO()
    base.set_progress_bar_config(file=shown, mininterval=0)
    try:
        made(long)
    finally:
        base.set_progress_bar_config(disable=True)
    counts = re.findall(r"(\d+)/(\d+) ", shown.getvalue())
    assert {total for _, total in counts} == {"4"}
    assert counts[-1] == ("4", "4")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"swing": 3},
            "does not know swing; it takes prompt, .*, guidance_scale, negative_prompt, prompt_per",
        ),
        ({"prompt": []}, "a list of at least one text"),
        ({"prompt": ["a", 3]}, "at least one text, got"),
        ({"prompt": ["a", "b", "c"], "prompt_per": "chunk"}, "one for each of 2 chunks, got 3"),
        ({"prompt_per": "frame"}, "prompt_per must be one of video, chunk, got 'frame'"),
        ({"output_type": "gif"}, "output_type must be one of pil, np, pt, latent"),
        ({"total_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"width": 63}, "width must be even"),
        ({"num_inference_steps": 0}, "num_inference_steps: .*got 0"),
        ({"guidance_scale": -1.0}, "guidance_scale: .*got -1"),
        ({"audio_guidance_scale": -1.0}, "audio_guidance_scale: .*got -1"),
        ({"overlap_strength": 1.5}, "overlap_strength: .*got 1.5"),
        ({"coherence_guidance": -1}, "coherence_guidance: .*got -1"),
        ({"sigmas": [0.1, 0.9]}, "sigmas"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"generator": [torch.Generator()]}, "one torch.Generator, got list"),
        ({"seed": "1"}, "seed must be a whole number, got '1'"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"frame_rate": 0}, "frame_rate must be above 0"),
        ({"frame_rate": "24"}, "frame_rate must be a number, got '24'"),
        ({"frame_rate": math.nan}, "frame_rate must be above 0"),
        ({"image_strength": "1"}, "image_strength must be a number"),
        ({"adain_factor": "1"}, "adain_factor must be a number, got '1'"),
        ({"decode_timestep": "0"}, "decode_timestep must be a number"),
        ({"decode_noise_scale": 2}, "decode_noise_scale must be from 0 to 1, got 2"),
        ({"audio_guidance_scale": [1.0]}, "audio_guidance_scale must be a number"),
        ({"sigmas": 1.0}, "sigmas must be a list of numbers, got 1.0"),
        ({"sigmas": ["1", "0"]}, "each of sigmas must be a number, got '1'"),
        ({"total_frames": 60.0}, "total_frames must be a whole number, got 60.0"),
        ({"height": "32"}, "height must be a whole number"),
        ({"num_inference_steps": 2.0}, "num_inference_steps must be a whole number"),
        ({"guidance_scale": "1"}, "guidance_scale must be a number"),
        ({"negative_prompt": None}, "negative_prompt must be a text, got NoneType"),
        ({"prompt": None}, "prompt must be a text"),
        ({"image": np.zeros((32, 64, 3))}, "image must be a PIL image, a path or a URL, got ndarray"),
        ({"callback_on_step_end": "print"}, "callback_on_step_end must be a function, got str"),
        ({"audio_latents": HEARD.repeat(2, 1, 1)}, "one sound, or one for each of 1 videos, got 2"),
        ({"audio_latents": HEARD[0]}, r"\[batch, tokens, channels\]"),
        ({"audio_latents": HEARD[..., :5]}, "made for audio latents"),
    ],
)
def test_arguments_that_do_not_fit_are_told(
    long: AutoregressiveLTXVideoPipeline, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        made(long, **changes)


def test_numbers_of_numpy_are_numbers(long: AutoregressiveLTXVideoPipeline) -> None:
    ours = made(
        long, seed=np.int64(3), total_frames=np.int32(60), frame_rate=np.float32(24), guidance_scale=1
    )
    assert torch.equal(ours.latents, made(long).latents)
    levels = torch.tensor([1.0, 0.5])
    assert torch.equal(made(long, sigmas=levels).latents, made(long, sigmas=[1, 0.5]).latents)


def test_what_is_left_open_is_as_in_a_render(long: AutoregressiveLTXVideoPipeline, tmp_path: Any) -> None:
    sampling = RunSpec.decide(RenderConfig(), str(tmp_path / "out"), "cpu").sampling
    long.enable_streaming(tmp_path)
    made(long, total_frames=9)
    long.disable_streaming()
    call = json.loads((tmp_path / "call.json").read_text())
    for name in ("rope", "decode_timestep", "decode_noise_scale"):
        assert call[name] == getattr(sampling, name), name


def test_a_model_like_0_9_0_is_sampled_with_uniform_times() -> None:
    """As wide as a released one, with one layer, and as 0.9.0 without a decode timestep."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wide = LTXVideoTransformer3DModel(
            in_channels=48,
            out_channels=48,
            num_attention_heads=16,
            cross_attention_dim=1024,
            num_layers=1,
            caption_channels=64,
        )
    base = quiet(LTXVideoPipeline(**{**deaf_pipeline().components, "transformer": wide.eval()}))
    long = create_autoregressive_pipeline(base)
    ours, uniform, causal = (
        made(long, total_frames=17, **rope) for rope in ({}, {"rope": "uniform"}, {"rope": "causal"})
    )
    assert torch.equal(ours.latents, uniform.latents)
    assert not torch.equal(ours.latents, causal.latents)


def test_an_image_is_encoded_within_the_adaptive_decoders_memory_budget() -> None:
    base = deaf_pipeline()
    per_cell = encoder_bytes_per_cell(base.vae.config, base.vae.dtype.itemsize, one_frame=True)
    base.vae.decoder = create_adaptive_decoder(base.vae, memory_budget=120 * per_cell)
    widths: list[int] = []
    base.vae.encoder.register_forward_pre_hook(lambda module, given: widths.append(given[0].shape[-1]))
    image = Image.new("RGB", (4096, 32))
    made(create_autoregressive_pipeline(base), total_frames=9, width=4096, image=image)
    assert len(widths) > 1
    assert max(widths) <= 120 * 32


def test_a_coarse_low_band_which_long_videos_cannot_have_is_told() -> None:
    base = deaf_pipeline()
    base.vae.decoder = create_adaptive_decoder(base.vae, HierarchicalVAEEncoder())
    base.vae.decoder.coarse_low_band = True
    with pytest.raises(ConfigError, match="coarse_low_band does nothing for long videos"):
        made(create_autoregressive_pipeline(base), total_frames=9)


def test_sound_for_a_model_that_cannot_hear_is_told() -> None:
    deaf = create_autoregressive_pipeline(deaf_pipeline())
    with pytest.raises(UserError, match="call add_audio_cross_attention_to_transformer"):
        made(deaf, audio_latents=HEARD)


@pytest.mark.parametrize(("size", "overlap"), [(33, 25), (8, 0), (33, -1), (2050, 24)])
def test_chunks_that_cannot_be_are_told(base: LTXVideoPipeline, size: int, overlap: int) -> None:
    with pytest.raises(UserError, match=r"chunk_size|overlap_frames"):
        create_autoregressive_pipeline(base, size, overlap)


def test_something_else_than_a_pipeline_is_told() -> None:
    with pytest.raises(UserError, match=r"must be an LTXVideoPipeline or an LTXPipeline .*, got str"):
        create_autoregressive_pipeline("tiny")  # type: ignore[arg-type]
