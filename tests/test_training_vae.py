"""The VAE's trainer: a warm start teaches block coefficients, the decoder can be trained alone."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo
from small_vae import small_vae

from ltx_ray.errors import UserError
from ltx_ray.models.tiny_vae import make_vae
from ltx_ray.training.block_dct import COMPONENTS, block_dct
from ltx_ray.training.loop import LoopSettings, fit
from ltx_ray.training.vae import VaeObjective, measured_statistics, psnr
from ltx_ray.training.world_data import Bucket, WorldClips, example_clips

SMALL = Bucket(4, 9, 64, 64)


def settings(output: Path, steps: int) -> LoopSettings:
    return LoopSettings(
        output=output,
        steps=steps,
        learning_rate=2e-3,
        warmup_steps=3,
        ema=0.5,
        log_every=steps,
        save_every=100,
    )


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def test_block_coefficients_are_those_of_a_cosine_transform() -> None:
    flat = torch.full((1, 3, 9, 64, 96), 0.5)
    made = block_dct(flat, 8, 32)
    assert made.shape == (1, 3 * len(COMPONENTS), 2, 2, 3)
    assert torch.allclose(made[:, :3], torch.tensor(0.5))  # the means come first
    assert made[:, 3:].abs().max() < 1e-6
    # A picture that is there only in the last frames: of the second latent's time coefficients alone.
    later = torch.zeros(1, 3, 9, 32, 32)
    later[:, :, 5:] = 1
    assert block_dct(later, 8, 32)[0, :, 0].abs().max() == 0
    assert block_dct(later, 8, 32)[0, 0, 1].item() == pytest.approx(0.5)


def test_a_warm_start_and_then_both_ends_learn(tmp_path: Path) -> None:
    vae = make_vae(1).to(memory_format=torch.channels_last_3d)
    examples = example_clips(2, Bucket(1, 9, 64, 64))
    warm = WorldClips(1, 5, (Bucket(16, 9, 64, 64),))[0]["clips"]
    objective = VaeObjective(vae, examples, warm_clips=warm, warm_steps=14)
    before = objective.preview(vae, tmp_path / "before.png")["psnr_64"]
    fit(objective, WorldClips(100, 0, (SMALL,)), settings(tmp_path, 24), lambda _: None)
    after = objective.preview(vae, tmp_path / "after.png")["psnr_64"]
    assert after > before + 3
    assert (tmp_path / "after.png").stat().st_size > 0
    # The posterior stays narrow, and what is exported says how its latents are spread.
    assert float(vae.encoder.conv_out.conv.bias[-1]) == -6
    assert float(vae.encoder.conv_out.conv.weight[-1].abs().max()) == 0
    exported = AutoencoderKLLTXVideo.from_pretrained(tmp_path / "export")
    mean, std = measured_statistics(exported, (clip[None] for clip in examples))
    assert torch.allclose(exported.latents_mean, mean, atol=1e-4)
    assert torch.allclose(exported.latents_std, std, atol=1e-4)


def test_the_decoder_alone_leaves_every_latent_as_it_is(tmp_path: Path) -> None:
    vae = make_vae(1)
    vae.latents_mean.fill_(0.25)
    encoder = weights(vae.encoder)
    decoder = weights(vae.decoder)
    objective = VaeObjective(vae, example_clips(1, Bucket(1, 9, 64, 64)), decoder_only=True)
    fit(objective, WorldClips(100, 0, (Bucket(1, 9, 64, 64),)), settings(tmp_path, 2), lambda _: None)
    assert all(torch.equal(weight, encoder[name]) for name, weight in vae.encoder.state_dict().items())
    assert any(not torch.equal(weight, decoder[name]) for name, weight in vae.decoder.state_dict().items())
    exported = AutoencoderKLLTXVideo.from_pretrained(tmp_path / "export")
    assert torch.equal(exported.latents_mean, torch.full((48,), 0.25))


def test_psnr_is_of_values_from_minus_one_to_one() -> None:
    assert psnr(0.004) == pytest.approx(30.0)
    assert psnr(0.0) == pytest.approx(126.0, abs=0.1)


def test_a_warm_start_is_for_the_channels_it_fills() -> None:
    with pytest.raises(UserError, match="a VAE of 48 latent channels, got one of 8: leave warm_steps at 0"):
        VaeObjective(small_vae("0.9.5").requires_grad_(True), [], warm_steps=1)
