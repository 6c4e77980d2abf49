"""The condition stage: a shot's prompts, image and sound become conditioning, once."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from actors.torch_device import TorchActor
from actors.work import Made
from ltx_ray.errors import MediaError
from ltx_ray.media.access import Access
from ltx_ray.media.audio import probe_audio
from ltx_ray.media.image import read_image
from ltx_ray.media.source import of_column
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.audio.encode import encode_shot_audio
from ltx_ray.models.conditioning import encode_image, encode_prompts
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.payload import pack
from ltx_ray.quantization import quantize_model
from ltx_ray.redact import redacted
from ltx_ray.run import RunSpec
from ltx_ray.sampling.carriers import Conditioning
from ltx_ray.types import Job, Shot

_CACHED_PROMPTS = 256  # negative prompts and styles repeat from shot to shot; 2 MB each with T5-XXL


class Conditioner(TorchActor):
    """Holds the text encoder; the VAE from the first image on, the audio encoder from the first sound on."""

    def __init__(self, run: RunSpec) -> None:
        super().__init__(run)
        # On the CPU first: a quantized model may fit a GPU that the whole one does not.
        self._tokenizer, self._text_encoder = self.checkpoint.load_text_encoder(self.dtype, "cpu")
        quantize_model(self._text_encoder, run.config.model.quantization)
        self._text_encoder.to(self.device)
        self._vae: Any = None
        self._audio_encoder: AudioEncoder | None = None
        self._prompts: OrderedDict[str, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()

    @torch.inference_mode()
    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """Encode what the shot is conditioned on and store it."""
        shot = job.shot
        if shot.audio:
            check_audio(shot.audio, shot.audio_start_s, self._run.access)  # now, not after hours of denoising
        prompts = [self._encode(span.text) for span in shot.prompts]
        negative_embeds, negative_mask = self._encode(shot.negative_prompt)
        conditioning = Conditioning(
            prompt_embeds=torch.cat([embeds for embeds, _ in prompts]),
            prompt_mask=torch.cat([mask for _, mask in prompts]),
            negative_embeds=negative_embeds,
            negative_mask=negative_mask,
            image=self._image(shot, job.frame.width, job.frame.height) if shot.image else None,
            rows=job.frame.rows,
            columns=job.frame.columns,
            fps=shot.fps,
            audio=self._audio(shot),
        )
        blob = pack(conditioning.to_tensors())
        return Made(artefact=self.save(job, blob), parts=(blob,))

    def _encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        if text not in self._prompts:
            embeds, mask = encode_prompts(self._tokenizer, self._text_encoder, [text])
            self._prompts[text] = (embeds.cpu(), mask.cpu())
            if len(self._prompts) > _CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(text)
        return self._prompts[text]

    def _image(self, shot: Shot, width: int, height: int) -> torch.Tensor:
        assert shot.image is not None
        if self._vae is None:
            self._vae = self.checkpoint.load_vae(self.dtype, self.device)
        budget = self._run.config.decoding.tile_bytes
        with of_column("image"):
            image = read_image(shot.image, width, height, self._run.access)
        return encode_image(self._vae, image, budget).cpu()

    def _audio(self, shot: Shot) -> AudioTrack | None:
        """The shot's sound, where there is any and the model can hear it."""
        adapter = self.checkpoint.audio_adapter(self._run.config.model.audio_adapter)
        if shot.audio is None or adapter is None:
            return None
        if self._audio_encoder is None:
            # On the CPU in float32: it is small, and a GPU would round its convolutions to TF32.
            self._audio_encoder = AudioAdapter.from_pretrained(adapter, self._run.adapter_hash).encoder
        with of_column("audio"):
            return encode_shot_audio(
                self._audio_encoder, shot.audio, shot.audio_start_s, shot.seconds, self._run.access
            )


def check_audio(url: str, start_s: float, access: Access) -> None:
    """Raises MediaError where there is no sound at ``start_s`` of the file."""
    with of_column("audio"):
        facts = probe_audio(url, access)
    if facts.seconds is not None and start_s >= facts.seconds:
        raise MediaError(
            f"audio_start_s: must lie within the {facts.seconds:.3f} seconds of {redacted(url)}, "
            f"got {start_s}"
        )
