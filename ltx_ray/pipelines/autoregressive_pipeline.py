"""Long videos in one process: chunks that each go on from the one before, as many as the length asks for.

    create_autoregressive_pipeline(pipeline).generate_long_video("a tide", total_frames=360)

The chunks, the seams, the tiles and the rounding are those of ``ltx-ray render``: the same seed and settings
give the same latents and the same frames.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from diffusers import LTXPipeline
from diffusers.utils import BaseOutput

from ltx_ray.config import SamplingConfig
from ltx_ray.decoding.blend import Pixels
from ltx_ray.errors import UserError
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.models.presets import Preset, preset_of
from ltx_ray.models.transformers.audio_transformer import (
    NO_AUDIO_LAYERS,
    AudioLTXVideoTransformer3DModel,
    uncompiled,
)
from ltx_ray.pipelines.arguments import checked_shape
from ltx_ray.pipelines.chunk_folder import ChunkFolder
from ltx_ray.pipelines.fingerprint import describe_call
from ltx_ray.pipelines.long_video import LongVideo, VideoRequest, first_picture
from ltx_ray.pipelines.options import LongVideoOptions, as_output
from ltx_ray.pipelines.tiling import pipeline_tiles, ratios_of
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.geometry import frame_for
from ltx_ray.sampling.carriers import ChunkLatents
from ltx_ray.sampling.coherence import TemporalCoherenceLoss
from ltx_ray.types import Chunk

__all__ = [
    "AutoregressiveLTXVideoPipeline",
    "AutoregressiveVideoOutput",
    "TemporalCoherenceLoss",
    "create_autoregressive_pipeline",
]

_Made = TypeVar("_Made")


@dataclass
class AutoregressiveVideoOutput(BaseOutput):  # type: ignore[misc]
    """What ``generate_long_video`` returns. ``frames`` and ``latents`` are None while streaming."""

    frames: Any  # by output_type, one video each: lists of PIL images, float arrays or tensors
    latents: torch.Tensor | None  # [videos, C, T, rows, columns], final and normalised, on the CPU
    chunk_boundaries: list[tuple[int, int]]  # frames [start, stop) that each chunk made final, in order
    video_paths: list[str] | None = None  # while streaming: the finished files
    seed: int | None = None  # of the first video


def create_autoregressive_pipeline(
    base_pipeline: LTXPipeline, chunk_size: int = 121, overlap_frames: int = 24
) -> "AutoregressiveLTXVideoPipeline":
    """A pipeline for long videos from ``base_pipeline``, whose parts it shares.

    ``chunk_size``: frames that are denoised together at most; ``overlap_frames``: frames that neighbouring
    chunks share. Raises UserError for something else than an ``LTXPipeline``, and for chunks that would
    not leave at least 9 new frames each.
    """
    return AutoregressiveLTXVideoPipeline(base_pipeline, chunk_size, overlap_frames)


class AutoregressiveLTXVideoPipeline:
    """Generates in overlapping chunks, each conditioned on the end of the one before."""

    def __init__(self, base_pipeline: LTXPipeline, chunk_size: int = 121, overlap_frames: int = 24) -> None:
        """As ``create_autoregressive_pipeline``."""
        if not isinstance(base_pipeline, LTXPipeline):
            raise UserError(
                f"the base pipeline must be an LTXVideoPipeline or an LTXPipeline of diffusers, "
                f"got {type(base_pipeline).__name__}"
            )
        checked = SamplingConfig.checked(chunk_size=chunk_size, overlap_frames=overlap_frames)
        self.base_pipeline = base_pipeline
        self.chunks = ChunkSettings(chunk_size=checked.chunk_size, overlap_frames=checked.overlap_frames)
        self._folder: str | None = None

    def enable_streaming(self, chunk_save_path: str) -> None:
        """Keep what is finished in the folder (path or fsspec URL) ``chunk_save_path``, not in memory.

        Chunks, decoded segments and the finished MP4 files go there; memory does not grow with the length
        of the video, and the same call after a stop goes on with the first chunk that is not there.
        """
        self._folder = str(chunk_save_path)

    def disable_streaming(self) -> None:
        """Keep everything in memory again."""
        self._folder = None

    @torch.no_grad()
    def generate_long_video(
        self,
        prompt: str | list[str],
        total_frames: int,
        height: int = 512,
        width: int = 768,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        **kwargs: Any,
    ) -> AutoregressiveVideoOutput:
        """Make one long video, or several, of ``total_frames`` frames each.

        ``prompt``: one text; or a list with one text for each video (``prompt_per="video"``, as diffusers has
        it), or for each chunk of a single video (``prompt_per="chunk"``). ``height`` and ``width``: any even
        numbers. ``kwargs`` are the fields of ``LongVideoOptions``: ``audio_latents``,
        ``audio_guidance_scale``, ``seed``, ``generator``, ``image``, ``frame_rate`` and more.

        ``callback_on_step_end(pipeline, step, timestep, {"chunk_index": .., "num_chunks": .., "video": ..})``
        is called after each step, ``callback_on_chunk_end(pipeline, chunk_index, {"latents": ..,
        "boundary": .., "video": ..})`` after each chunk. Raises UserError for arguments that do not fit.
        """
        options = LongVideoOptions.of(kwargs).filled(self._preset())
        shape = checked_shape(total_frames, width, height, num_inference_steps, guidance_scale)
        tiles = pipeline_tiles(self.base_pipeline)
        requests = self._requests(prompt, options, shape)
        folder = ChunkFolder(self._folder) if self._folder is not None else None
        if folder is not None:
            call = describe_call(requests, self.chunks, tiles, self.base_pipeline)
            seed = folder.claim(call, requests[0].seed, options.seed_given)
            requests = [replace(request, seed=seed + index) for index, request in enumerate(requests)]
        videos = [LongVideo(self.base_pipeline, request, self.chunks, tiles) for request in requests]
        output = AutoregressiveVideoOutput(
            frames=None, latents=None, chunk_boundaries=videos[0].boundaries, seed=requests[0].seed
        )
        if folder is not None:
            output["video_paths"] = self._each(videos, partial(self._streamed, options, folder))
            return output
        made = self._each(videos, partial(self._held, options))
        output["latents"] = torch.cat([latents for latents, _ in made])
        frames = [frames for _, frames in made]
        latent = options.output_type == "latent"
        output["frames"] = output["latents"] if latent else as_output(frames, options.output_type)
        return output

    def _preset(self) -> Preset:
        """The renderer's, for the models of the pipeline."""
        pipeline = self.base_pipeline
        name = pipeline.config.get("_name_or_path") or ""
        return preset_of(pipeline.transformer.config, pipeline.vae.config, str(name))

    def _each(self, videos: Sequence[LongVideo], make: Callable[[int, LongVideo], _Made]) -> list[_Made]:
        """What ``make`` makes of each video. Offloaded models leave the device after it."""
        made = []
        for index, video in enumerate(videos):
            try:
                made.append(make(index, video))
            finally:
                self.base_pipeline.maybe_free_model_hooks()
        return made

    def _requests(
        self, prompt: str | list[str], options: LongVideoOptions, shape: dict[str, Any]
    ) -> list[VideoRequest]:
        texts = [prompt] if isinstance(prompt, str) else list(prompt or ())
        if not texts or not all(isinstance(text, str) for text in texts):
            raise UserError(f"prompt must be a text or a list of at least one text, got {prompt!r}")
        each = [tuple(texts)] if options.prompt_per == "chunk" else [(text,) for text in texts]
        tracks = self._tracks(options, len(each))
        seed = options.first_seed()
        frame = frame_for(shape["num_frames"], shape["width"], shape["height"], ratios_of(self.base_pipeline))
        given = {"options": options, "image": first_picture(options.image, frame), **shape}
        return [
            VideoRequest(prompts=texts, seed=seed + index, audio=track, **given)
            for index, (texts, track) in enumerate(zip(each, tracks, strict=True))
        ]

    def _tracks(self, options: LongVideoOptions, videos: int) -> Sequence[AudioTrack | None]:
        """The sound of each video."""
        if options.audio_latents is None:
            return [None] * videos
        if not isinstance(uncompiled(self.base_pipeline.transformer), AudioLTXVideoTransformer3DModel):
            raise UserError(NO_AUDIO_LAYERS)
        track = AudioTrack.of(options.audio_latents)
        given = track.tokens.shape[0]
        if given not in (1, videos):
            raise UserError(
                f"audio_latents must be of one sound, or one for each of {videos} videos, got {given}"
            )
        return [replace(track, tokens=track.tokens[index % given][None].cpu()) for index in range(videos)]

    def _held(
        self, options: LongVideoOptions, index: int, video: LongVideo
    ) -> tuple[torch.Tensor, list[Pixels]]:
        """All latents [1, C, T, rows, columns] and all frames of one video."""
        latents, frames = [], []
        stream = video.frames()
        for _, made, _ in self._chunks(index, video, options, load=lambda chunk: None):
            latents.append(made.final)
            if options.output_type != "latent":
                frames += [pixels for _, slab in stream.push(made.final) for pixels in slab]
        return torch.cat(latents, dim=2), frames

    def _streamed(self, options: LongVideoOptions, folder: ChunkFolder, index: int, video: LongVideo) -> str:
        """One video into ``folder``; returns where its file is."""
        stream = video.frames(folder.segments(index, video.plan))
        for chunk, made, is_new in self._chunks(index, video, options, load=partial(folder.load, index)):
            if is_new:
                folder.save(index, chunk.index, made)
            for slab, frames in stream.push(made.final):
                folder.write_segment(index, video.plan, slab, frames)
        return folder.join(index, video.plan)

    def _chunks(
        self,
        index: int,
        video: LongVideo,
        options: LongVideoOptions,
        load: Callable[[int], ChunkLatents | None],
    ) -> Iterator[tuple[Chunk, ChunkLatents, bool]]:
        """The chunks of a video and whether they were made now, with its progress bar and its callbacks."""
        count = len(video.plan.chunks)
        with self.base_pipeline.progress_bar(total=count * video.num_steps) as bar:

            def told(chunk: Chunk, step: int, timestep: float) -> None:
                bar.update()
                if options.callback_on_step_end is not None:
                    where = {"chunk_index": chunk.index, "num_chunks": count, "video": index}
                    options.callback_on_step_end(self, step, timestep, where)

            for chunk, made, is_new in video.chunks(load, told):
                if not is_new:
                    bar.update(video.num_steps)
                yield chunk, made, is_new
                if options.callback_on_chunk_end is not None:
                    boundary = video.boundaries[chunk.index]
                    what = {"latents": made.final, "boundary": boundary, "video": index}
                    options.callback_on_chunk_end(self, chunk.index, what)
