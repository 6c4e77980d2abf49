"""Tokens are a function of the sound around them alone: of no edge, no rate, no state and no neighbour."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from ltx_ray.errors import UserError
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.audio.mel import LogMel, MelSettings

RATE, STEP = 16_000, 640  # samples per second, and per token


def noise(samples: int, channels: int = 1, seed: int = 0) -> Tensor:
    """Noise of about a tenth of full scale, [1, channels, samples]."""
    return 0.1 * torch.randn(1, channels, samples, generator=torch.Generator().manual_seed(seed))


def chord(rate: int, seconds: float = 1.5) -> Tensor:
    """Tones below the 4 kHz that a rate of 8000 can hold, swelling, on a bed that no rate loses."""
    t = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    tones = sum(torch.sin(2 * math.pi * hertz * t + hertz) for hertz in range(90, 3400, 170))
    return (0.03 * tones * (1.2 + torch.sin(2 * math.pi * 3 * t)))[None, None].float()


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    return AudioEncoder().eval().requires_grad_(False)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """How far apart, in standard deviations of how tokens vary in time."""
    return float((ours - theirs).abs().mean() / theirs.std(dim=1).mean())


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 16_000, 16_001])
@pytest.mark.parametrize("latent_channels", [128, 7])
def test_a_waveform_becomes_25_tokens_a_second_rounded_up(samples: int, latent_channels: int) -> None:
    made = AudioEncoder(latent_channels=latent_channels)(noise(samples).repeat(2, 1, 1))
    assert made.shape == (2, math.ceil(samples / RATE * 25), latent_channels)
    assert torch.isfinite(made).all()


def test_token_times_are_the_middles_of_40_ms_each(encoder: AudioEncoder) -> None:
    assert encoder.tokens_per_second == 25
    assert encoder.token_times(3).tolist() == pytest.approx([0.02, 0.06, 0.10])


def test_the_middle_of_a_click_is_heard_by_the_token_of_its_time(encoder: AudioEncoder) -> None:
    """The token that changes most when a click is moved by a token moves by one too."""
    silent = encoder(torch.zeros(1, 1, 20 * STEP))
    for token in (5, 6, 11):
        click = torch.zeros(1, 1, 20 * STEP)
        click[..., token * STEP + STEP // 2] = 1.0
        # Of a symmetric front end: the neighbours on both sides change as far away.
        changed = ((encoder(click) - silent).abs().amax(-1)[0] > 1e-6).nonzero().flatten()
        assert float(changed.double().mean()) == token


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_gives_nearly_the_tokens_of_16_khz(encoder: AudioEncoder, rate: int) -> None:
    wanted = encoder(chord(RATE))
    made = encoder(chord(rate), rate)
    assert made.shape == wanted.shape
    assert relative(made, wanted) < 0.03
    # Taken for 16 kHz, the same samples are another sound.
    other = encoder(chord(rate))[:, : wanted.shape[1]]
    assert relative(other, wanted[:, : other.shape[1]]) > 0.4


def test_channels_are_mixed_down_or_repeated(encoder: AudioEncoder) -> None:
    stereo = noise(8000, channels=2)
    assert torch.equal(encoder(stereo), encoder(stereo.mean(dim=1, keepdim=True)))
    assert not torch.equal(encoder(stereo), encoder(stereo[:, :1]))
    wide = AudioEncoder(input_channels=2)
    assert torch.equal(wide(noise(8000)), wide(noise(8000).repeat(1, 2, 1)))
    assert not torch.equal(wide(stereo), wide(stereo.mean(dim=1, keepdim=True)))


def test_missing_dimensions_are_a_batch_and_a_channel_of_one(encoder: AudioEncoder) -> None:
    flat = noise(3000)[0, 0]
    assert torch.equal(encoder(flat), encoder(flat[None, None]))
    stereo = noise(3000, channels=2)
    assert torch.equal(encoder(stereo[0]), encoder(stereo))


def test_an_encoder_is_the_same_whatever_torchs_generator_is_at() -> None:
    torch.manual_seed(1)
    first = AudioEncoder().state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = AudioEncoder()
    assert torch.equal(torch.get_rng_state(), state), "making one draws nothing from it"
    assert all(torch.equal(value, first[name]) for name, value in second.state_dict().items())
    assert torch.equal(second(noise(5000)), second(noise(5000)))


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (9, 23), (31, 40), (17, 18)])
def test_a_slice_of_the_tokens_is_the_encoding_of_the_slice_with_context(
    encoder: AudioEncoder, start: int, stop: int
) -> None:
    sound, context = noise(40 * STEP), encoder.context_samples
    tokens = -(-context // STEP)
    first, last = max(start - tokens, 0), min(stop + tokens, 40)
    alone = encoder(sound[..., first * STEP : last * STEP])[:, start - first : stop - first]
    assert torch.allclose(alone, encoder(sound)[:, start:stop], atol=1e-5)
    # Without context it is another one.
    bare = encoder(sound[..., start * STEP : stop * STEP])
    assert not torch.allclose(bare, encoder(sound)[:, start:stop], atol=1e-2)


def test_a_click_changes_the_tokens_within_reach_and_no_others(encoder: AudioEncoder) -> None:
    sound, at = noise(40 * STEP), 20 * STEP + 100
    clicked = sound.clone()
    clicked[..., at] += 0.8
    changed = (encoder(clicked) - encoder(sound)).abs().amax(dim=(0, 2)) > 1e-6
    reach = encoder.context_samples
    own = torch.arange(40) * STEP
    within = (own - reach <= at) & (at < own + STEP + reach)
    assert changed[within].all()
    assert not changed[~within].any()
    assert 3 <= int(within.sum()) <= 5, "some 100 ms, not the whole"


def test_silence_around_a_sound_is_the_same_as_nothing_around_it(encoder: AudioEncoder) -> None:
    sound = noise(10 * STEP)
    silence = torch.zeros(1, 1, 5 * STEP)
    padded = encoder(torch.cat([silence, sound, silence], dim=2))
    assert torch.allclose(padded[:, 5:15], encoder(sound), atol=1e-5)
    # A last token that the sound only half fills is that of the sound with silence after it.
    half = encoder(sound[..., : 9 * STEP + 200])
    filled = encoder(torch.cat([sound[..., : 9 * STEP + 200], torch.zeros(1, 1, STEP - 200)], dim=2))
    assert torch.allclose(half, filled, atol=1e-5)


def test_an_encoder_in_bfloat16_keeps_its_front_end_in_float32(encoder: AudioEncoder) -> None:
    sound = noise(20 * STEP)
    narrow = copy.deepcopy(encoder).to(torch.bfloat16)
    assert torch.equal(narrow.mel(sound), encoder.mel(sound))
    assert narrow.mel(sound.to(torch.bfloat16)).dtype == torch.float32
    made = narrow(sound)
    assert made.dtype == torch.bfloat16
    assert relative(made.float(), encoder(sound)) < 0.05


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_an_encoder_that_has_worked_can_be_copied_and_pickled(copied: object) -> None:
    encoder, sound = AudioEncoder(latent_channels=5, mel=MelSettings(n_mels=32)), noise(5000)
    before = encoder(sound)
    again = copied(encoder)  # type: ignore[operator]
    assert torch.equal(again(sound), before)
    assert again.mel.settings == encoder.mel.settings


def test_gradients_reach_the_weights_and_the_waveform_also_after_inference() -> None:
    encoder, sound = AudioEncoder(), noise(3000).requires_grad_()
    with torch.inference_mode():
        encoder(sound.detach())
    encoder(sound).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    assert sound.grad is not None
    assert sound.grad.abs().max() > 0


def test_log_mels_are_those_of_the_settings_with_a_floor() -> None:
    mels = LogMel(MelSettings(n_mels=20, n_fft=400))(torch.zeros(1, 2, 400 + 3 * 160))
    assert mels.shape == (1, 2, 20, 4)
    assert torch.allclose(mels, torch.full_like(mels, (math.log(1e-5) + 4) / 4))


@pytest.mark.parametrize(
    ("waveform", "rate", "words"),
    [
        (torch.zeros(1, 1, 1, 9), None, r"\[B, C, samples\].*got \(1, 1, 1, 9\)"),
        (torch.zeros(1, 1, 0), None, r"at least one sample.*got \(1, 1, 0\)"),
        (torch.zeros(1, 1, 9), 0, "at least 1 per second.*at 0"),
        (torch.zeros(1, 1, 9), -1, "at -1"),
        (torch.full((1, 1, 9), float("nan")), None, "finite samples"),
        (torch.full((1, 1, 9), float("inf")), None, "finite samples"),
        (torch.zeros(1, 1, 9), 44_101, "44101 .* 16000"),
    ],
)
def test_a_sound_that_cannot_be_encoded_is_told(
    encoder: AudioEncoder, waveform: Tensor, rate: int | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        encoder(waveform, rate)


def test_three_channels_are_refused_where_two_are_wanted() -> None:
    with pytest.raises(UserError, match="2 input_channels and takes as many, or one, got 3"):
        AudioEncoder(input_channels=2)(noise(100, channels=3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"latent_channels": 0}, "latent_channels of at least 1, got 0"),
        ({"input_channels": -1}, "input_channels of at least 1"),
        ({"sample_rate": 8000, "mel": MelSettings()}, "got 8000 and 16000"),
    ],
)
def test_an_impossible_encoder_is_told(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        AudioEncoder(**arguments)  # type: ignore[arg-type]


def test_impossible_mel_settings_are_told() -> None:
    with pytest.raises(UserError, match="got n_fft 100 and hop_length 160"):
        MelSettings(n_fft=100)
    with pytest.raises(UserError, match="n_mels of at least 1, got 0"):
        MelSettings(n_mels=0)


def test_other_settings_have_a_rate_of_tokens_of_their_own() -> None:
    encoder = AudioEncoder(mel=MelSettings(hop_length=80, n_fft=512))
    assert encoder.tokens_per_second == 50
    assert encoder(noise(RATE)).shape[1] == 50
    assert AudioEncoder(sample_rate=24_000).tokens_per_second == 37.5


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.uint8])
def test_whole_numbers_are_refused_instead_of_heard_far_too_loud(dtype: torch.dtype) -> None:
    with pytest.raises(UserError, match=r"floating-point samples in .* divide by"):
        AudioEncoder()(torch.ones(1, 1, 1600, dtype=dtype))
