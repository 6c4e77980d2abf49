"""``LTXVideoPipeline``: diffusers' ``LTXPipeline`` that hears, at any size and length.

Everything that ``LTXPipeline`` does stays as it is, to the last bit: this class only works out what the audio
layers are given, and cuts what was asked for out of what the model can make. Where its noise levels are not
numbers (one step; from some 20,000 tokens on, as at 4K), those of ``ltx-ray render`` stand in for them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import LTXPipeline
from diffusers.pipelines.ltx.pipeline_output import LTXPipelineOutput
from torch import Tensor

from ltx_ray.checkpoints import tiny_path
from ltx_ray.errors import UserError
from ltx_ray.models.audio.alignment import (
    AudioContext,
    AudioTrack,
    audio_context,
    latent_span,
    window_size,
)
from ltx_ray.models.transformers.audio_transformer import (
    NO_AUDIO_LAYERS,
    AudioLTXVideoTransformer3DModel,
    uncompiled,
)
from ltx_ray.pipelines.tiling import ratios_of
from ltx_ray.planning.geometry import Ratios, frame_for
from ltx_ray.sampling.schedule import repaired_config
from ltx_ray.types import Frame


class LTXVideoPipeline(LTXPipeline):  # type: ignore[misc]
    """``LTXPipeline`` with ``audio_latents`` and ``audio_guidance_scale``.

    ``from_pretrained`` takes whatever diffusers' takes, and ``"tiny"`` for the built-in checkpoint.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "LTXVideoPipeline":
        """The pipeline of a folder, a hub id or ``"tiny"``, in float32 unless ``dtype`` says otherwise."""
        name = tiny_path() if pretrained_model_name_or_path == "tiny" else pretrained_model_name_or_path
        if not {"torch_dtype", "dtype"} & kwargs.keys():
            # diffusers' default for its own parts; transformers' is the file's, and the two must agree.
            kwargs["dtype"] = torch.float32
        pipeline: LTXVideoPipeline = super().from_pretrained(name, **kwargs)
        return pipeline

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save as diffusers does; audio layers are saved and loaded with the transformer."""
        # They are added in place: the class that was noted for it may be the one of before.
        self.register_modules(transformer=self.transformer)
        super().save_pretrained(save_directory, **kwargs)

    @property
    def ratios(self) -> Ratios:
        """Frames per latent and pixels per cell."""
        return ratios_of(self)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int = 512,
        width: int = 704,
        num_frames: int = 161,
        frame_rate: float = 25,
        num_inference_steps: int = 50,
        *,
        audio_latents: Tensor | AudioTrack | None = None,
        audio_guidance_scale: float = 1.0,
        output_type: str = "pil",
        return_dict: bool = True,
        **kwargs: Any,
    ) -> LTXPipelineOutput | tuple[Any]:
        """Make videos as ``LTXPipeline`` does; all its other arguments are passed on.

        ``audio_latents``: what ``AudioEncoder`` makes of the sound, [1 or B, L, audio_latent_dim], the first
        token at the video's beginning (an ``AudioTrack`` says otherwise); B is prompts times
        ``num_videos_per_prompt``. ``audio_guidance_scale`` s adds (s - 1) (c - n) to the prediction, n being
        the prediction without sound; not 1, it costs one more pass a step.

        ``height`` and ``width`` may be any even numbers and ``num_frames`` any length: the model makes the
        next multiple of 32 and 8k + 1, and the centre and the beginning are returned (latents come whole).
        Raises UserError for audio without audio layers, or of another batch or width, and for audio guidance
        together with ``guidance_rescale``, which would take the deviation of another prediction.
        """
        if audio_latents is not None and audio_guidance_scale != 1 and kwargs.get("guidance_rescale", 0) > 0:
            raise UserError(
                f"guidance_rescale must be 0 where audio_guidance_scale is not 1, got "
                f"{kwargs['guidance_rescale']} and {audio_guidance_scale}: leave one of them out"
            )
        frame = frame_for(num_frames, width, height, self.ratios)
        shape = {"height": frame.height, "width": frame.width, "num_frames": frame.frames}
        call = {"frame_rate": frame_rate, "num_inference_steps": num_inference_steps, **shape, **kwargs}
        levels = self._levels(num_inference_steps, frame.latents * frame.rows * frame.columns)
        with levels, self._hearing(audio_latents, audio_guidance_scale, frame, frame_rate):
            (frames,) = super().__call__(
                prompt, negative_prompt, output_type=output_type, return_dict=False, **call
            )
        if output_type != "latent":
            frames = _cut(frames, frame, num_frames, width, height)
        return LTXPipelineOutput(frames=frames) if return_dict else (frames,)

    @contextmanager
    def _levels(self, num_inference_steps: int, tokens: int) -> Iterator[None]:
        """While it lasts, the scheduler's noise levels are numbers, for one step and for 4K too."""
        config = self.scheduler.config
        changes = repaired_config(config, num_inference_steps, tokens)
        self.scheduler.register_to_config(**changes)
        try:
            yield
        finally:
            self.scheduler.register_to_config(**{name: config[name] for name in changes})

    @contextmanager
    def _hearing(
        self, latents: Tensor | AudioTrack | None, scale: float, frame: Frame, fps: float
    ) -> Iterator[None]:
        """While it lasts, the transformer is given the audio of a video of ``frame``."""
        if latents is None:
            yield
            return
        if not isinstance(uncompiled(self.transformer), AudioLTXVideoTransformer3DModel):
            raise UserError(NO_AUDIO_LAYERS)
        track = AudioTrack.of(latents)
        spans = [latent_span(latent, fps, self.ratios) for latent in range(frame.latents)]
        context = audio_context(track, spans, window_size(fps, self.ratios, track.tokens_per_second))
        context = context.to(self._execution_device, self.transformer.dtype)
        listen = _Listen(self, context)
        handles = [self.transformer.register_forward_pre_hook(listen, with_kwargs=True)]
        if scale != 1:
            guide = _AudioGuidance(self, scale)
            handles.append(self.transformer.register_forward_hook(guide, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Listen:
    """Gives a forward of the transformer its audio, once for each video of the batch."""

    def __init__(self, pipeline: LTXVideoPipeline, context: AudioContext) -> None:
        self._pipeline = pipeline
        self._context = context

    def __call__(self, module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        batch, given = kwargs["hidden_states"].shape[0], self._context.tokens.shape[0]
        videos = batch // (2 if self._pipeline.do_classifier_free_guidance else 1)
        if given not in (1, videos):
            raise UserError(
                f"audio_latents must be of one sound, or one for each of {videos} videos, got {given}"
            )
        # Guidance doubles the batch as [all unconditional, all conditional], and both hear the same.
        tokens = self._context.tokens.repeat(batch // given, 1, 1)
        return args, {**kwargs, "audio": self._context._replace(tokens=tokens)}


class _AudioGuidance:
    """Adds audio guidance to the conditional half of a batched prediction.

    ``LTXPipeline`` makes u + w (c - u) of it; with c + (s - 1) / w (c - n) in the place of c that becomes
    u + w (c - u) + (s - 1) (c - n).
    """

    def __init__(self, pipeline: LTXVideoPipeline, scale: float) -> None:
        self._pipeline = pipeline
        self._scale = scale

    def __call__(self, module: Any, args: Any, kwargs: dict[str, Any], output: tuple[Tensor]) -> Any:
        guided = self._pipeline.do_classifier_free_guidance
        share = (self._scale - 1) / (self._pipeline.guidance_scale if guided else 1)
        videos = output[0].shape[0] // (2 if guided else 1)
        names = ("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask")
        silent = {**kwargs, **{name: kwargs[name][-videos:] for name in names}, "audio": None}
        with module.cache_context("cond_silent"):
            # Not through module(...), whose hooks are these.
            deaf = module.forward(*args, **silent)[0].float()
        prediction = output[0].float()
        conditional = prediction[-videos:]
        return (torch.cat([prediction[:-videos], conditional + share * (conditional - deaf)]),)


def _cut(frames: Any, frame: Frame, num_frames: int, width: int, height: int) -> Any:
    """What was asked for, of lists of PIL images, an array [B, F, H, W, C] or a tensor [B, F, C, H, W]."""
    left, top = frame.crop_left, frame.crop_top
    right, bottom = left + width, top + height
    if isinstance(frames, list):
        box = (left, top, right, bottom)
        return [[image.crop(box) for image in video[:num_frames]] for video in frames]
    if isinstance(frames, Tensor):
        return frames[:, :num_frames, :, top:bottom, left:right]
    return frames[:, :num_frames, top:bottom, left:right]
