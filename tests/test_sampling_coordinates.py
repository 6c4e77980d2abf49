"""Tokens stand where diffusers' pipelines put them, to the last bit."""

import torch
from diffusers.models.transformers.transformer_ltx import LTXVideoRotaryPosEmbed
from diffusers.pipelines.ltx.pipeline_ltx_i2v_long_multi_prompt import build_video_coords_for_window
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_ray.planning.geometry import Ratios, first_frame
from ltx_ray.sampling.coordinates import window_coordinates

RATIOS = Ratios(8, 32)
SIZES = st.integers(1, 5)
RATES = st.sampled_from([12.0, 23.976, 24.0, 25.0, 30.0, 60.0])


def seconds(coordinates: torch.Tensor, cells: int) -> list[float]:
    """Time of each latent."""
    return coordinates[0, 0].view(-1, cells)[:, 0].tolist()


@given(latents=st.integers(1, 40), rows=SIZES, columns=SIZES, fps=RATES)
@settings(deadline=None, max_examples=50)
def test_uniform_is_what_the_transformer_makes_for_ltx_pipeline(
    latents: int, rows: int, columns: int, fps: float
) -> None:
    rope = LTXVideoRotaryPosEmbed(dim=12)
    theirs = rope._prepare_video_coords(1, latents, rows, columns, (8 / fps, 32, 32), torch.device("cpu"))
    ours = window_coordinates(latents, rows, columns, 0, 0, fps, "uniform", RATIOS)
    scaled = torch.stack([ours[:, 0] / 20, ours[:, 1] / 2048, ours[:, 2] / 2048], dim=-1)
    assert torch.equal(scaled, theirs)


@given(
    latents=st.integers(2, 20),
    tail=st.integers(0, 3),
    negative=st.integers(0, 1),
    rows=SIZES,
    columns=SIZES,
    fps=RATES,
)
@settings(deadline=None, max_examples=50)
def test_causal_is_what_the_long_pipeline_makes(
    latents: int, tail: int, negative: int, rows: int, columns: int, fps: float
) -> None:
    window = torch.zeros(1, 1, latents + tail + negative, rows, columns)
    theirs = build_video_coords_for_window(window, tail, 0, negative, (8, 32, 32), fps)
    ours = window_coordinates(latents, rows, columns, tail, negative, fps, "causal", RATIOS)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)


def test_causal_times_are_the_first_frames_that_latents_cover() -> None:
    times = seconds(window_coordinates(4, 2, 3, 2, 1, 1.0, "causal", RATIOS), cells=6)
    assert times == [0, 1, 9, 17, 0, 1, -8]
    assert times[:4] == [first_frame(j, RATIOS) for j in range(4)]


def test_uniform_times_are_even_and_appended_latents_stand_at_the_head() -> None:
    assert seconds(window_coordinates(4, 2, 3, 2, 1, 2.0, "uniform", RATIOS), cells=6) == [
        *(0, 4, 8, 12),
        *(0, 4),
        -4,
    ]


def test_columns_run_fastest_in_pixels() -> None:
    coordinates = window_coordinates(1, 2, 3, 0, 0, 24.0, "causal", Ratios(8, 16))
    assert coordinates[0, 1].tolist() == [0, 0, 0, 16, 16, 16]
    assert coordinates[0, 2].tolist() == [0, 16, 32, 0, 16, 32]
