"""The fixed front end of the audio encoder: a waveform as a log mel spectrogram.

The settings are those of LTX-2's audio VAE (github.com/Lightricks/LTX-2): magnitudes, slaney mels, and a
logarithm clamped at 1e-5. Only the framing differs: frame f is centred on the middle of its own hop, so that
groups of frames are symmetric around the token they belong to.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torchaudio

from ltx_ray.errors import UserError

# Silence is log(1e-5) = -11.5 and full scale about 3: this brings the range to about -1.9 .. 1.7.
_SHIFT, _SCALE = 4.0, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MelSettings:
    """How a waveform becomes mel frames. Part of an audio adapter: its weights are worth nothing without."""

    sample_rate: int = 16_000  # samples per second
    n_fft: int = 1024  # samples of a frame's window (64 ms)
    hop_length: int = 160  # samples from frame to frame (10 ms)
    n_mels: int = 64  # bands from 0 Hz to half the sample rate
    floor: float = 1e-5  # magnitudes are clamped here before the logarithm

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels"):
            if getattr(self, name) < 1:
                raise UserError(f"mel settings need {name} of at least 1, got {getattr(self, name)}")
        if self.n_fft < self.hop_length or (self.n_fft - self.hop_length) % 2:
            raise UserError(
                f"mel settings need an n_fft of hop_length plus an even number of samples, "
                f"got n_fft {self.n_fft} and hop_length {self.hop_length}"
            )

    @property
    def context(self) -> int:
        """Samples that a frame sees before and after its own hop."""
        return (self.n_fft - self.hop_length) // 2


class LogMel:
    """Computes log mel spectrograms; no module, so that no cast of the encoder's weights reaches it."""

    def __init__(self, settings: MelSettings) -> None:
        self.settings = settings
        self._transforms: dict[torch.device, Any] = {}

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        """Log mels [B, C, n_mels, frames] (float32, about -1.9 .. 1.7) of ``waveform`` [B, C, samples].

        Nothing is padded: ``samples`` are ``frames`` hops and ``settings.context`` samples at both ends.
        """
        mels = self._transform(waveform.device)(waveform.float())
        logs: torch.Tensor = (torch.log(mels.clamp(min=self.settings.floor)) + _SHIFT) / _SCALE
        return logs

    def _transform(self, device: torch.device) -> Any:
        if device not in self._transforms:
            # Not as inference tensors, through which no later gradient could reach a waveform.
            with torch.inference_mode(False):
                self._transforms[device] = self._made().to(device)
        return self._transforms[device]

    def _made(self) -> Any:
        settings = self.settings
        return torchaudio.transforms.MelSpectrogram(
            settings.sample_rate,
            settings.n_fft,
            hop_length=settings.hop_length,
            f_min=0.0,
            f_max=settings.sample_rate / 2,
            n_mels=settings.n_mels,
            power=1.0,
            center=False,
            norm="slaney",
            mel_scale="slaney",
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "_transforms": {}}
