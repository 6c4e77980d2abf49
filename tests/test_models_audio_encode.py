"""A shot's sound is encoded once, with what the file holds around the cut, and silence beyond the file."""

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from small_transformer import random

from ltx_ray.errors import MediaError
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.audio.encode import encode_shot_audio

RATE, STEP = 16_000, 640
ENCODER = AudioEncoder(latent_channels=6, hidden_channels=16).eval()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, torch.Tensor]:
    """A file of five seconds, and its samples [1, 1, N]."""
    samples = (0.1 * random(1, 5 * RATE)).clamp(-1, 1)
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    exact = (samples * 32767).round().to(torch.int16)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(exact.numpy().tobytes())
    return str(path), exact.float()[None, None] / 32768


@pytest.mark.parametrize("start_s", [0.0, 0.4, 1.0, 2.04])
def test_the_track_is_the_whole_file_encoded_and_cut(sound: tuple[str, torch.Tensor], start_s: float) -> None:
    url, samples = sound
    track = encode_shot_audio(ENCODER, url, start_s, 2.0)
    assert track.tokens.shape[0] == 1
    assert track.start_s == -1.0
    with torch.no_grad():
        padded = torch.cat([torch.zeros(1, 1, RATE), samples, torch.zeros(1, 1, RATE)], dim=2)
        whole = ENCODER(padded[..., round(start_s * RATE) :])
    # The first and last tokens are the margin's own edges, and further away than any latent hears.
    inner = slice(2, 25 + 50 + 20)
    assert torch.allclose(track.tokens[:, inner], whole[:, inner], atol=1e-4)


def test_a_video_longer_than_its_sound_ends_in_silence(sound: tuple[str, torch.Tensor]) -> None:
    """Not in the last token of the sound, held."""
    url, _ = sound
    track = encode_shot_audio(ENCODER, url, 4.0, 3.0)
    assert track.tokens.shape[1] == 25 + 75 + 25
    with torch.no_grad():
        silence = ENCODER(torch.zeros(1, 1, RATE))[:, :1]
    after = track.tokens[:, 25 + 25 + 3 :]
    assert torch.allclose(after, silence.expand_as(after), atol=1e-5)
    assert not torch.allclose(track.tokens[:, 40:41], silence, atol=1e-2)


def test_a_file_that_cannot_be_heard_is_told(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_bytes(np.arange(300).astype(np.uint8).tobytes())
    with pytest.raises(MediaError):
        encode_shot_audio(ENCODER, str(path), 0.0, 1.0)
