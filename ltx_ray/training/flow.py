"""Flow matching: the transformer, the audio adapter of a frozen one, or both learn to go from noise to data.

Latents x0 and noise e make x = (1 - sigma) x0 + sigma e, and e - x0 is what is predicted (rectified flow,
Liu et al. 2022, arXiv:2209.03003), with logit-normal sigmas (Esser et al. 2024, arXiv:2403.03206). What is
known of a window is there as it is while sampling: see ``windows``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_cross_attention import without_audio
from ltx_ray.planning.geometry import Ratios
from ltx_ray.sampling.coordinates import Rope
from ltx_ray.training.loop import Batch
from ltx_ray.training.muon import muon_and_adamw
from ltx_ray.training.windows import (
    Layout,
    clean_window,
    counted,
    layout_audio,
    layout_coordinates,
    window_levels,
    worn_tail,
)

_TIMESTEPS = 1000  # LTX transformers are trained on timesteps of 0..1000
# Logit-normal sigmas, shifted to the noisy side, where motion, shape and sound are decided; some are uniform.
_MEAN, _STD, _UNIFORM = 0.8, 1.1, 0.15

Trained = Literal["transformer", "audio-adapter", "both"]
Preview = Callable[[Any, AudioAdapter | None, Path], dict[str, float]]


class FlowObjective(nn.Module):
    """Trains ``transformer``, the ``adapter`` that it carries, or both.

    ``preview(transformer, adapter, path)`` draws what has been learnt. ``audio_dropout``: part of the batches
    in which nothing is heard, so that a transformer that is trained with its adapter also does without: that
    is the pass which ``audio_guidance_scale`` needs. Of an adapter alone nothing is learnt from such a batch.
    """

    transformer: Any
    adapter: AudioAdapter | None

    def __init__(
        self,
        transformer: Any,
        adapter: AudioAdapter | None,
        what: Trained,
        *,
        rope: Rope,
        ratios: Ratios,
        preview: Preview,
        audio_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.transformer, self.adapter = transformer, adapter
        transformer.requires_grad_(what != "audio-adapter")
        if adapter is not None:
            adapter.requires_grad_(what != "transformer")
        self.trained = _Trained(
            transformer if what != "audio-adapter" else None, adapter if what != "transformer" else None
        )
        self.skips = adapter is not None and audio_dropout > 0
        self._rope, self._ratios, self._preview, self._audio_dropout = rope, ratios, preview, audio_dropout

    def forward(self, batch: Batch, step: int, draw: torch.Generator) -> dict[str, Tensor]:
        """``batch`` is one of ``WindowBatches``."""
        layout: Layout = batch["layout"]
        clean = clean_window(batch["latents"], layout)
        # Clips that are alike but for a word share their noise: what errors they have in common teaches
        # nothing about the word then, and what is left is what the word means.
        alike = batch["alike"]
        groups = len(clean) // alike
        noise = torch.randn((groups, *clean.shape[1:]), generator=draw).repeat_interleave(alike, 0).to(clean)
        told, held = window_levels(layout, _sigmas(groups, draw).repeat_interleave(alike).to(clean))
        levels = held[:, None, :, None, None]
        known = worn_tail(clean, layout, draw, alike)
        noisy = (1 - levels) * known + levels * noise
        rows, columns = clean.shape[3:]
        coordinates = layout_coordinates(layout, rows, columns, batch["fps"], self._rope, self._ratios)
        heard = {} if (audio := self._audio(batch, layout, draw)) is None else {"audio": audio}
        velocity = self.transformer(
            hidden_states=_tokens(noisy).to(self.transformer.dtype),
            encoder_hidden_states=batch["embeds"].to(self.transformer.dtype),
            timestep=_TIMESTEPS * told.repeat_interleave(rows * columns, dim=1)[..., None],
            encoder_attention_mask=batch["mask"],
            video_coords=coordinates.to(clean.device).expand(len(clean), -1, -1),
            return_dict=False,
            **heard,
        )[0]
        part = counted(layout)
        cells = slice(part.start * rows * columns, part.stop * rows * columns)
        loss = (velocity.float() - _tokens(noise - clean))[:, cells].square().mean()
        figures = {"loss": loss, ("first" if layout.start == 0 else "later"): loss.detach()}
        if self.adapter is not None:
            figures["gate"] = _openness(self.adapter)
        return figures

    def _audio(self, batch: Batch, layout: Layout, draw: torch.Generator) -> Any:
        if self.adapter is None or batch["sound"] is None:
            return None
        if float(torch.rand(1, generator=draw)) < self._audio_dropout:
            return None
        encoder = self.adapter.encoder
        tokens = encoder(batch["sound"][:, None], batch["sample_rate"])
        made = layout_audio(layout, tokens, encoder.tokens_per_second, batch["fps"], self._ratios)
        return made.to(tokens.device)

    def optimizers(self, rate: float) -> list[torch.optim.Optimizer]:
        """Muon for the matrices within layers, AdamW for the rest."""
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, weight in self.trained.named_parameters():
            inner = ".transformer_blocks." in name or ".blocks." in name or ".conv_" in name
            (matrices if inner and weight.ndim > 1 and "scale_shift" not in name else others).append(weight)
        return muon_and_adamw({1: matrices}, others, rate)

    def preview(self, trained: Any, path: Path) -> dict[str, float]:
        """What the averaged weights make."""
        transformer = trained.transformer or self.transformer
        adapter = trained.adapter or self.adapter
        return self._preview(transformer, adapter, path)

    def export(self, trained: Any, folder: Path) -> None:
        """``folder``/transformer in the diffusers format, and the adapter's one file."""
        if trained.transformer is not None:
            without_audio(trained.transformer).save_pretrained(folder / "transformer")
        if trained.adapter is not None:
            trained.adapter.save_pretrained(folder)


class _Trained(nn.Module):
    """The weights that change, as one module."""

    def __init__(self, transformer: Any, adapter: AudioAdapter | None) -> None:
        super().__init__()
        self.transformer, self.adapter = transformer, adapter


def _openness(adapter: AudioAdapter) -> Tensor:
    """Mean size of the gates: 0 before training. While it stays there, nothing is heard."""
    gates = [value.abs().mean() for name, value in adapter.named_parameters() if name.endswith(".gate")]
    return torch.stack(gates).mean().detach()


def _sigmas(count: int, draw: torch.Generator) -> Tensor:
    drawn = torch.sigmoid(torch.randn(count, generator=draw) * _STD + _MEAN)
    uniform = torch.rand(2, count, generator=draw)
    return torch.where(uniform[0] < _UNIFORM, uniform[1], drawn)


def _tokens(latents: Tensor) -> Tensor:
    """[B, C, T, H, W] as tokens [B, T * H * W, C]."""
    return latents.flatten(2).transpose(1, 2)
