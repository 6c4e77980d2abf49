"""Chunks: balanced windows that cover a shot, and what each makes final."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planned import LTX, chunkings, shot_of

from ltx_ray.planning.chunks import ChunkSettings, chunk_seed, plan_chunks, prompt_at, window_lengths
from ltx_ray.planning.geometry import first_frame, latents_of
from ltx_ray.types import Chunk, PromptSpan

windows = st.integers(2, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1)))


def planned(num_frames: int, size: int, overlap: int) -> tuple[Chunk, ...]:
    """The chunks of a shot of so many frames."""
    settings = ChunkSettings(chunk_size=size, overlap_frames=overlap)
    return plan_chunks(shot_of(num_frames), latents_of(num_frames, LTX), settings, LTX)


@given(latents=st.integers(1, 3000), window=windows)
def test_the_fewest_windows_as_equal_as_can_be(latents: int, window: tuple[int, int]) -> None:
    size, overlap = window
    lengths = window_lengths(latents, size, overlap)
    assert sum(lengths) - overlap * (len(lengths) - 1) == latents
    assert max(lengths) <= size or len(lengths) == 1
    assert max(lengths) - min(lengths) <= 1
    if len(lengths) > 1:
        fewer = len(lengths) - 1
        assert fewer * size - (fewer - 1) * overlap < latents, "fewer windows would have done"
        assert min(lengths) > overlap, "a window adds nothing"


def test_the_windows_of_360_frames_have_no_sliver() -> None:
    assert window_lengths(46, 16, 3) == [14, 14, 14, 13]
    chunks = planned(360, 121, 24)
    assert [(c.start, c.stop) for c in chunks] == [(0, 14), (11, 25), (22, 36), (33, 46)]
    assert [(c.final_start, c.final_stop) for c in chunks] == [(0, 12), (12, 23), (23, 34), (34, 46)]


@given(num_frames=st.integers(1, 5000), chunking=chunkings)
def test_final_latents_follow_one_another_without_gap_or_overlap(
    num_frames: int, chunking: tuple[int, int]
) -> None:
    chunks = planned(num_frames, *chunking)
    assert chunks[0].final_start == 0
    assert chunks[-1].final_stop == latents_of(num_frames, LTX)
    assert all(a.final_stop == b.final_start for a, b in pairwise(chunks))
    assert all(c.final_start < c.final_stop for c in chunks)
    assert [c.index for c in chunks] == list(range(len(chunks)))


@given(num_frames=st.integers(1, 5000), chunking=chunkings)
def test_neighbours_agree_on_what_they_share(num_frames: int, chunking: tuple[int, int]) -> None:
    size, overlap = chunking
    chunks = planned(num_frames, size, overlap)
    assert (chunks[0].overlap, chunks[0].tail) == (0, 0)
    assert (chunks[-1].next_overlap, chunks[-1].next_tail) == (0, 0)
    for a, b in pairwise(chunks):
        assert a.stop - b.start == a.next_overlap == b.overlap == max(overlap // 8, 1)
        assert a.next_tail == b.tail == overlap // 8
        assert b.overlap < min(a.length, b.length)


@given(num_frames=st.integers(1, 5000), chunking=chunkings)
def test_no_chunk_is_longer_than_chunk_size(num_frames: int, chunking: tuple[int, int]) -> None:
    size, overlap = chunking
    for chunk in planned(num_frames, size, overlap):
        # A window cannot be shorter than what it shares and one latent.
        assert chunk.length <= max(latents_of(size, LTX), overlap // 8 + 1, 2)


@given(num_frames=st.integers(1, 5000), chunking=chunkings)
def test_seconds_are_those_of_the_windows_frames(num_frames: int, chunking: tuple[int, int]) -> None:
    for chunk in planned(num_frames, *chunking):
        assert math.isclose(chunk.start_s * 24, first_frame(chunk.start, LTX), abs_tol=1e-6)
        assert math.isclose(chunk.stop_s * 24, first_frame(chunk.stop, LTX), abs_tol=1e-6)


@given(seed=st.integers(0, 2**53 - 1), index=st.integers(1, 1000))
def test_seeds_stay_exact_in_json_and_float64(seed: int, index: int) -> None:
    assert chunk_seed(seed, 0) == seed
    assert 0 <= chunk_seed(seed, index) < 2**53
    assert int(float(chunk_seed(seed, index))) == chunk_seed(seed, index)


def test_neighbouring_seeds_share_no_chunks_noise() -> None:
    seeds = Counter(chunk_seed(seed, index) for seed in range(100) for index in range(100))
    assert seeds.most_common(1)[0][1] == 1


def test_seeds_are_the_same_in_every_release() -> None:
    assert chunk_seed(7, 1) == 7760890928415636


@pytest.mark.parametrize(
    ("second", "prompt"), [(0.0, 0), (4.9, 0), (5.0, 1), (9.999, 1), (10.0, 2), (1000.0, 2)]
)
def test_a_prompt_holds_from_its_second_on(second: float, prompt: int) -> None:
    spans = (PromptSpan(0.0, "a"), PromptSpan(5.0, "b"), PromptSpan(10.0, "c"))
    assert prompt_at(shot_of(prompts=spans), second) == prompt


def test_a_chunk_follows_the_prompt_at_the_middle_of_its_new_frames() -> None:
    # New frames end at 105, 193, 281 and 361, so their middles are 2.2, 6.2, 9.9 and 13.4 s.
    spans = (PromptSpan(0.0, "a"), PromptSpan(6.3, "b"), PromptSpan(9.8, "c"), PromptSpan(13.6, "d"))
    settings = ChunkSettings(chunk_size=121, overlap_frames=24)
    chunks = plan_chunks(shot_of(361, prompts=spans), 46, settings, LTX)
    assert [chunk.prompt for chunk in chunks] == [0, 0, 2, 2]
