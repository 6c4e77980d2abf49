"""A chunk goes on from its predecessor alone, from memory or from a file, and the pieces make one shot."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from planned import shot_of

from ltx_ray.errors import BadResultError, LtxRayError
from ltx_ray.payload import pack, unpack
from ltx_ray.planning.chunks import ChunkSettings, plan_chunks
from ltx_ray.planning.geometry import Ratios
from ltx_ray.sampling.chunk import ChunkLatents, Conditioning, SamplingSettings, denoise_chunk
from ltx_ray.types import Chunk, PromptSpan

RATIOS = Ratios(8, 32)
SCHEDULER = {"shift": 1.0}
CHANNELS, ROWS, COLUMNS = 8, 2, 3
SETTINGS = SamplingSettings(
    sigmas=(1.0, 0.6, 0.3),
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


@pytest.fixture(scope="module")
def transformer() -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    return LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=16,
    ).eval()


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditioning(image: torch.Tensor | None = None) -> Conditioning:
    return Conditioning(
        prompt_embeds=random(1, 2, 8, 16),
        prompt_mask=torch.ones(2, 8, dtype=torch.bool),
        negative_embeds=random(2, 1, 8, 16),
        negative_mask=torch.ones(1, 8, dtype=torch.bool),
        image=image,
        rows=ROWS,
        columns=COLUMNS,
        fps=24.0,
    )


def image() -> torch.Tensor:
    return random(3, 1, CHANNELS, 1, ROWS, COLUMNS)


def chunks_of(latents: int, chunk_size: int, overlap_frames: int) -> tuple[Chunk, ...]:
    shot = shot_of(
        8 * latents - 7,
        32 * COLUMNS,
        32 * ROWS,
        prompts=(PromptSpan(0.0, "a"), PromptSpan(3.0, "b")),
        seed=5,
    )
    return plan_chunks(
        shot, latents, ChunkSettings(chunk_size=chunk_size, overlap_frames=overlap_frames), RATIOS
    )


def render(
    transformer: LTXVideoTransformer3DModel,
    chunks: tuple[Chunk, ...],
    shot: Conditioning,
    settings: SamplingSettings,
    through_bytes: bool = False,
) -> list[ChunkLatents]:
    made: list[ChunkLatents] = []
    for chunk in chunks:
        previous = made[-1] if made else None
        if through_bytes and previous is not None:
            previous = ChunkLatents.from_tensors(unpack(pack(previous.to_tensors())))
            shot = Conditioning.from_tensors(unpack(pack(shot.to_tensors())))
        made.append(denoise_chunk(transformer, SCHEDULER, shot, chunk, previous, settings))
    return made


@pytest.mark.parametrize("overlap_frames", [0, 8, 16, 24, 40])
def test_the_final_parts_of_all_chunks_make_the_whole_shot(
    transformer: LTXVideoTransformer3DModel, overlap_frames: int
) -> None:
    chunks = chunks_of(21, 65, overlap_frames)
    assert len(chunks) >= 3
    made = render(transformer, chunks, conditioning(), SETTINGS)
    for chunk, latents in zip(chunks, made, strict=True):
        assert latents.final.shape == (1, CHANNELS, chunk.final_stop - chunk.final_start, ROWS, COLUMNS)
        assert latents.tail.shape == (1, CHANNELS, chunk.next_overlap, ROWS, COLUMNS)
    assert sum(latents.final.shape[2] for latents in made) == 21


@pytest.mark.parametrize("overlap_frames", [0, 8, 16, 24])
def test_a_tail_begins_with_the_last_final_latent(
    transformer: LTXVideoTransformer3DModel, overlap_frames: int
) -> None:
    made = render(transformer, chunks_of(21, 65, overlap_frames), conditioning(), SETTINGS)
    for latents in made[:-1]:
        assert torch.equal(latents.tail[:, :, 0], latents.final[:, :, -1])


def test_a_seam_of_one_latent_is_the_mean_of_both_takes(transformer: LTXVideoTransformer3DModel) -> None:
    first, second = chunks_of(12, 65, 16)
    off = replace(SETTINGS, adain_factor=0.0, overlap_strength=0.0)
    before = denoise_chunk(transformer, SCHEDULER, conditioning(), first, None, off)
    # The same window after two tails, of which the model is not told: only the seam can differ.
    fused, moved = (
        denoise_chunk(transformer, SCHEDULER, conditioning(), second, previous, off)
        for previous in (before, replace(before, tail=before.tail + 1))
    )
    change = moved.final - fused.final
    assert torch.allclose(change[:, :, 0], torch.full_like(change[:, :, 0], 0.5), atol=1e-6)
    assert torch.equal(moved.final[:, :, 1:], fused.final[:, :, 1:])


def test_without_overlap_a_chunk_hears_nothing_of_the_one_before(
    transformer: LTXVideoTransformer3DModel,
) -> None:
    first, second = chunks_of(12, 65, 0)
    assert (second.overlap, second.tail) == (1, 0)
    off = replace(SETTINGS, adain_factor=0.0)
    before = denoise_chunk(transformer, SCHEDULER, conditioning(), first, None, off)
    one, other = (
        denoise_chunk(transformer, SCHEDULER, conditioning(), second, previous, off)
        for previous in (before, replace(before, tail=before.tail + 1))
    )
    assert torch.equal(one.final, other.final)


@pytest.mark.parametrize("latents_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("overlap_frames", [0, 24])
@pytest.mark.parametrize("with_image", [False, True])
def test_going_on_from_bytes_gives_the_same_bits(
    transformer: LTXVideoTransformer3DModel, latents_dtype: str, overlap_frames: int, with_image: bool
) -> None:
    settings = replace(SETTINGS, latents_dtype=latents_dtype)
    chunks = chunks_of(21, 65, overlap_frames)
    shot = conditioning(image() if with_image else None)
    from_memory = render(transformer, chunks, shot, settings)
    from_bytes = render(transformer, chunks, shot, settings, through_bytes=True)
    for ours, theirs in zip(from_memory, from_bytes, strict=True):
        for name, tensor in ours.to_tensors().items():
            assert tensor.dtype == getattr(torch, latents_dtype), name
            assert torch.equal(tensor, theirs.to_tensors()[name]), name


def test_latents_are_kept_apart_from_the_window_they_were_cut_from(
    transformer: LTXVideoTransformer3DModel,
) -> None:
    """Else a chunk held in memory would hold its whole window, and safetensors would refuse shared memory."""
    made = render(transformer, chunks_of(21, 65, 24), conditioning(), SETTINGS)
    for tensor in (made[1].final, made[1].tail):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
        assert tensor.is_contiguous()


def test_the_statistics_of_the_first_chunk_are_carried_on(transformer: LTXVideoTransformer3DModel) -> None:
    made = render(transformer, chunks_of(21, 65, 24), conditioning(), SETTINGS)
    for before, after in pairwise(made):
        assert torch.equal(before.mean, after.mean)
        assert torch.equal(before.std, after.std)


def test_the_noise_is_that_of_the_seed(transformer: LTXVideoTransformer3DModel) -> None:
    (chunk,) = chunks_of(4, 65, 24)
    noise = random(chunk.seed, 1, CHANNELS, 4, ROWS, COLUMNS)
    drawn, given, other = (
        denoise_chunk(transformer, SCHEDULER, conditioning(), c, None, SETTINGS, noise=n).final
        for c, n in ((chunk, None), (chunk, noise), (replace(chunk, seed=chunk.seed + 1), None))
    )
    assert torch.equal(drawn, given)
    assert not torch.allclose(drawn, other, atol=0.1)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_an_image_holds_the_first_latent_as_firmly_as_asked(
    transformer: LTXVideoTransformer3DModel, strength: float
) -> None:
    (chunk,) = chunks_of(4, 65, 24)
    settings = replace(SETTINGS, image_strength=strength)
    with_image = denoise_chunk(transformer, SCHEDULER, conditioning(image()), chunk, None, settings).final
    without = denoise_chunk(transformer, SCHEDULER, conditioning(), chunk, None, settings).final
    if strength == 1.0:
        assert torch.equal(with_image[:, :, :1], image())
    else:
        assert torch.equal(with_image, without)


def test_each_window_hears_its_own_prompt(transformer: LTXVideoTransformer3DModel) -> None:
    (chunk,) = chunks_of(4, 65, 24)
    one, other = (
        denoise_chunk(transformer, SCHEDULER, conditioning(), c, None, SETTINGS).final
        for c in (chunk, replace(chunk, prompt=1))
    )
    assert not torch.allclose(one, other, atol=1e-3)


def test_every_step_is_told(transformer: LTXVideoTransformer3DModel) -> None:
    (chunk,) = chunks_of(2, 65, 24)
    told: list[tuple[int, int]] = []
    denoise_chunk(
        transformer, SCHEDULER, conditioning(), chunk, None, SETTINGS, on_step=lambda *step: told.append(step)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_model_in_bfloat16_keeps_its_latents_in_float32(transformer: LTXVideoTransformer3DModel) -> None:
    narrow = LTXVideoTransformer3DModel.from_config(transformer.config).to(torch.bfloat16)
    narrow.load_state_dict(transformer.state_dict())
    chunks = chunks_of(21, 65, 24)
    exact = render(transformer, chunks, conditioning(image()), SETTINGS)
    rounded = render(narrow, chunks, conditioning(image()), SETTINGS)
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.final.dtype == torch.float32
        assert (ours.final - theirs.final).abs().mean() < 0.02


def test_the_smallest_shot_has_finite_statistics(transformer: LTXVideoTransformer3DModel) -> None:
    shot = replace(conditioning(), rows=1, columns=1)
    (chunk,) = chunks_of(1, 65, 24)
    made = denoise_chunk(transformer, SCHEDULER, shot, chunk, None, SETTINGS)
    assert all(torch.isfinite(tensor).all() for tensor in made.to_tensors().values())


def test_latents_that_are_not_numbers_are_an_error_that_a_retry_may_mend(
    transformer: LTXVideoTransformer3DModel,
) -> None:
    (chunk,) = chunks_of(2, 65, 24)
    noise = random(0, 1, CHANNELS, 2, ROWS, COLUMNS)
    noise[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(BadResultError, match="chunk 0, got NaN or Inf"):
        denoise_chunk(transformer, SCHEDULER, conditioning(), chunk, None, SETTINGS, noise=noise)


def test_a_chunk_that_does_not_follow_is_refused(transformer: LTXVideoTransformer3DModel) -> None:
    chunks = chunks_of(21, 65, 24)
    first = denoise_chunk(transformer, SCHEDULER, conditioning(), chunks[0], None, SETTINGS)
    with pytest.raises(LtxRayError, match="chunk 1 to follow a tail of 3 latents, got no chunk"):
        denoise_chunk(transformer, SCHEDULER, conditioning(), chunks[1], None, SETTINGS)
    short = replace(first, tail=first.tail[:, :, 1:])
    with pytest.raises(LtxRayError, match="chunk 1 to follow a tail of 3 latents, got one of 2"):
        denoise_chunk(transformer, SCHEDULER, conditioning(), chunks[1], short, SETTINGS)
    with pytest.raises(LtxRayError, match="chunk 0 to follow a tail of 0 latents, got one of 3"):
        denoise_chunk(transformer, SCHEDULER, conditioning(), chunks[0], first, SETTINGS)


def test_noise_of_another_shape_is_refused(transformer: LTXVideoTransformer3DModel) -> None:
    (chunk,) = chunks_of(4, 65, 24)
    with pytest.raises(LtxRayError, match=r"expected float32 noise of \(1, 8, 4, 2, 3\)"):
        denoise_chunk(
            transformer,
            SCHEDULER,
            conditioning(),
            chunk,
            None,
            SETTINGS,
            noise=torch.zeros(1, CHANNELS, 1, 2, 3),
        )
