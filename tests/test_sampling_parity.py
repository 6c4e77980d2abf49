"""Parity: chunks give the latents of diffusers' pipelines, to 1e-5 in float32, from the same noise.

The model is the built-in checkpoint, the pipelines are diffusers' own, called as a user calls them.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXI2VLongMultiPromptPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from ltx_ray.models.checkpoint import resolve
from ltx_ray.planning.geometry import Ratios
from ltx_ray.sampling.chunk import ChunkLatents, Conditioning, SamplingSettings, denoise_chunk
from ltx_ray.types import Chunk

TOLERANCE = 1e-4  # trained weights enlarge what float32 rounds: 5e-5 was the largest
CHANNELS = 48
WIDTH, HEIGHT = 96, 64  # pixels: 3 x 2 cells
FPS = 24
NEGATIVE = "blurry dark"
PROMPTS = ["red boat", "green boat slow", "slow sea"]
SEED = 7
SIGMAS = (1.0, 0.9, 0.7, 0.45, 0.2, 0.0)


@dataclass(frozen=True)
class Parts:
    """The components of a checkpoint."""

    transformer: LTXVideoTransformer3DModel
    vae: AutoencoderKLLTXVideo
    text_encoder: T5EncoderModel
    tokenizer: PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def parts() -> Parts:
    checkpoint = resolve("tiny")
    tokenizer, text_encoder = checkpoint.load_text_encoder(torch.float32, "cpu")
    return Parts(
        transformer=checkpoint.load_transformer(torch.float32, "cpu"),
        vae=checkpoint.load_vae(torch.float32, "cpu"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
    )


def components(parts: Parts, scheduler: FlowMatchEulerDiscreteScheduler) -> dict[str, object]:
    return {
        "scheduler": scheduler,
        "vae": parts.vae,
        "text_encoder": parts.text_encoder,
        "tokenizer": parts.tokenizer,
        "transformer": parts.transformer,
    }


def conditioning(pipe: LTXPipeline, prompts: list[str], image: torch.Tensor | None = None) -> Conditioning:
    """What the pipeline's own text encoder and VAE make of the prompts and of an image [1, 3, H, W]."""
    with torch.no_grad():
        embeds, mask, negative_embeds, negative_mask = pipe.encode_prompt(
            prompt=prompts, negative_prompt=[NEGATIVE] * len(prompts)
        )
        if image is not None:
            mode = pipe.vae.encode(image.unsqueeze(2)).latent_dist.mode()
            image = pipe._normalize_latents(mode, pipe.vae.latents_mean, pipe.vae.latents_std)
    return Conditioning(
        prompt_embeds=embeds,
        prompt_mask=mask,
        negative_embeds=negative_embeds[:1],
        negative_mask=negative_mask[:1],
        image=image,
        rows=HEIGHT // 32,
        columns=WIDTH // 32,
        fps=FPS,
    )


def settings(**changes: object) -> SamplingSettings:
    values: dict[str, object] = {
        "sigmas": None,
        "num_inference_steps": 6,
        "guidance_scale": 3.0,
        "audio_guidance_scale": 1.0,
        "rope": "uniform",
        "overlap_strength": 0.5,
        "adain_factor": 0.25,
        "image_strength": 1.0,
        "coherence_guidance": 0.0,
        "latents_dtype": "float32",
        "ratios": Ratios(8, 32),
        "device": "cpu",
    }
    return SamplingSettings(**{**values, **changes})


def windows(spans: list[tuple[int, int]], overlap: int, prompts: int) -> list[Chunk]:
    """The windows of a pipeline as chunks with its seeds and prompts."""
    last = len(spans) - 1
    return [
        Chunk(
            index=i,
            start=start,
            length=stop - start,
            overlap=overlap if i else 0,
            tail=overlap if i else 0,
            next_overlap=overlap if i < last else 0,
            next_tail=overlap if i < last else 0,
            seed=SEED + start,
            prompt=min(i, prompts - 1),
            start_s=0.0,
            stop_s=1.0,
        )
        for i, (start, stop) in enumerate(spans)
    ]


def window_noise(chunk: Chunk, image: torch.Tensor | None) -> torch.Tensor:
    """The noise of a window of the Long pipeline: the appended tail's and image's tokens included."""
    latents = chunk.length + chunk.tail + (image is not None)
    generator = torch.Generator().manual_seed(chunk.seed)
    return torch.randn((1, CHANNELS, latents, HEIGHT // 32, WIDTH // 32), generator=generator)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize("frames", [1, 57])
def test_one_uniform_chunk_gives_the_latents_of_ltx_pipeline(parts: Parts, frames: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        base_shift=0.95,
        max_shift=2.05,
        shift_terminal=0.1,
    )
    pipe = LTXPipeline(**components(parts, scheduler))
    pipe.set_progress_bar_config(disable=True)
    latents = (frames - 1) // 8 + 1
    noise = torch.randn((1, CHANNELS, latents, 2, 3), generator=torch.Generator().manual_seed(SEED))
    theirs = pipe(
        prompt=PROMPTS[0],
        negative_prompt=NEGATIVE,
        width=WIDTH,
        height=HEIGHT,
        num_frames=frames,
        frame_rate=FPS,
        num_inference_steps=6,
        guidance_scale=3.0,
        latents=pipe._pack_latents(noise),
        output_type="latent",
    ).frames
    (chunk,) = windows([(0, latents)], 0, 1)
    ours = denoise_chunk(
        parts.transformer, scheduler.config, conditioning(pipe, PROMPTS[:1]), chunk, None, settings()
    ).final
    assert difference(pipe._pack_latents(ours), theirs) <= TOLERANCE
    # The pipeline has moved the latents by far more than the tolerance: equality is no accident.
    assert difference(ours, noise) > 0.1


LONG_CASES = {
    "text": (None, 1.0, 0.5, 0.25),
    "text, tail held": (None, 1.0, 1.0, 0.25),
    "text, no adain": (None, 1.0, 0.5, 0.0),
    "image held": (1.0, 1.0, 0.5, 0.25),
    "image at half strength": (0.5, 1.0, 1.0, 0.25),
    "guided": (None, 3.0, 0.5, 0.25),
    "guided, image held": (1.0, 3.0, 1.0, 0.25),
    "guided, image at half strength": (0.5, 3.0, 0.5, 0.25),
}


def photo() -> torch.Tensor:
    """An image [1, 3, H, W] in [0, 1]."""
    return torch.rand((1, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1))


def long_pipeline(parts: Parts) -> LTXI2VLongMultiPromptPipeline:
    pipe = LTXI2VLongMultiPromptPipeline(**components(parts, FlowMatchEulerDiscreteScheduler(shift=1.0)))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def long_latents(
    pipe: LTXI2VLongMultiPromptPipeline,
    image_strength: float | None,
    guidance_scale: float,
    overlap_strength: float,
    adain_factor: float,
) -> torch.Tensor:
    """161 frames, 21 latents, in the pipeline's windows of 10 latents that share 3."""
    latents: torch.Tensor = pipe(
        prompt=" | ".join(PROMPTS),
        negative_prompt=NEGATIVE,
        width=WIDTH,
        height=HEIGHT,
        num_frames=161,
        frame_rate=FPS,
        guidance_scale=guidance_scale,
        sigmas=list(SIGMAS),
        seed=SEED,
        cond_image=None if image_strength is None else photo(),
        cond_strength=image_strength or 0.0,
        temporal_tile_size=80,
        temporal_overlap=24,
        temporal_overlap_cond_strength=overlap_strength,
        adain_factor=adain_factor,
        output_type="latent",
    ).frames
    return latents


def our_latents(
    pipe: LTXI2VLongMultiPromptPipeline, shot: Conditioning, wanted: SamplingSettings
) -> torch.Tensor:
    finals: list[torch.Tensor] = []
    previous: ChunkLatents | None = None
    for chunk in windows([(0, 10), (7, 17), (14, 21)], 3, len(PROMPTS)):
        previous = denoise_chunk(
            pipe.transformer,
            pipe.scheduler.config,
            shot,
            chunk,
            previous,
            wanted,
            noise=window_noise(chunk, shot.image),
        )
        finals.append(previous.final)
    return torch.cat(finals, dim=2)


@pytest.mark.parametrize("case", LONG_CASES)
def test_causal_chunks_give_the_latents_of_the_long_pipeline(parts: Parts, case: str) -> None:
    image_strength, guidance_scale, overlap_strength, adain_factor = LONG_CASES[case]
    pipe = long_pipeline(parts)
    shot = conditioning(pipe, PROMPTS, None if image_strength is None else photo() * 2 - 1)
    wanted = settings(
        sigmas=SIGMAS,
        guidance_scale=guidance_scale,
        rope="causal",
        overlap_strength=overlap_strength,
        adain_factor=adain_factor,
        image_strength=image_strength or 0.0,
    )
    theirs = long_latents(pipe, image_strength, guidance_scale, overlap_strength, adain_factor)
    assert difference(our_latents(pipe, shot, wanted), theirs) <= TOLERANCE


def test_the_parity_is_sharp_enough_to_see_each_setting(parts: Parts) -> None:
    """Each setting, moved a little, moves the latents by 100 tolerances: equality cannot be an accident."""
    pipe = long_pipeline(parts)
    shot = conditioning(pipe, PROMPTS, photo() * 2 - 1)
    right = settings(sigmas=SIGMAS, rope="causal", image_strength=0.5)
    theirs = long_latents(pipe, 0.5, 3.0, 0.5, 0.25)
    for change in (
        {"guidance_scale": 2.9},
        {"rope": "uniform"},
        {"overlap_strength": 0.6},
        {"adain_factor": 0.3},
        {"image_strength": 0.4},
    ):
        assert difference(our_latents(pipe, shot, replace(right, **change)), theirs) > 100 * TOLERANCE, change
    assert difference(our_latents(pipe, replace(shot, fps=25), right), theirs) > 100 * TOLERANCE
