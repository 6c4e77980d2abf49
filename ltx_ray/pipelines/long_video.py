"""One long video in one process: planned, conditioned, denoised and decoded by the farm's own functions."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltx_ray.decoding.stream import SlabStream
from ltx_ray.decoding.tile import DecodeSettings
from ltx_ray.errors import UserError
from ltx_ray.media.image import fit_image, read_image
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.models.conditioning import encode_image, encode_prompts
from ltx_ray.pipelines.options import LongVideoOptions
from ltx_ray.pipelines.tiling import encode_budget, ratios_of
from ltx_ray.planning.chunks import ChunkSettings, final_frames
from ltx_ray.planning.plan import PlanSettings, plan_shot
from ltx_ray.planning.tiles import TileSettings
from ltx_ray.sampling.carriers import ChunkLatents, Conditioning, SamplingSettings
from ltx_ray.sampling.chunk import denoise_chunk
from ltx_ray.sampling.schedule import sigma_schedule
from ltx_ray.types import Chunk, Frame, PromptSpan, Shot, ShotPlan

ChunkStore = Callable[[int], ChunkLatents | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRequest:
    """One video of a call."""

    prompts: tuple[str, ...]  # one for the whole video, or one for each chunk
    num_frames: int
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    audio: AudioTrack | None  # at batch 1
    image: NDArray[np.uint8] | None  # the first frame [height, width, 3], of the model's grid
    options: LongVideoOptions  # none left open


class LongVideo:
    """The work on one video. ``chunks`` runs it; what a chunk leaves behind is all the next one needs."""

    def __init__(
        self, pipeline: Any, request: VideoRequest, chunks: ChunkSettings, tiles: TileSettings
    ) -> None:
        """``pipeline``: an ``LTXPipeline``. Raises UserError or ConfigError for what cannot be planned."""
        self._pipeline = pipeline
        self._request = request
        self._device = pipeline._execution_device
        self._ratios = ratios_of(pipeline)
        settings = PlanSettings(
            chunks=chunks,
            tiles=tiles,
            ratios=self._ratios,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            audio_guidance_scale=request.options.audio_guidance_scale,
            hears=request.audio is not None,
        )
        self.plan = _with_prompts(plan_shot(_shot(request), settings), request.prompts)
        self.settings = self._sampling_settings()

    @property
    def boundaries(self) -> list[tuple[int, int]]:
        """Frames [start, stop) that each chunk made final; together they are the whole video."""
        frames = self._request.num_frames
        return [final_frames(chunk, frames, self._ratios) for chunk in self.plan.chunks]

    def chunks(
        self, load: ChunkStore, on_step: Callable[[Chunk, int, float], None]
    ) -> Iterator[tuple[Chunk, ChunkLatents, bool]]:
        """Each chunk in order, its latents, and whether they were made now; ``load`` gives those made before.

        ``on_step`` is told the chunk, the step (from 0) and its timestep (1000 .. 0). Nothing is encoded, and
        no step is done, for a video whose chunks are all there.
        """
        conditioning: Conditioning | None = None
        previous: ChunkLatents | None = None
        for chunk in self.plan.chunks:
            known = load(chunk.index)
            if known is None:
                conditioning = conditioning or self._conditioned()
                made = denoise_chunk(
                    self._pipeline.transformer,
                    self._pipeline.scheduler.config,
                    conditioning,
                    chunk,
                    previous,
                    self.settings,
                    on_step=self._step_of(chunk, on_step),
                )
            previous = known or made
            yield chunk, previous, known is None

    def frames(self, done: Collection[int] = ()) -> SlabStream:
        """What decodes the chunks' final latents as they come, without the slabs in ``done``."""
        options, frame = self._request.options, self.plan.frame
        return SlabStream(
            self._pipeline.vae,
            self.plan,
            DecodeSettings(
                decode_timestep=options.decode_timestep or 0.0,
                decode_noise_scale=options.decode_noise_scale or 0.0,
                seed=self._request.seed,
                rows=frame.rows,
                columns=frame.columns,
                device=self._device,
                ratios=self._ratios,
            ),
            done,
        )

    @property
    def num_steps(self) -> int:
        """Denoising steps of each chunk."""
        return len(self._sigmas(self.plan.chunks[0])) - 1

    def _sigmas(self, chunk: Chunk) -> tuple[float, ...]:
        tokens = chunk.length * self.plan.frame.rows * self.plan.frame.columns
        steps = self._request.num_inference_steps
        return sigma_schedule(self._pipeline.scheduler.config, steps, tokens, self._request.options.sigmas)

    def _step_of(
        self, chunk: Chunk, on_step: Callable[[Chunk, int, float], None]
    ) -> Callable[[int, int], None]:
        sigmas = self._sigmas(chunk)
        return lambda done, total: on_step(chunk, done - 1, sigmas[done - 1] * 1000)

    def _sampling_settings(self) -> SamplingSettings:
        request, options = self._request, self._request.options
        assert options.rope is not None
        assert options.adain_factor is not None
        return SamplingSettings(
            sigmas=options.sigmas,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            audio_guidance_scale=options.audio_guidance_scale,
            rope=options.rope,
            overlap_strength=options.overlap_strength,
            adain_factor=options.adain_factor,
            image_strength=options.image_strength,
            coherence_guidance=options.coherence_guidance,
            latents_dtype="float32",
            ratios=self._ratios,
            device=str(self._device),
        )

    def _conditioned(self) -> Conditioning:
        """What the farm's condition stage makes, of the pipeline's own parts.

        Where they are offloaded, they leave the device before the transformer comes.
        """
        request, pipeline, frame = self._request, self._pipeline, self.plan.frame
        encode = [*request.prompts, request.options.negative_prompt]
        embeds, masks = encode_prompts(pipeline.tokenizer, pipeline.text_encoder, encode, device=self._device)
        image = None
        if request.image is not None:
            budget = encode_budget(pipeline)
            image = encode_image(pipeline.vae, request.image, budget, device=self._device).cpu()
        pipeline.maybe_free_model_hooks()
        return Conditioning(
            prompt_embeds=embeds[:-1],
            prompt_mask=masks[:-1],
            negative_embeds=embeds[-1:],
            negative_mask=masks[-1:],
            image=image,
            rows=frame.rows,
            columns=frame.columns,
            fps=request.options.frame_rate,
            audio=request.audio,
        )


def first_picture(image: Image.Image | str | None, frame: Frame) -> NDArray[np.uint8] | None:
    """``image``, or what it names, as large as ``frame``. Raises MediaError for what is no image."""
    if image is None:
        return None
    if isinstance(image, str):
        return read_image(image, frame.width, frame.height)
    return fit_image(image, frame.width, frame.height)


def _with_prompts(plan: ShotPlan, prompts: tuple[str, ...]) -> ShotPlan:
    """``plan`` with a prompt of its own for each chunk, where there is more than one.

    Raises UserError where their number is not that of the chunks.
    """
    if len(prompts) == 1:
        return plan
    if len(prompts) != len(plan.chunks):
        raise UserError(
            f"with prompt_per='chunk', prompt must be one text, or one for each of {len(plan.chunks)} chunks,"
            f" got {len(prompts)}"
        )
    return replace(plan, chunks=tuple(replace(chunk, prompt=chunk.index) for chunk in plan.chunks))


def _shot(request: VideoRequest) -> Shot:
    """The request as the shot that a manifest row would be."""
    return Shot(
        id="video",
        # More than one belong to chunks, not to times: ``_with_prompts`` sets them.
        prompts=(PromptSpan(0.0, request.prompts[0]),),
        negative_prompt=request.options.negative_prompt,
        num_frames=request.num_frames,
        fps=request.options.frame_rate,
        width=request.width,
        height=request.height,
        seed=request.seed,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        audio_guidance_scale=request.options.audio_guidance_scale,
        coherence_guidance=request.options.coherence_guidance,
        chunk_size=None,
        overlap_frames=None,
        audio=None,
        audio_start_s=0.0,
        image=None,
        priority=0,
        tags=(),
        row=1,
        input="{}",
        fingerprint="",
    )
