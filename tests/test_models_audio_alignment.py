"""Each latent hears the tokens of its own time: the same ones in whichever chunk and however often it is."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import LTX, chunkings, shot_of

from ltx_ray.errors import UserError
from ltx_ray.models.audio.alignment import (
    MARGIN,
    AudioContext,
    AudioTrack,
    audio_context,
    latent_span,
    window_size,
)
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.planning.chunks import ChunkSettings, plan_chunks
from ltx_ray.planning.geometry import latents_of
from ltx_ray.sampling.audio import chunk_audio
from ltx_ray.types import Chunk

RATE = 25.0


def numbered(count: int, **clock: float) -> AudioTrack:
    """A track whose tokens hold their own number."""
    return AudioTrack(tokens=torch.arange(count, dtype=torch.float64)[None, :, None], **clock)


def heard(context: AudioContext) -> torch.Tensor:
    """Which tokens of a numbered track each latent hears, [T, K]."""
    return context.tokens[0, :, 0][context.windows]


def whole(track: AudioTrack, latents: int, fps: float) -> AudioContext:
    spans = [latent_span(latent, fps, LTX) for latent in range(latents)]
    return audio_context(track, spans, window_size(fps, LTX, track.tokens_per_second))


def chunk_of(start: int, length: int) -> Chunk:
    return Chunk(
        index=1,
        start=start,
        length=length,
        overlap=0,
        tail=0,
        next_overlap=0,
        next_tail=0,
        seed=0,
        prompt=0,
        start_s=0.0,
        stop_s=1.0,
    )


def test_latent_0_is_one_frame_and_the_others_are_eight() -> None:
    assert latent_span(0, 24.0, LTX) == (0, Fraction(1, 24))
    assert latent_span(1, 24.0, LTX) == (Fraction(1, 24), Fraction(9, 24))
    assert latent_span(5, 30.0, LTX) == (Fraction(33, 30), Fraction(41, 30))


@pytest.mark.parametrize("fps", [10.0, 12.5, 24.0, 50.0, 60.0])
def test_the_same_sound_that_begins_a_second_earlier_is_heard_the_same(fps: float) -> None:
    """At 50 frames a second many latents lie in the middle between two windows: rounding must not choose."""
    late, early = (whole(numbered(10_000, start_s=start_s), 400, fps) for start_s in (0.0, -1.0))
    first = 20 if fps > 20 else 4  # behind the beginning, where the late one has no tokens before it
    assert torch.equal(heard(late)[first:] + RATE, heard(early)[first:])
    assert torch.equal(late.offsets[first:], early.offsets[first:])


@pytest.mark.parametrize(("fps", "size"), [(24.0, 17), (25.0, 16), (30.0, 15), (60.0, 12), (23.976, 17)])
def test_a_window_is_what_a_latent_covers_and_a_margin_at_both_ends(fps: float, size: int) -> None:
    assert window_size(fps, LTX, RATE) == size == math.ceil(8 * RATE / fps) + 2 * MARGIN


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 60.0, 23.976])
@pytest.mark.parametrize("start_s", [0.0, -1.0, -0.013])
def test_windows_cover_their_latents_and_the_margin_evenly(fps: float, start_s: float) -> None:
    context = whole(numbered(5000, start_s=start_s), 60, fps)
    assert context.windows.shape == context.offsets.shape == (60, window_size(fps, LTX, RATE))
    inside = 0
    for latent, tokens in enumerate(heard(context).tolist()):
        start, stop = latent_span(latent, fps, LTX)
        if tokens[0] == tokens[1]:
            continue  # it holds the first token: the edge has a test of its own
        inside += 1
        assert tokens == list(range(int(tokens[0]), int(tokens[0]) + len(tokens)))
        before = start - (tokens[0] / RATE + start_s)
        after = (tokens[-1] + 1) / RATE + start_s - stop
        for margin in (before, after):
            assert margin >= (MARGIN - 0.5) / RATE - 1e-9
        if latent:
            assert abs(before - after) <= 1 / RATE + 1e-9, "no side hears more than a token further"
    assert inside >= 56


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 60.0])
@pytest.mark.parametrize("start_s", [0.0, -1.0, 0.5])
def test_offsets_are_seconds_from_the_latents_middle_to_the_tokens(fps: float, start_s: float) -> None:
    track = numbered(500, start_s=start_s)
    context = whole(track, 30, fps)
    times = AudioEncoder().token_times(500) + start_s
    middles = torch.tensor([sum(latent_span(j, fps, LTX)) / 2 for j in range(30)], dtype=torch.float64)
    wanted = times[heard(context).long()] - middles[:, None]
    held = heard(context).diff(dim=1) == 0
    is_inside = ~torch.nn.functional.pad(held, (1, 0)) & ~torch.nn.functional.pad(held, (0, 1))
    assert is_inside.sum() > 300
    assert torch.allclose(context.offsets.double()[is_inside], wanted[is_inside], atol=1e-6)
    assert context.offsets.abs().max() <= (8 / fps) / 2 + (MARGIN + 1) / RATE


def test_beyond_the_sound_the_first_and_the_last_token_are_held_and_time_goes_on() -> None:
    context = whole(numbered(10), 4, 24.0)
    tokens = heard(context)
    assert tokens[0].tolist() == [0] * 9 + list(range(1, 9))
    assert tokens[3].tolist() == [9] * 17
    steps = context.offsets.diff(dim=1)
    assert torch.allclose(steps, torch.full_like(steps, 1 / RATE), atol=1e-6), "also where tokens are held"


def test_a_track_that_starts_before_the_video_has_no_edge_at_its_beginning() -> None:
    early = heard(whole(numbered(500, start_s=-1.0), 10, 24.0))
    assert (early.diff(dim=1) == 1).all()
    # A second is 25 tokens: the same times as in a track that starts with the video.
    usual = heard(whole(numbered(500), 10, 24.0))
    assert torch.equal(early[2:] - 25, usual[2:])


def test_a_context_holds_no_token_that_nobody_hears() -> None:
    context = chunk_audio(numbered(10_000), chunk_of(100, 5), 0, 0, 24.0, LTX)
    count = context.tokens.shape[1]
    assert count < 70
    assert context.tokens.untyped_storage().nbytes() == context.tokens.nbytes
    assert set(context.windows.flatten().tolist()) == set(range(count))


@settings(deadline=None)
@given(
    num_frames=st.integers(1, 1500),
    chunking=chunkings,
    fps=st.sampled_from([24.0, 25.0, 30.0, 60.0, 23.976, 29.97]) | st.floats(1, 240),
    start_s=st.sampled_from([0.0, -1.0]) | st.floats(-3, 3),
)
def test_a_latent_hears_the_same_in_whichever_chunk_it_is(
    num_frames: int, chunking: tuple[int, int], fps: float, start_s: float
) -> None:
    latents = latents_of(num_frames, LTX)
    track = numbered(600, start_s=start_s)
    shot = whole(track, latents, fps)
    size, overlap = chunking
    chunks = plan_chunks(
        shot_of(num_frames), latents, ChunkSettings(chunk_size=size, overlap_frames=overlap), LTX
    )
    for chunk in chunks:
        context = chunk_audio(track, chunk, 0, 0, fps, LTX)
        mine = slice(chunk.start, chunk.stop)
        assert torch.equal(heard(context), heard(shot)[mine])
        assert torch.equal(context.offsets, shot.offsets[mine])


@pytest.mark.parametrize("negative", [0, 1])
def test_tail_and_image_hear_the_sound_of_the_pictures_they_are(negative: int) -> None:
    track = numbered(500, start_s=-0.5)
    shot = whole(track, 30, 24.0)
    context = chunk_audio(track, chunk_of(14, 9), 3, negative, 24.0, LTX)
    assert len(context.windows) == 9 + 3 + negative
    for rows, latents in ((slice(0, 9), slice(14, 23)), (slice(9, 12), slice(14, 17))):
        assert torch.equal(heard(context)[rows], heard(shot)[latents])
        assert torch.equal(context.offsets[rows], shot.offsets[latents])
    if negative:
        assert torch.equal(heard(context)[-1], heard(shot)[0])
        assert torch.equal(context.offsets[-1], shot.offsets[0])


def test_times_stay_exact_where_tokens_are_cast() -> None:
    context = whole(AudioTrack(tokens=torch.randn(1, 90, 4)), 5, 24.0)
    moved = context.to("cpu", torch.bfloat16)
    assert moved.tokens.dtype == torch.bfloat16
    assert torch.equal(moved.windows, context.windows)
    assert torch.equal(moved.offsets, context.offsets)
    assert moved.offsets.dtype == torch.float32


def test_latents_alone_are_a_track_from_the_videos_beginning() -> None:
    tokens = torch.zeros(1, 4, 2)
    track = AudioTrack.of(tokens)
    assert track.tokens is tokens
    assert (track.start_s, track.tokens_per_second) == (0.0, 25.0)
    assert AudioTrack.of(track) is track


@pytest.mark.parametrize(
    ("tokens", "clock", "words"),
    [
        (torch.zeros(4, 2), {}, r"\[batch, tokens, channels\].*got \(4, 2\)"),
        (torch.zeros(1, 0, 2), {}, r"got \(1, 0, 2\)"),
        ([[0.0]], {}, "as AudioEncoder makes them, got list"),
        (torch.zeros(1, 4, 2), {"start_s": float("nan")}, "got nan s"),
        (torch.zeros(1, 4, 2), {"tokens_per_second": 0.0}, "rate above 0.*got 0.0 s and 0.0"),
    ],
)
def test_an_impossible_track_is_told(tokens: torch.Tensor, clock: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        AudioTrack(tokens=tokens, **clock)
