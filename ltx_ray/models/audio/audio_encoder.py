"""The audio encoder: a waveform becomes tokens, 25 in a second, that the transformer's audio layers hear.

It is a convolution of finite reach over sound that is silent before its beginning and after its end. So what
a token is depends only on the samples around it: encoding a whole shot once and slicing the tokens is the
same as encoding each slice with ``context_samples`` around it.
"""

import math
from fractions import Fraction

import torch
import torchaudio.functional
from torch import Tensor, nn

from ltx_ray.errors import UserError
from ltx_ray.models.audio.mel import LogMel, MelSettings
from ltx_ray.models.weight_files import LOADING

# Mel frames that make a token: two convolutions of stride 2.
_FRAMES = 4
# Mel frames that a token sees beyond its own, at both ends: one by the first convolution, two by the second.
_REACH = 3
_SEED = 0x61756469
# Zero crossings of the resampling filter on each side: with torchaudio's 6, mirror images of what a rate of
# 8000 holds stand far above the mels' floor, and would be heard as sound above 4 kHz.
_FILTER_ZEROS = 64
# Values of a resampling filter: a gigabyte. Usual rates need a thousandth of it.
_MOST_FILTERED = 2**27


class AudioEncoder(nn.Module):
    """Waveform [B, C, samples] -> tokens [B, L, latent_channels], 25 per second for 16 kHz.

    ``AudioEncoder()`` always starts from the same weights, whatever the global generator's state; weights
    that mean something come with a trained adapter (``AudioAdapter.from_pretrained``).
    """

    def __init__(
        self,
        input_channels: int = 1,
        latent_channels: int = 128,
        sample_rate: int = 16_000,
        *,
        hidden_channels: int = 256,
        mel: MelSettings | None = None,
    ) -> None:
        """``mel`` None: LTX-2's settings at ``sample_rate``. Raises UserError for impossible numbers."""
        super().__init__()
        for name, value in (
            ("input_channels", input_channels),
            ("latent_channels", latent_channels),
            ("sample_rate", sample_rate),
            ("hidden_channels", hidden_channels),
        ):
            if value < 1:
                raise UserError(f"AudioEncoder needs {name} of at least 1, got {value}")
        self.input_channels = input_channels
        self.latent_channels = latent_channels
        self.hidden_channels = hidden_channels
        self.mel = LogMel(mel or MelSettings(sample_rate=sample_rate))
        if self.mel.settings.sample_rate != sample_rate:
            raise UserError(
                f"AudioEncoder's sample_rate and its mel settings' must be one, "
                f"got {sample_rate} and {self.mel.settings.sample_rate}"
            )
        bands = input_channels * self.mel.settings.n_mels
        # On no device, so that nothing is drawn from the global generator.
        with LOADING, torch.device("meta"):
            self.conv_in = nn.Conv1d(bands, hidden_channels, kernel_size=4, stride=2)
            self.conv_mid = nn.Conv1d(hidden_channels, hidden_channels, kernel_size=4, stride=2)
            self.norm = nn.LayerNorm(hidden_channels)
            self.proj_out = nn.Linear(hidden_channels, latent_channels)
        self.to_empty(device="cpu")
        self.norm.reset_parameters()
        draw = torch.Generator().manual_seed(_SEED)
        for layer in (self.conv_in, self.conv_mid, self.proj_out):
            _init(layer, draw)

    @property
    def sample_rate(self) -> int:
        """Samples per second that the front end works on."""
        return self.mel.settings.sample_rate

    @property
    def samples_per_token(self) -> int:
        """Samples, at ``sample_rate``, from token to token: token i stands for [i n, (i + 1) n)."""
        return _FRAMES * self.mel.settings.hop_length

    @property
    def tokens_per_second(self) -> Fraction:
        """25 for the default settings."""
        return Fraction(self.sample_rate, self.samples_per_token)

    @property
    def context_samples(self) -> int:
        """Samples before and after a token's own that it depends on (57 ms by default)."""
        return _REACH * self.mel.settings.hop_length + self.mel.settings.context

    def token_times(self, count: int) -> Tensor:
        """Seconds [count] (float64) of the tokens' middles, from the first sample of the waveform."""
        return (torch.arange(count, dtype=torch.float64) + 0.5) / float(self.tokens_per_second)

    def forward(self, waveform: Tensor, sample_rate: int | None = None) -> Tensor:
        """Tokens [B, ceil(seconds * tokens_per_second), latent_channels] in the weights' dtype.

        ``waveform``: [B, C, samples], [C, samples] or [samples], in [-1, 1], at ``sample_rate`` (None: the
        encoder's own). Any rate is resampled; channels are mixed down to one, or one is repeated, where
        ``input_channels`` asks for that. Raises UserError for other shapes, an empty or a non-finite sound.
        """
        sound = self._prepared(waveform, self.sample_rate if sample_rate is None else sample_rate)
        tokens = -(-sound.shape[-1] // self.samples_per_token)
        # Silence around the sound, to the reach of the convolutions: no edge has rules of its own.
        behind = tokens * self.samples_per_token - sound.shape[-1] + self.context_samples
        mels = self.mel(nn.functional.pad(sound, (self.context_samples, behind))).flatten(1, 2)
        hidden = nn.functional.gelu(self.conv_in(mels.to(self.conv_in.weight.dtype)))
        hidden = nn.functional.gelu(self.conv_mid(hidden)).transpose(1, 2)
        made: Tensor = self.proj_out(self.norm(hidden))
        return made

    def _prepared(self, waveform: Tensor, rate: int) -> Tensor:
        """[B, input_channels, samples] float32 at the encoder's rate, on its device."""
        if waveform.ndim not in (1, 2, 3) or 0 in waveform.shape or rate < 1:
            raise UserError(
                f"AudioEncoder wants a waveform [B, C, samples] of at least one sample at a rate of at least "
                f"1 per second, got {tuple(waveform.shape)} at {rate}"
            )
        if not waveform.is_floating_point():
            raise UserError(
                f"AudioEncoder wants floating-point samples in [-1, 1], got {waveform.dtype}: divide by the "
                "largest value of its type, such as 32768 for 16 bits"
            )
        sound = waveform.reshape((1,) * (3 - waveform.ndim) + tuple(waveform.shape))
        sound = sound.to(self.conv_in.weight.device, torch.float32)
        if not torch.isfinite(sound).all():
            raise UserError("AudioEncoder wants finite samples, got NaN or infinity in the waveform")
        if sound.shape[1] != self.input_channels:
            if self.input_channels != 1 and sound.shape[1] != 1:
                raise UserError(
                    f"AudioEncoder has {self.input_channels} input_channels and takes as many, or one, "
                    f"got {sound.shape[1]}"
                )
            sound = sound.mean(dim=1, keepdim=True).expand(-1, self.input_channels, -1)
        if rate != self.sample_rate:
            common = math.gcd(rate, self.sample_rate)
            if rate // common * (self.sample_rate // common) > _MOST_FILTERED:
                raise UserError(
                    f"AudioEncoder cannot resample from {rate} to {self.sample_rate} samples per second, "
                    "which have almost no divisor in common: resample the sound to a usual rate first"
                )
            sound = torchaudio.functional.resample(
                sound, rate, self.sample_rate, lowpass_filter_width=_FILTER_ZEROS
            )
        return sound


def _init(layer: nn.Module, draw: torch.Generator) -> None:
    """torch's own initialisation of linear layers and convolutions, from a generator of its own."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    bound = weight[0].numel() ** -0.5
    nn.init.uniform_(weight, -bound, bound, generator=draw)
    nn.init.uniform_(bias, -bound, bound, generator=draw)
