"""Chunks: the balanced, overlapping windows in which a long shot is denoised.

Windows share ``overlap`` latents. The first latent of a later window is dropped (a causal VAE gives it one
frame only), so neighbouring windows overlap by one latent even where no overlap is asked for.
"""

import hashlib
from dataclasses import dataclass

from ltx_ray.planning.geometry import Ratios, ceil_div, first_frame, latents_of
from ltx_ray.types import Chunk, Shot

_SEED_BITS = 53  # seeds stay exact in JSON, CSV and float64


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSettings:
    """Frames per chunk, and frames that neighbouring chunks share (``SamplingConfig``)."""

    chunk_size: int
    overlap_frames: int


def window_lengths(latents: int, size: int, overlap: int) -> list[int]:
    """Lengths of the fewest windows of at most ``size`` latents that cover ``latents``, as equal as can be.

    46 latents in windows of 16 with an overlap of 3 give 14, 14, 14, 13, where a greedy cut gives
    16, 16, 16, 7. ``overlap`` must be at least 1 and less than ``size``.
    """
    count = 1 if latents <= size else ceil_div(latents - overlap, size - overlap)
    base, more = divmod(latents + (count - 1) * overlap, count)
    return [base + (index < more) for index in range(count)]


def plan_chunks(shot: Shot, latents: int, settings: ChunkSettings, ratios: Ratios) -> tuple[Chunk, ...]:
    """The chunks of a shot of ``latents`` latents, in order."""
    tail = settings.overlap_frames // ratios.time
    overlap = max(tail, 1)
    lengths = window_lengths(latents, max(latents_of(settings.chunk_size, ratios), overlap + 1), overlap)
    chunks = []
    start = 0
    for index, length in enumerate(lengths):
        first, last = index == 0, index == len(lengths) - 1
        new = first_frame(start if first else start + overlap, ratios)
        stop = first_frame(start + length, ratios)
        chunks.append(
            Chunk(
                index=index,
                start=start,
                length=length,
                overlap=0 if first else overlap,
                tail=0 if first else tail,
                next_overlap=0 if last else overlap,
                next_tail=0 if last else tail,
                seed=chunk_seed(shot.seed, index),
                prompt=prompt_at(shot, (new + stop) / 2 / shot.fps),
                start_s=first_frame(start, ratios) / shot.fps,
                stop_s=stop / shot.fps,
            )
        )
        start += length - overlap
    return tuple(chunks)


def final_frames(chunk: Chunk, num_frames: int, ratios: Ratios) -> tuple[int, int]:
    """The written frames [start, stop) of a shot of ``num_frames`` that ``chunk`` made final."""
    return first_frame(chunk.final_start, ratios), min(first_frame(chunk.final_stop, ratios), num_frames)


def chunk_seed(seed: int, index: int) -> int:
    """The seed of a chunk's noise: the shot's own for chunk 0, else one that no neighbouring seed shares."""
    if index == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/chunk/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


def prompt_at(shot: Shot, second: float) -> int:
    """Index of the prompt that holds at ``second`` of the video."""
    return max(i for i, span in enumerate(shot.prompts) if i == 0 or span.at_s <= second)
