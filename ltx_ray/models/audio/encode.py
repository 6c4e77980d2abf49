"""The sound of a shot as the condition stage encodes it: once, with what comes just before and after it."""

import torch

from ltx_ray.media.access import TRUSTED, Access
from ltx_ray.media.audio import read_audio
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.models.audio.audio_encoder import AudioEncoder

# Tokens before and after the video (a second): more than any latent's window and the encoder reach.
_MARGIN = 25


@torch.no_grad()
def encode_shot_audio(
    encoder: AudioEncoder, url: str, start_s: float, seconds: float, access: Access = TRUSTED
) -> AudioTrack:
    """The sound of ``url`` from ``start_s`` on, for a video of ``seconds``, as a track at batch 1 on the CPU.

    What the file holds around the cut is encoded too, so that the video's first and last frames hear it;
    beyond the file is silence. Raises MediaError where the file cannot be read.
    """
    rate, margin = encoder.sample_rate, _MARGIN * encoder.samples_per_token
    before = min(margin, round(start_s * rate))  # samples that the file has before the video
    read_from = start_s - before / rate
    length = seconds + (before + margin) / rate
    sound = torch.from_numpy(read_audio(url, max(read_from, 0.0), length, rate, access))
    silence = sound.new_zeros(sound.shape[0], margin - before)
    tokens = encoder(torch.cat([silence, sound], dim=1))
    return AudioTrack(
        tokens=tokens.float().cpu(),
        start_s=-margin / rate,
        tokens_per_second=float(encoder.tokens_per_second),
    )
