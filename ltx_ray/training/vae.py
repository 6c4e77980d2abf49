"""Training of the VAE: encoder and decoder end to end, or the decoder alone.

No KL term and no discriminator: latents get noise while they are decoded, which keeps them smooth, and the
world's pictures have no texture that a discriminator would have to invent.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import Tensor, nn

from ltx_ray.errors import UserError
from ltx_ray.training.block_dct import COLOURS, COMPONENTS, block_dct
from ltx_ray.training.contact_sheet import contact_sheet
from ltx_ray.training.loop import Batch
from ltx_ray.training.muon import muon_and_adamw

_LATENT_NOISE = 0.06  # standard deviation, of latents of deviation about 1
_LOG_VARIANCE = -6.0  # of the posterior: constant, so that sampling it is as good as its mean
_SOFT_LIMIT = 4.0  # latents beyond are pulled back


class VaeObjective(nn.Module):
    """Reconstruction of clips [B, 3, F, H, W] in -1..1: L1, squares and gradients in space and time.

    ``warm_steps``: for so long the latents are those of ``block_dct`` (48 channels). With
    ``decoder_only`` the encoder, and so every latent ever made, stays as it is.
    """

    trained: AutoencoderKLLTXVideo
    skips = False
    warm_mean: Tensor
    warm_std: Tensor

    def __init__(
        self,
        vae: AutoencoderKLLTXVideo,
        examples: list[Tensor],
        *,
        warm_clips: Tensor | None = None,
        warm_steps: int = 0,
        decoder_only: bool = False,
    ) -> None:
        """``examples``: clips [3, F, H, W], not trained on, that previews show and figures are measured on;
        ``warm_clips`` [B, 3, F, H, W], some dozens, say how large each coefficient of a warm start is."""
        super().__init__()
        self.trained = vae
        self._examples, self._warm_steps, self._decoder_only = examples, warm_steps, decoder_only
        if decoder_only:
            vae.encoder.requires_grad_(False)
        else:
            _fix_variance(vae)
        if warm_steps:
            channels = len(COMPONENTS) * COLOURS
            if vae.config.latent_channels != channels:
                raise UserError(
                    f"a warm start is for a VAE of {channels} latent channels, got one of "
                    f"{vae.config.latent_channels}: leave warm_steps at 0 and begin with trained weights"
                )
            assert warm_clips is not None
            made = self._coefficients(warm_clips)
            self.register_buffer("warm_mean", made.mean((0, 2, 3, 4), keepdim=True), persistent=False)
            self.register_buffer("warm_std", made.std((0, 2, 3, 4), keepdim=True) + 1e-3, persistent=False)

    def forward(self, batch: Batch, step: int, draw: torch.Generator) -> dict[str, Tensor]:
        """``batch``: {"clips": [B, 3, F, H, W]}."""
        clips = batch["clips"]
        latents = self.trained.encode(clips).latent_dist.mode().float()
        figures: dict[str, Tensor] = {}
        if step < self._warm_steps:
            target = ((self._coefficients(clips) - self.warm_mean) / self.warm_std).clamp(-4, 4)
            figures["warm"] = nn.functional.smooth_l1_loss(latents, target)
            latents = target
        else:
            figures["warm"] = 1e-3 * nn.functional.relu(latents.abs() - _SOFT_LIMIT).square().mean()
        noise = torch.randn(latents.shape, generator=draw).to(latents)
        made = self.trained.decode(latents + _LATENT_NOISE * noise).sample.float()
        figures |= _reconstruction(made, clips)
        figures["loss"] = figures["warm"] + figures["pixels"] + 0.3 * (figures["space"] + figures["time"])
        return figures

    def optimizers(self, rate: float) -> list[torch.optim.Optimizer]:
        matrices: dict[int, list[Tensor]] = {}
        for name, module in self.trained.named_modules():
            # The encoder's last one has a row of constant variance.
            if (
                isinstance(module, nn.Conv3d)
                and module.weight.requires_grad
                and name != "encoder.conv_out.conv"
            ):
                matrices.setdefault(self._copies(name), []).append(module.weight)
        taken = {id(weight) for weights in matrices.values() for weight in weights}
        others = [w for w in self.trained.parameters() if w.requires_grad and id(w) not in taken]
        return muon_and_adamw(matrices, others, rate)

    def _copies(self, name: str) -> int:
        """Outputs of a convolution that a pixel shuffle puts side by side (2 x 2 x 2, or a patch)."""
        if "upsamplers" in name:
            return 8
        return self.trained.config.patch_size**2 if name == "decoder.conv_out.conv" else 1

    @torch.no_grad()
    def preview(self, trained: Any, path: Path) -> dict[str, float]:
        """Originals above their reconstructions; PSNR in dB by the examples' height."""
        rows: list[Tensor] = []
        errors: dict[int, list[float]] = {}
        for clip in self._examples:
            made = trained.decode(trained.encode(clip[None]).latent_dist.mode()).sample[0].clamp(-1, 1)
            rows += [clip, made]
            errors.setdefault(clip.shape[2], []).append(float((made - clip).square().mean()))
        contact_sheet(rows[:12], path)
        return {f"psnr_{size}": psnr(sum(of) / len(of)) for size, of in errors.items()}

    @torch.no_grad()
    def export(self, trained: Any, folder: Path) -> None:
        """Saves the VAE with its latents' means and deviations (measured on the examples)."""
        if not self._decoder_only:
            mean, std = measured_statistics(trained, (clip[None] for clip in self._examples))
            trained.latents_mean.copy_(mean)
            trained.latents_std.copy_(std)
        trained.save_pretrained(folder)

    def _coefficients(self, clips: Tensor) -> Tensor:
        space, time = self.trained.spatial_compression_ratio, self.trained.temporal_compression_ratio
        return block_dct(clips, time, space)


def psnr(square_error: float) -> float:
    """Peak signal to noise ratio in dB of a mean square error of values in -1..1."""
    return float(10 * torch.log10(torch.tensor(4.0 / max(square_error, 1e-12))))


@torch.no_grad()
def measured_statistics(vae: Any, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of the latents of ``batches`` (each [B, 3, F, H, W] in -1..1)."""
    flat = [vae.encode(clips).latent_dist.mode().float().transpose(0, 1).flatten(1) for clips in batches]
    latents = torch.cat(flat, dim=1)
    return latents.mean(1), latents.std(1)


def _fix_variance(vae: Any) -> None:
    """Makes the posterior's variance constant, also for every step of an optimizer."""
    out = vae.encoder.conv_out.conv
    with torch.no_grad():
        out.weight[-1] = 0
        out.bias[-1] = _LOG_VARIANCE
    for weight in (out.weight, out.bias):
        weight.register_hook(_without_last)


def _without_last(gradient: Tensor) -> Tensor:
    changed = gradient.clone()
    changed[-1] = 0
    return changed


def _reconstruction(made: Tensor, clips: Tensor) -> dict[str, Tensor]:
    error = made - clips
    # What moves is small in most frames and all that matters in them.
    moving = (4 * (clips - clips.mean(dim=2, keepdim=True)).abs().amax(dim=1, keepdim=True)).clamp(max=1)
    weight = 1 + 2 * moving
    return {
        "pixels": (weight * (0.5 * error.abs() + error.square())).mean(),
        "space": error.diff(dim=4).abs().mean() + error.diff(dim=3).abs().mean(),
        "time": error.diff(dim=2).abs().mean(),
        "mse": error.square().mean(),
    }
