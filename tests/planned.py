"""Shots and settings for tests of planning."""

from typing import Any

from hypothesis import strategies as st

from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.geometry import Ratios
from ltx_ray.planning.plan import PlanSettings
from ltx_ray.planning.tiles import TileSettings
from ltx_ray.types import PromptSpan, Shot

LTX = Ratios()


def shot_of(num_frames: int = 121, width: int = 768, height: int = 512, **changes: Any) -> Shot:
    """A shot of that length and size."""
    values: dict[str, Any] = {
        "id": "shot",
        "prompts": (PromptSpan(0.0, "a tide"),),
        "negative_prompt": "",
        "num_frames": num_frames,
        "fps": 24.0,
        "width": width,
        "height": height,
        "seed": 7,
        "num_inference_steps": None,
        "guidance_scale": None,
        "audio_guidance_scale": None,
        "coherence_guidance": None,
        "chunk_size": None,
        "overlap_frames": None,
        "audio": None,
        "audio_start_s": 0.0,
        "image": None,
        "priority": 0,
        "tags": (),
        "row": 1,
        "input": "{}",
        "fingerprint": "f",
    }
    return Shot(**(values | changes))


def settings_of(
    chunk_size: int = 121,
    overlap_frames: int = 24,
    guidance_scale: float = 3.0,
    audio_guidance_scale: float = 1.0,
    hears: bool = False,
    **tiles: Any,
) -> PlanSettings:
    """The settings of a run, small in what is not given."""
    values: dict[str, Any] = {
        "halo": 4,
        "temporal_halo": 2,
        "ramp": 64,
        "ramp_frames": 8,
        "tile_size": None,
        "slab_frames": 128,
        "tile_bytes": 2**31,
        "bytes_per_cell": 200_000,
    }
    return PlanSettings(
        chunks=ChunkSettings(chunk_size=chunk_size, overlap_frames=overlap_frames),
        tiles=TileSettings(**(values | tiles)),
        ratios=LTX,
        num_inference_steps=40,
        guidance_scale=guidance_scale,
        audio_guidance_scale=audio_guidance_scale,
        hears=hears,
    )


def _with_overlap(size: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.just(size), st.integers(0, max(size - 9, 0)))


# (chunk_size, overlap_frames): chunks that add at least 9 frames, as the config asks for.
chunkings = st.integers(9, 300).flatmap(_with_overlap)
