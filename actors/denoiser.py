"""The denoise stage: one chunk of a shot, from noise to final latents and the tail for the next chunk."""

from collections.abc import Sequence
from typing import Any

from actors.torch_device import TorchActor
from actors.work import Made
from ltx_ray.models.prepare import prepare_transformer
from ltx_ray.payload import pack, unpack
from ltx_ray.run import RunSpec
from ltx_ray.sampling.carriers import ChunkLatents, Conditioning, SamplingSettings
from ltx_ray.sampling.chunk import denoise_chunk
from ltx_ray.types import Chunk, Job, Shot


class Denoiser(TorchActor):
    """Holds the transformer."""

    def __init__(self, run: RunSpec) -> None:
        super().__init__(run)
        # On the CPU first: a quantized model may fit a GPU that the whole one does not.
        transformer = self.checkpoint.load_transformer(self.dtype, "cpu")
        model = run.config.model
        adapter = self.checkpoint.audio_adapter(model.audio_adapter)
        self._transformer = prepare_transformer(
            transformer, model, adapter, run.adapter_hash, run.lora_hashes
        ).to(self.device)
        self._scheduler = self.checkpoint.scheduler_config()

    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """Inputs: the shot's conditioning, and for a later chunk the chunk before."""
        chunk = job.task.work
        assert isinstance(chunk, Chunk)
        conditioning = Conditioning.from_tensors(unpack(self.read(inputs[0])))
        previous = ChunkLatents.from_tensors(unpack(self.read(inputs[1]))) if chunk.index else None
        latents = denoise_chunk(
            self._transformer,
            self._scheduler,
            conditioning,
            chunk,
            previous,
            sampling_settings(self._run, job.shot),
        )
        blob = pack(latents.to_tensors())
        return Made(artefact=self.save(job, blob), parts=(blob,))


def sampling_settings(run: RunSpec, shot: Shot) -> SamplingSettings:
    """How ``shot`` is sampled: what its row says, else what the run has decided."""
    sampling, config = run.sampling, run.config.sampling
    # A row that names its steps asks for the scheduler's own schedule of that many.
    explicit = sampling.sigmas if shot.num_inference_steps is None else None
    return SamplingSettings(
        sigmas=explicit,
        num_inference_steps=shot.num_inference_steps or sampling.num_inference_steps,
        guidance_scale=_of(shot.guidance_scale, sampling.guidance_scale),
        audio_guidance_scale=_of(shot.audio_guidance_scale, config.audio_guidance_scale),
        rope=sampling.rope,
        overlap_strength=config.overlap_strength,
        adain_factor=sampling.adain_factor,
        image_strength=config.image_strength,
        coherence_guidance=_of(shot.coherence_guidance, config.coherence_guidance),
        latents_dtype=config.latents_dtype,
        ratios=run.ratios,
        device=run.device,
    )


def _of(asked: float | None, otherwise: float) -> float:
    return otherwise if asked is None else asked
